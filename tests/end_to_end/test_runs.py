"""The runs in a terminal: found, put in order, compared, renamed and deleted, on the screen and on the disk alike."""

import re
import tomllib
from pathlib import Path

import pytest

from minigpt.files import write_atomically
from minigpt.run_files import rename_run
from tests.end_to_end.terminal import ESCAPE, Program
from tests.recorded import recorded_run

CONFIG = '[run]\nname = "{}"\n\n[model]\nn_layer = {}\n\n[train]\nmax_steps = 2000\n'
F2, BACKSPACE = f"{ESCAPE}OQ", "\x7f"


@pytest.fixture
def three(runs: Path) -> Path:
    """Runs that have come to 600, 1,500 and 2,000 steps."""
    for name, steps, ended, layers in (
        ("terns", 600, "", 4),
        ("gulls", 1500, "stopped", 2),
        ("herons", 2000, "finished", 2),
    ):
        run = rename_run(recorded_run(runs, steps=steps, ended=ended), name)
        write_atomically(run.config_file, CONFIG.format(name, layers))
    return runs


def listed(program: Program) -> list[str]:
    """The names in the table of runs, from the top, marked ones with their stars."""
    lines = program.lines
    head = next((number for number, line in enumerate(lines) if re.match(r"  run\b.*\bcurve\b", line)), len(lines))
    rows = [re.match(r"  (\* \S+|\S+) .*[✗■✓]", line) for line in lines[head + 1 :]]
    return [found[1] for found in rows if found]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_from_many_runs_to_the_best(three: Path) -> None:
    """Filter, order and marks decide what is compared; each run stands there with its own curve and settings."""
    with Program(columns=80, rows=24) as program:
        program.wait_until(lambda: sorted(listed(program)) == ["gulls", "herons", "terns"])
        program.wait_until("/ filter")
        program.press("/")
        program.wait_until("words of name")
        program.press("stopp")
        program.wait_until(lambda: listed(program) == ["gulls"] and "run (1 of 3)" in program.text)
        program.press("ed crash")
        program.wait_until("No run has all of these words")
        program.press(ESCAPE)
        program.wait_until(lambda: len(listed(program)) == 3)

        program.press("s")
        program.wait_until(lambda: "run ▲" in program.text and listed(program) == ["gulls", "herons", "terns"])
        program.press("S")
        program.wait_until(lambda: "run ▼" in program.text and listed(program) == ["terns", "herons", "gulls"])
        program.press("ss")
        program.wait_until(lambda: "step ▼" in program.text and listed(program) == ["herons", "gulls", "terns"])

        # Marks stay with their runs when the order changes.
        program.press("G")
        program.press(" ")
        program.wait_until(lambda: listed(program) == ["herons", "gulls", "* terns"])
        program.press("S")
        program.wait_until(lambda: listed(program) == ["* terns", "gulls", "herons"])
        program.press("G ")
        program.wait_until(lambda: listed(program) == ["* terns", "gulls", "* herons"])
        program.press("v")
        program.wait_until("2 runs compared")
        program.wait_until(lambda: re.search(r"[12] ● \w+  [12] ■ \w+", program.text))
        program.wait_until(lambda: "1.6131" in program.text and "1.4614" in program.text)  # their newest losses
        program.press("2")
        program.wait_until(lambda: re.search(r"model\.n_layer +(2 +4|4 +2)\b", program.text))
        assert "max_steps" not in program.text, "which is the same in both"
        program.press("3")
        program.wait_until(lambda: re.search(r"herons +1\.2828 +1,250 .*\n.*terns +1\.6131 +500 ", program.text))
        program.resize(120, 36)
        program.wait_until(lambda: "─ loss" in program.text and "─ leaderboard" in program.text)
        program.wait_until(lambda: "gulls" not in program.text)
        program.press("\r")  # the best one, from the leaderboard
        program.wait_until("step 2,000/2,000")
        assert "herons" in program.lines[0]
        program.press(ESCAPE)
        program.wait_until("2 runs compared")
        program.press(ESCAPE)
        program.wait_until("what it is for")
        program.press("q")
        assert program.wait() == 0
        program.assert_restored()


def test_another_name_and_an_end(three: Path) -> None:
    """Both change the disk: not before they are confirmed, nothing but what was chosen, and without leftovers."""
    with Program() as program:
        program.wait_until(lambda: len(listed(program)) == 3)
        program.wait_until("/ filter")
        program.press("/")
        program.wait_until("words of name")
        program.press(ESCAPE)
        program.wait_until("space mark")
        program.press("s")
        program.wait_until(lambda: listed(program) == ["gulls", "herons", "terns"])
        program.press("G")
        program.press(" ")
        program.wait_until(lambda: listed(program) == ["gulls", "herons", "* terns"])

        program.press(F2)
        program.wait_until("─ another name for terns ─")
        program.press(BACKSPACE * 5 + "gulls")
        program.wait_until("✗ gulls: there is something of that name already")
        program.press("\r")
        program.press("/..")
        program.wait_until("✗ gulls/..: is no name for a run")
        program.press("\r")
        program.press(BACKSPACE * 8 + "arctic-terns")
        program.wait_until(lambda: "arctic-terns" in program.text and "✗ gulls" not in program.text)
        assert names_in(three) == ["gulls", "herons", "terns"]
        program.press("\r")
        program.wait_until(lambda: listed(program) == ["* arctic-terns", "gulls", "herons"])
        assert names_in(three) == ["arctic-terns", "gulls", "herons"]
        config = tomllib.loads((three / "arctic-terns" / "config.toml").read_text())
        assert config == {"run": {"name": "arctic-terns"}, "model": {"n_layer": 4}, "train": {"max_steps": 2000}}

        # The cursor has gone along with the run: it is the one that is deleted, the second time it is asked.
        program.press("D")
        program.wait_until("─ Delete this run? ─")
        program.wait_until("arctic-terns: trained for 600 steps, 2 checkpoints")
        program.press(ESCAPE)
        program.wait_until(lambda: "Delete this run?" not in program.text)
        assert (three / "arctic-terns" / "metrics.jsonl").is_file()
        program.press("D")
        program.wait_until("─ Delete this run? ─")
        program.press("\r")  # too early: that is the harmless answer
        program.wait_until(lambda: "Delete this run?" not in program.text)
        assert (three / "arctic-terns" / "metrics.jsonl").is_file()
        program.press("D")
        program.wait_until("─ Delete this run? ─")
        program.answer("d")
        program.wait_until("arctic-terns is deleted.")
        program.wait_until(lambda: listed(program) == ["gulls", "herons"])
        assert names_in(three) == ["gulls", "herons"]
        program.press("q")
        assert program.wait() == 0
