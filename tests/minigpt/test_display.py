"""What is shown of a training without a screen: how far it is by whichever limit, and its epochs at the end."""

import math
from pathlib import Path

import pytest

from minigpt.cli import main
from minigpt.display import ProgressDisplay
from minigpt.epilogue import print_epochs
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
