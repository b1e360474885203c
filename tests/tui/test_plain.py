"""The program in lines: everything that the screen would say, once, and nothing that could steer a terminal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minigpt.errors import UserError
from minigpt.journal import JournalWriter
from minigpt.rundir import RunDirectory
from tests.recorded import MAX_STEPS, recorded_run
from tui.plain import follow, run_plain
from tui.sentences import event_words


@pytest.fixture
def finished(runs: Path) -> RunDirectory:
    return recorded_run(runs)


@contextmanager
def trained(run: RunDirectory) -> Iterator[None]:
    """Somebody holds the run's lock, as its trainer does."""
    with run.locked():
        yield


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\r" not in printed, "lines, that can be read aloud"
    return printed.splitlines()


def test_without_a_target_it_says_what_there_is(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_plain(None, []) == 0
    lines = lines_of(capsys)
    assert any(finished.name in line and "finished" in line and "best val loss" in line for line in lines)
    assert any(line.strip().startswith("quickstart:") for line in lines)
    assert any(line.endswith("minigpt-tui --plain RUN") for line in lines)


def test_read_only_offers_nothing_that_writes(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_plain(None, [], read_only=True) == 0
    printed = "\n".join(lines_of(capsys))
    assert "--resume" not in printed and "quickstart" not in printed.replace(finished.name, "")


def test_a_finished_run_is_described(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_plain(finished.name, []) == 0
    lines = lines_of(capsys)
    assert lines[0].startswith(f"{finished.name}: finished")
    assert any(f"step {MAX_STEPS:,} of {MAX_STEPS:,}, 100%" in line for line in lines)
    assert any(line.startswith("last evaluation: step 2,000") and "val loss" in line for line in lines)
    assert any(line.startswith("sample at step 2,000: MARLOW: / The tide") for line in lines)
    assert lines[-1].startswith("let it write: minigpt generate")


def test_a_live_run_is_followed_to_its_end(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each thing that happens: what has been printed before must not come again."""
    run = recorded_run(runs, ended="", steps=1500)
    lock = run.locked()
    lock.__enter__()
    steps = iter(range(1510, 1760, 10))
    journals = {name: JournalWriter(path) for name, path in (("metrics", run.metrics_file), ("events", run.events_file), ("samples", run.samples_file))}  # fmt: skip
    looks = 0

    def happen(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            for step in steps:
                row = {"step": step, "attempt": 2, "train_loss": 1.5, "elapsed": step / 10}
                evaluated = {"val_loss": 1.75, "train_eval_loss": 1.5, "val_perplexity": 5.75} if step == 1750 else {}
                journals["metrics"].append({**row, **evaluated})
            journals["samples"].append({"step": 1750, "attempt": 2, "text": "One\n\x1b[2J two"})
            journals["events"].append(
                {"event": "notice", "kind": "spike", "step": 1700, "attempt": 2, "message": "a loss spike"}
            )
        elif looks == 3:
            journals["events"].append({"event": "stopped", "step": 1750, "attempt": 2})
            lock.__exit__(None, None, None)

    assert follow(run, wait=happen) == 0
    lines = lines_of(capsys)
    after = lines[lines.index("Follows it; Ctrl+C leaves, the training goes on.") + 1 :]
    assert after[:3] == [
        "note at step 1,700: a loss spike",
        "step 1,750 of 2,000: val loss 1.7500, train loss 1.5000, perplexity 5.75",
        "sample at step 1,750: One / ␛[2J two",
    ]
    assert after[3].startswith("stopped at step 1,750")
    assert "minigpt train --resume" in after[4]


def test_a_training_is_told_in_sentences(tiny_toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row was read aloud with all its names and values, `val_accuracy=None` among them; samples had no text."""
    options = ["--train.max-steps", "8", "--train.eval-interval", "4", "--sample.interval", "4"]
    assert run_plain(str(tiny_toml), options) == 0
    lines = lines_of(capsys)
    assert not [line for line in lines if "=" in line or "None" in line or line.startswith("#")]
    assert [line.partition(":")[0] for line in lines if ": val loss " in line][-1] == "step 8 of 8"
    samples = [line.partition(": ") for line in lines if line.startswith("sample at step ")]
    assert [head for head, _, _ in samples][-1] == "sample at step 8" and all(text for _, _, text in samples)
    assert "training begins at step 0" in lines and any("parameters" in line for line in lines)
    assert any(line.startswith("finished: ") for line in lines)


def test_what_happened_is_told_as_in_the_terminal() -> None:
    """`minigpt train` said that the attempt before had crashed; here it was left out."""
    for event in ("notice", "recovered", "crashed", "went_on"):
        assert event_words({"event": event, "step": 7, "message": "so\x1b it is"}) == "note at step 7: so␛ it is"


def test_ctrl_c_leaves_and_says_how_to_come_back(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded_run(runs, ended="", steps=500)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with trained(run):
        assert follow(run, wait=interrupt) == 0
    assert any("the training goes on in another process" in line for line in lines_of(capsys))


def test_a_crash_is_told_with_its_reason(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded_run(runs, ended="failed", steps=500)
    assert follow(run) == 0
    assert "crashed at step 500: the disk is full" in lines_of(capsys)


def test_files_of_rubbish_are_no_crash(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded_run(runs)
    for path in (run.metrics_file, run.events_file, run.samples_file, run.config_file):
        path.write_bytes(b'{"step": []}\n{"event": 3, "step": "x"}\n\xff\xfe\n{"text": 1}\n' + os.urandom(200) + b"\n")
    assert follow(run) == 0
    lines_of(capsys)


def test_what_is_no_run_and_no_preset_is_refused(runs: Path) -> None:
    with pytest.raises(UserError, match="did you mean quickstart"):
        run_plain("quickstrat", [])
