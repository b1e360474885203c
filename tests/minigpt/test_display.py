"""What is shown of a training without a screen: how far it is by whichever limit, and its epochs at the end."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minigpt.cli import main
from minigpt.display import Display, PlainDisplay, ProgressDisplay, changed_settings
from minigpt.epilogue import print_epochs
from minigpt.headless import _Follower, _place_in_log
from minigpt.journal import JournalWriter
from minigpt.rundir import RunDirectory

STARTED = {"event": "started", "step": 0, "corpus": "the-play", "corpus_characters": 100, "vocab_size": 60}


def shown(capsys: pytest.CaptureFixture[str], limits: dict[str, float], row: dict[str, float]) -> tuple[str, float]:
    """The text of the progress bar after a row, and how full it is."""
    display = ProgressDisplay()
    try:
        display.event({**STARTED, **limits})
        display.row({"step": 0, **row})
        task = display._progress.tasks[0]
        return task.fields["reached"], task.completed / (task.total or math.nan)
    finally:
        display.close()
        capsys.readouterr()


@pytest.mark.parametrize(
    ("limits", "words", "share"),
    [
        ({"max_steps": 400, "max_minutes": 0}, "100/400", 0.25),
        ({"max_steps": 0, "max_minutes": 480}, "step 100 · 240/480 min", 0.5),
        ({"max_steps": 125, "max_minutes": 480}, "100/125 · 240/480 min", 0.8),
        ({"max_steps": 400}, "100/400", 0.25),  # as runs of earlier versions were described
        ({"max_steps": None, "max_minutes": "soon"}, "step 100", 0.0),
    ],
)
def test_the_bar_follows_the_limit_that_is_nearer(
    capsys: pytest.CaptureFixture[str], limits: dict[str, float], words: str, share: float
) -> None:
    assert shown(capsys, limits, {"step": 100, "elapsed": 240 * 60.0}) == (words, pytest.approx(share))


def test_an_evaluation_fits_into_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay()
    display.row(
        {
            "step": 250_000,
            "val_loss": 10.8234,
            "train_eval_loss": 10.1234,
            "val_perplexity": 50_257.123,
            "val_accuracy": 0.649,
        }
    )
    display.close()
    line = next(line for line in capsys.readouterr().out.splitlines() if "val loss" in line)
    assert len(line) <= 80 and line.endswith("accuracy 64.9%")


def recorded(path: Path, epochs: int) -> RunDirectory:
    run = RunDirectory(path)
    path.mkdir()
    writer = JournalWriter(run.metrics_file)
    for epoch in range(epochs + 1):
        losses = {"train_eval_loss": 2.0 - epoch / 1000, "val_loss": 2.5 - epoch / 1000}
        writer.append({"step": 10 * epoch, "attempt": 1, "epoch": float(epoch), **losses})
    writer.close()
    return run


def test_the_table_of_epochs_has_what_the_references_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_epochs(recorded(tmp_path / "run", 2))
    head, *lines = capsys.readouterr().out.strip().splitlines()
    assert head.split() == ["epoch", *("train", "loss", "val", "loss"), *("train", "perplexity", "val", "perplexity")]
    assert [line.split() for line in lines] == [
        ["1", "1.9990", "2.4990", f"{math.exp(1.999):.3f}", f"{math.exp(2.499):.3f}"],
        ["2", "1.9980", "2.4980", f"{math.exp(1.998):.3f}", f"{math.exp(2.498):.3f}"],
    ]


def test_of_many_epochs_some_are_shown_with_the_first_and_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path / "run", 163)
    print_epochs(run)
    _, *lines, note = capsys.readouterr().out.strip().splitlines()
    assert (len(lines), lines[0].split()[0], lines[-1].split()[0]) == (20, "1", "163")
    assert note == f"20 of 163 epochs; all are in {run.epochs_file}"


def test_a_run_without_an_epoch_prints_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_epochs(recorded(tmp_path / "run", 0))
    assert capsys.readouterr().out == ""


def test_a_run_that_ended_early_says_why(tiny_toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--train.patience", "1", "--train.learning-rate", "5", "--train.min-lr", "5", "--train.max-steps", "400"]
    assert main(["train", str(tiny_toml), *options]) == 0
    assert "finished early, since the validation loss got no better: " in capsys.readouterr().out
    assert main(["train", str(tiny_toml), "--train.max-minutes", "0.001", "--train.max-steps", "0"]) == 0
    assert "finished, its time is over: " in capsys.readouterr().out


def printed(display: Display, capsys: pytest.CaptureFixture[str], *rows: dict[str, Any]) -> list[str]:
    """What a display has printed of these events and rows by its end."""
    for row in rows:
        (display.event if "event" in row else display.row)(row)
    display.close()
    return capsys.readouterr().out.splitlines()


TOLD = [
    {**STARTED, "resumed_from": 20, "changed": {"train.max_steps": [20, 40], "sample.prompt": ["a", "\x1b[31m"]}},
    {"event": "notice", "kind": "spike", "step": 22, "message": "the training loss leapt to 9.0"},
    {"step": 24, "train_loss": None, "nonfinite_steps": 4},
    {"event": "recovered", "step": 20, "resumed_from": 20, "message": "no finite number at step 24: back to step 20"},
    {"event": "handing_over", "step": 30},
]


@pytest.mark.parametrize("make", [PlainDisplay, ProgressDisplay])
def test_what_goes_otherwise_is_printed(make: type[Display], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a night without a screen: changed settings, spikes, recoveries, and what cannot be written."""
    display = make()
    display.trouble("run cannot be written: \x1b No space left on device")
    display.trouble("")
    lines = printed(display, capsys, *TOLD)
    text = "\n".join(lines)
    for words in ("leapt to 9.0", "back to step 20", "No space left on device", "all of the run can be written again"):
        assert words in text
    assert "\x1b[31m" not in text
    if make is ProgressDisplay:
        assert any(line.startswith('changed: train.max_steps 20 → 40, sample.prompt "a" → ') for line in lines)


@pytest.mark.parametrize("changed", [None, 3, [], {}, {"x": 1}, {"x": [1]}, {"x": [[], {}]}, "train"])
def test_changed_settings_of_any_shape(changed: object) -> None:
    assert changed_settings({"changed": changed}) in {"", "x [] → {}"}


def test_what_is_told_keeps_its_order_when_the_training_goes_back() -> None:
    """Sorted by step alone, the rows after a recovery came before those that had led to it."""
    rows: list[dict[str, Any]] = [
        {"event": "started", "step": 0, "attempt": 1},
        {"step": 10, "attempt": 1},
        {"event": "notice", "step": 10, "attempt": 1},
        {"step": 20, "attempt": 1},
        {"event": "recovered", "step": 10, "attempt": 2},
        {"step": 15, "attempt": 2},
    ]
    mixed = [*rows[3:], *rows[:3]]
    assert sorted(mixed, key=_place_in_log) == rows


def test_trouble_is_said_once_per_change(capsys: pytest.CaptureFixture[str]) -> None:
    session: Any = SimpleNamespace(phase="training", run_directory=None, stop_requested=False, trouble="")
    follower, display = _Follower(session), PlainDisplay()
    for trouble in ("", "disk full", "disk full", "disk full, 3 rows wait", "", ""):
        session.trouble = trouble
        follower.show(display)
    assert capsys.readouterr().out.splitlines() == [
        "# disk full",
        "# disk full, 3 rows wait",
        "# all of the run can be written again",
    ]
