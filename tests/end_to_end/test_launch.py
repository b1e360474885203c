"""A training put together in the form, in a terminal: what is set there is what the run is trained with."""

import tomllib
from pathlib import Path

from minigpt.rundir import RunState, list_runs
from tests.end_to_end.terminal import ESCAPE, Program
from tests.training import write_corpus

F5 = f"{ESCAPE}[15~"


def test_from_the_form_to_a_trained_run(tmp_path: Path) -> None:
    """A setting, refused while it is wrong, and a text of one's own: neither may get lost on the way to the run."""
    (tmp_path / "texts").mkdir()
    text = write_corpus(tmp_path / "texts" / "sea-shanties.txt")
    write_corpus(tmp_path / "texts" / "another.txt", 2000)
    with Program(columns=80, rows=24, variables={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}) as program:
        program.wait_until("n choose settings")
        program.press("n")
        program.wait_until("$ minigpt-tui quickstart")

        # What is wrong is said while it is typed, and leads back to its field instead of starting.
        program.press("max_steps")
        program.wait_until("search: max_steps (1)")
        program.press("-5")
        program.wait_until("✗ train.max_steps: must be at least 0")
        program.wait_until("--train.max-steps=-5")
        program.press(F5)
        program.wait_until(lambda: "type to search" in program.text and "✗  max_steps" in program.text)
        assert "F5 start" in program.text and list_runs() == []
        program.resize(120, 36)
        program.wait_until(lambda: program.text.count("✗ train.max_steps: must be at least 0") == 1)
        program.wait_until("│ ✗ must be at least 0")
        program.press("6\r")
        program.wait_until(lambda: "--train.max-steps 6" in program.text and "✗" not in program.text)

        # The text: seen before it is taken, with what is in it.
        program.press("corpus")
        program.wait_until("search: corpus")
        program.press("\r")
        program.wait_until("─ the text to learn from ─")
        program.press("own")
        program.wait_until("─ search: own ─")
        program.press("\r")
        program.wait_until("a text of your own  ")
        program.press(f"{ESCAPE}[200~{text.parent}{ESCAPE}[201~")
        program.wait_until("sea-shanties.txt")
        program.wait_until("2,000 characters, 15 distinct")  # of the first one, on which the cursor stands
        program.press("shan")
        program.wait_until("search: shan")
        program.wait_until("3,000 characters, 15 distinct")
        program.wait_until(text.read_text().splitlines()[0])
        program.press("\r")
        program.wait_until("--data.corpus")
        program.wait_until("2,700 tokens")
        program.wait_until("6 steps")
        program.resize(80, 24)
        program.wait_until(lambda: "--data.corpus" in program.text and "│" not in program.text)
        program.press(F5)

        program.wait_until("✓ finished")
        program.wait_until("step 6/6")
        (run,) = list_runs()
        config = tomllib.loads(run.config_file.read_text())
        assert config["train"]["max_steps"] == 6
        assert config["data"]["corpus"] == str(text)
        assert config["model"]["n_layer"] == 4, "as the preset has it"
        program.press("q")
        assert program.wait() == 0
        program.assert_restored()
    assert run.state() is RunState.FINISHED
