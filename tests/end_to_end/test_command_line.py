"""What the program says where it can't do what was asked, and where there is no terminal to do it on."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from minigpt.rundir import RunState, list_runs
from tests.end_to_end.terminal import Program

ESC = b"\x1b"


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def refusal(*arguments: str | Path, variables: Mapping[str, str] = MappingProxyType({})) -> str:
    """Start the program with what it must refuse; return what then stands on the normal screen."""
    with Program(*arguments, variables=variables) as program:
        assert program.wait() == 2
        if b"\x1b[?1049h" in program.output:
            program.assert_restored()
        else:
            assert ESC not in program.output
        message = program.after_the_screen
    assert message.count("minigpt-tui: ") == 1
    assert message.startswith("minigpt-tui: ")
    assert "Traceback" not in message
    return message


def test_an_unknown_preset(runs: Path) -> None:
    message = refusal("quickstrat")
    assert "quickstrat" in message
    assert "did you mean quickstart?" in message
    assert not runs.exists()


def test_all_mistakes_at_once(runs: Path, tmp_path: Path) -> None:
    """One after the other they'd take as many starts as there are mistakes."""
    path = tmp_path / "wrong.toml"
    path.write_text("[model]\nn_layers = 3\n", encoding="utf-8")
    message = refusal(path, "--train.batch-size", "0", "--train.learning-rat", "1")
    for part in ("wrong.toml", "n_layers", "n_layer?", "--train.batch-size 0", "--train.learning-rat 1"):
        assert part in message
    assert not runs.exists()


def test_an_option_before_the_target(runs: Path) -> None:
    assert "--train.max-steps" in refusal("--train.max-steps", "5")
    assert not runs.exists()


def test_a_missing_file(runs: Path, tmp_path: Path) -> None:
    assert "absent.toml" in refusal(tmp_path / "absent.toml")
    assert not runs.exists()


def test_malformed_toml(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "malformed.toml"
    path.write_text("[model]\nn_layer = = 3\n", encoding="utf-8")
    message = refusal(path)
    assert "malformed.toml" in message
    assert "line 2" in message
    assert not runs.exists()


def test_a_directory_that_is_no_run(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    message = refusal(folder)
    assert "folder" in message
    assert "no run" in message
    assert not runs.exists()


def test_an_empty_corpus(runs: Path, tmp_path: Path) -> None:
    """It can only be found out after torch is there, when the dashboard already stands."""
    (tmp_path / "empty.txt").touch()
    path = tmp_path / "empty.toml"
    path.write_text('[data]\ncorpus = "empty.txt"\n', encoding="utf-8")
    message = refusal(path)
    assert "empty.txt" in message
    assert "empty" in message.replace("empty.txt", "")
    assert not runs.exists()


def test_a_run_that_cannot_be_written(tiny_toml: Path, tmp_path: Path) -> None:
    """A file where the directory should be: permissions would not stop root, as whom containers run."""
    file = tmp_path / "file"
    file.write_text("mine")
    message = refusal(tiny_toml, variables={"MINIGPT_RUNS_DIR": str(file / "runs")})
    assert str(file) in message
    assert "MINIGPT_RUNS_DIR" in message
    assert file.read_text() == "mine"


# ── no terminal ───────────────────────────────────────────────────────────────────────────────────────────────────


def assert_trained(max_steps: int = 40) -> None:
    (run,) = list_runs()
    assert run.state() is RunState.FINISHED
    assert run.checkpoint("last").step == max_steps


def test_into_a_file_it_trains_without_a_screen(tiny_toml: Path, tmp_path: Path) -> None:
    """Textual wrote its escape sequences into the file, and waited for keys that nobody could see the reason for."""
    with (tmp_path / "log").open("wb") as log, Program(tiny_toml, "--train.max-steps", "20", stdout=log) as program:
        assert program.wait() == 0
        assert program.output == b""
    logged = (tmp_path / "log").read_bytes()
    assert ESC not in logged
    assert b"step=20 " in logged
    assert_trained(20)


def test_from_a_script_it_trains_without_a_screen(tiny_toml: Path) -> None:
    """Without keys there is no screen, although there would be a terminal to draw on."""
    with Program(tiny_toml, stdin=subprocess.DEVNULL) as program:
        assert program.wait() == 0
        assert b"\x1b[?1049h" not in program.output
    assert_trained()


def test_on_a_dumb_terminal_it_trains_without_a_screen(tiny_toml: Path) -> None:
    with Program(tiny_toml, variables={"TERM": "dumb"}) as program:
        assert program.wait() == 0
        assert ESC not in program.output
        assert b"step 40" in program.output
    assert_trained()


@pytest.mark.parametrize(
    "lack",
    [{"stdin": subprocess.DEVNULL}, {"stdout": subprocess.DEVNULL}],
    ids=["stdin", "stdout"],
)
def test_without_a_terminal_and_a_target_it_says_what_to_do(lack: dict[str, Any], runs: Path) -> None:
    """There is nothing to train and nowhere to choose it."""
    with Program(**lack) as program:
        assert program.wait() == 2
        assert ESC not in program.output
        assert "minigpt train quickstart" in program.after_the_screen
        assert program.after_the_screen.count("\n") == 0
    assert not runs.exists()


def test_a_run_cannot_be_shown_in_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Program(folder, stdout=subprocess.DEVNULL) as program:
        assert program.wait() == 2
        assert ESC not in program.output
        assert "needs a terminal" in program.after_the_screen
