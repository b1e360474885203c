"""How long a training goes on: by steps, epochs, the clock, or until nothing gets better; and its table of epochs."""

import csv
import json
import math
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from minigpt.config import Config
from minigpt.counters import Counters
from minigpt.errors import UserError
from minigpt.journal import JournalWriter, Row, read_journal
from minigpt.metrics import Metrics, epoch_table
from minigpt.rundir import RunDirectory
from tests.training import resume, tiny_config, train, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.txt")


def config(corpus: Path, run: Path, **train_section: Any) -> Config:
    """Four sequences of 16 tokens a step: 42.2 steps an epoch in random windows, 42 or 43 in whole sequences."""
    return tiny_config(corpus, run, train=train_section, device={"threads": 1})


def events(run: RunDirectory, name: str) -> list[Row]:
    return [row for row in read_journal(run.events_file) if row["event"] == name]


# ── which end comes first ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"max_steps": 0, "max_epochs": 1.5}, 64),  # 1.5 × 2700 / 64, rounded up
        ({"max_steps": 50, "max_epochs": 1.5}, 50),
        ({"max_steps": 100, "max_epochs": 1.5}, 64),
        ({"max_steps": 0, "max_epochs": 0.001}, 1),
    ],
)
def test_epochs_are_turned_into_steps_and_written_down(
    tmp_path: Path, corpus: Path, limits: dict[str, float], steps: int
) -> None:
    run = train(config(corpus, tmp_path / "run", **limits))
    assert run.checkpoint("last").step == steps == run.config().train.max_steps
    assert events(run, "finished")[0]["reason"] == "steps"
    assert events(run, "started")[0]["max_steps"] == steps


def test_whole_epochs_of_sequences_end_at_whole_numbers(tmp_path: Path, corpus: Path) -> None:
    """2,700 tokens are 168 sequences of 16: 42 steps an epoch, and the epoch is told without a fraction."""
    settings = config(corpus, tmp_path / "run", max_steps=0, max_epochs=2, eval_interval=0)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"batches": "epochs"})})
    run = train(settings)
    evaluated = {row["step"]: row["epoch"] for row in read_journal(run.metrics_file) if "val_loss" in row}
    assert evaluated == {0: 0.0, 42: 1.0, 84: 2.0}


def test_the_clock_ends_a_run_and_brings_the_learning_rate_down(tmp_path: Path, corpus: Path) -> None:
    settings = config(
        corpus, tmp_path / "run", max_steps=0, max_minutes=0.02, warmup_steps=0, min_lr=0, lr_schedule="linear"
    )
    began = time.monotonic()
    run = train(settings)
    assert time.monotonic() - began > 1.0
    rows = [row for row in read_journal(run.metrics_file) if "learning_rate" in row]
    assert rows[0]["learning_rate"] > 0.8e-2 > 0.2e-2 > rows[-1]["learning_rate"]
    assert events(run, "finished")[0]["reason"] == "time"
    assert "val_loss" in rows[-1] and run.checkpoint("last").step == rows[-1]["step"]
    assert read_journal(run.samples_file)[-1]["step"] == rows[-1]["step"]
    with pytest.raises(UserError, match=r"finished already, after 0\.0 of 0\.02 minutes"):
        resume(run)


def test_patience_ends_a_run_that_gets_no_better_and_keeps_the_best(tmp_path: Path, corpus: Path) -> None:
    settings = config(
        corpus, tmp_path / "run", max_steps=400, patience=2, learning_rate=3.0, min_lr=3.0, eval_interval=5
    )
    run = train(settings)
    losses = {row["step"]: row["val_loss"] for row in read_journal(run.metrics_file) if "val_loss" in row}
    best = min(losses, key=losses.__getitem__)
    assert run.checkpoint("best").step == best
    assert run.checkpoint("last").step == max(losses) == best + 10 < 400
    assert events(run, "finished")[0]["reason"] == "patience"
    with pytest.raises(UserError, match="without a better validation loss"):
        resume(run)


# ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_says_once_when_only_the_training_loss_still_falls(tmp_path: Path) -> None:
    """A text of random letters has nothing to generalise: the model can only learn it by heart."""
    generator = torch.Generator().manual_seed(0)
    letters = "".join(chr(97 + int(index)) for index in torch.randint(0, 26, (400,), generator=generator))
    (tmp_path / "noise.txt").write_text(letters)
    settings = tiny_config(
        tmp_path / "noise.txt",
        tmp_path / "run",
        model={"dropout": 0.0, "n_embd": 32},
        train={"max_steps": 120, "eval_interval": 10, "batch_size": 16, "warmup_steps": 0, "keep_checkpoints": 100},
        data={"val_fraction": 0.2},
        device={"threads": 1},
    )
    run = train(settings)
    told = [row for row in events(run, "notice") if row["kind"] == "overfitting"]
    assert len(told) == 1
    # Nor does a run that is gone on with say it again.
    for checkpoint in run.checkpoints():
        if checkpoint.step >= 110:
            shutil.rmtree(checkpoint.path)
    resume(run)
    assert [row for row in events(run, "notice") if row["kind"] == "overfitting"] == told
    assert told[0]["since"] == run.checkpoint("best").step
    assert f"lowest at step {told[0]['since']:,}" in told[0]["message"]


def test_all_that_is_counted_goes_on_after_a_resumption() -> None:
    """One that was forgotten, the training loss of the best step, let overfitting be told again."""
    counters = Counters(
        step=40,
        elapsed=1.5,
        best_step=20,
        best_val_loss=1.25,
        best_train_loss=1.0,
        evaluations_since_best=2,
        told_overfitting=10,
        steps_since_row=3,
        nonfinite_steps=2,
        nonfinite_in_a_row=1,
        after_step_is_due=False,
        recoveries=1,
        learning_rate_scale=0.5,
        learning_rate=0.125,
        last_losses={"val_loss": 1.5, "train_eval_loss": 0.75},
    )
    assert all(getattr(counters, each.name) != getattr(Counters(), each.name) for each in fields(Counters))
    assert Counters.from_json(40, json.loads(json.dumps(counters.to_json()))) == counters


def test_a_run_that_learns_is_not_called_overfitting(tmp_path: Path, corpus: Path) -> None:
    run = train(config(corpus, tmp_path / "run", max_steps=60, eval_interval=10))
    assert events(run, "notice") == []


# ── the table of epochs ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_the_last_evaluation_of_each_epoch(tmp_path: Path, corpus: Path) -> None:
    run = train(config(corpus, tmp_path / "run", max_steps=0, max_epochs=2.2, eval_interval=20))
    rows = {row["step"]: row for row in read_journal(run.metrics_file) if "val_loss" in row}
    assert list(rows) == [0, 20, 40, 60, 80, 93]
    table = epoch_table(Metrics(run.metrics_file).read_all())
    assert [(row.epoch, row.step) for row in table] == [(1, 40), (2, 80), (3, 93)]
    for row in table:
        assert (row.train_loss, row.val_loss) == (rows[row.step]["train_eval_loss"], rows[row.step]["val_loss"])
        assert row.train_perplexity == pytest.approx(math.exp(row.train_loss))
        assert row.val_perplexity == pytest.approx(math.exp(row.val_loss))
    with run.epochs_file.open() as file:
        written = list(csv.DictReader(file))
    assert [(int(row["epoch"]), int(row["step"])) for row in written] == [(1, 40), (2, 80), (3, 93)]
    assert [float(row["val_loss"]) for row in written] == pytest.approx([row.val_loss for row in table], rel=1e-5)


def test_an_evaluation_a_rounding_error_behind_the_end_of_an_epoch_belongs_to_it(tmp_path: Path) -> None:
    """3 × (1 / 3) may come out above 1, and the epoch's own evaluation would open the next one."""
    writer = JournalWriter(tmp_path / "metrics.jsonl")
    for step, epoch in ((0, 0.0), (10, 1.0000000000000002), (20, 2.0), (25, 2.5)):
        writer.append({"step": step, "attempt": 1, "epoch": epoch, "train_eval_loss": 1.0, "val_loss": 2.0})
    writer.append({"step": 30, "attempt": 1, "epoch": float("nan"), "val_loss": 2.0})
    writer.close()
    table = epoch_table(Metrics(tmp_path / "metrics.jsonl").read_all())
    assert [(row.epoch, row.step) for row in table] == [(1, 10), (2, 20), (3, 25)]


# ── averaged weights ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_average_is_what_is_exported_and_the_weights_under_training_are_kept_beside(
    tmp_path: Path, corpus: Path
) -> None:
    """Guards against a resumption that goes on from the average, and against samples from the raw weights."""
    plain = train(config(corpus, tmp_path / "plain", max_steps=10, checkpoint_interval=1, keep_checkpoints=100))
    averaged = train(config(corpus, tmp_path / "averaged", max_steps=10, ema_decay=0.5))
    raw = [load_file(kept.path / "model.safetensors")["transformer.wte.weight"] for kept in plain.checkpoints()]
    under_training = load_file(averaged.checkpoint("last").path / "training.safetensors")["weights.wte.weight"]
    assert torch.equal(under_training, raw[-1])
    expected = raw[0]
    for updates, weights in enumerate(raw[1:], start=1):
        decay = min(0.5, (1 + updates) / (10 + updates))
        expected = torch.lerp(expected, weights, 1 - decay)
    exported = load_file(averaged.checkpoint("last").path / "model.safetensors")["transformer.wte.weight"]
    torch.testing.assert_close(exported, expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(exported, under_training)
