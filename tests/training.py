"""A training of seconds, for the tests of the trainer."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minigpt.config import Config
from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory
from minigpt.session import TrainingSession

if TYPE_CHECKING:
    from minigpt.trainer import Trainer

# What may differ between two runs of the same configuration: clocks and memory.
EXEMPT = {"elapsed", "tokens_per_second", "memory_rss", "attempt", "resumed_from"}


def write_corpus(path: Path, characters: int = 3000) -> Path:
    """A small text with something to learn in it: words of a few kinds, in lines."""
    words = random.Random(7)
    text = ""
    while len(text) < characters:
        text += " ".join(words.choice(["salt", "tide", "bell", "road", "lamp"]) for _ in range(5)) + ".\n"
    path.write_text(text[:characters], encoding="utf-8")
    return path


def tiny_config(corpus: Path, run_dir: Path, **changes: dict[str, Any]) -> Config:
    """A model of a few thousand parameters with dropout; `changes` are laid over it section by section."""
    values: dict[str, dict[str, Any]] = {
        "run": {"dir": str(run_dir)},
        "data": {"corpus": str(corpus)},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "dropout": 0.2},
        "train": {
            "batch_size": 4,
            "max_steps": 40,
            "learning_rate": 1e-2,
            "warmup_steps": 5,
            "log_interval": 4,
            "eval_interval": 15,
            "checkpoint_interval": 10,
            "train_eval_tokens": 256,
        },
        "sample": {"interval": 20, "max_new_tokens": 20, "prompt": "salt"},
        "device": {"type": "cpu", "threads": 1},
    }
    for section, entries in changes.items():
        values[section] = {**values.get(section, {}), **entries}
    return Config.model_validate(values)


def train(config: Config) -> RunDirectory:
    """Train a new run to its end."""
    return finish(TrainingSession(config=config, preset="test"))


def resume(run: RunDirectory) -> RunDirectory:
    """Go on with a run to its end."""
    return finish(TrainingSession(resume=run))


def finish(session: TrainingSession) -> RunDirectory:
    """Run a session here, and raise what ended it badly."""
    session.start()
    session.join()
    if session.error:
        raise session.error
    assert session.run_directory is not None
    return session.run_directory


def in_evaluation(monkeypatch: pytest.MonkeyPatch, step: int, act: "Callable[[Trainer], object]") -> None:
    """Let something happen once, in the middle of the evaluation at a step."""
    from minigpt.trainer import Trainer

    look_up, done = Trainer._look_up, []

    def acting(self: Trainer, share: float) -> None:
        if self.counters.step == step and not done:
            done.append(step)
            act(self)
        look_up(self, share)

    monkeypatch.setattr(Trainer, "_look_up", acting)


def rows_by_step(run: RunDirectory) -> dict[int, Row]:
    """The last attempt's row for each step, without what may differ between two runs."""
    rows: dict[int, Row] = {}
    for row in read_journal(run.metrics_file):
        if "resumed_from" in row:
            rows = {step: kept for step, kept in rows.items() if step <= row["resumed_from"]}
        rows[row["step"]] = {name: value for name, value in row.items() if name not in EXEMPT}
    return rows


def samples_by_step(run: RunDirectory) -> dict[int, str]:
    """The last text written at each step."""
    return {row["step"]: row["text"] for row in read_journal(run.samples_file)}


def assert_same_run(one: RunDirectory, other: RunDirectory) -> None:
    """Same metrics, samples, weights and training state, bit for bit."""
    assert rows_by_step(one) == rows_by_step(other)
    assert samples_by_step(one) == samples_by_step(other)
    ours, theirs = one.checkpoint("last"), other.checkpoint("last")
    assert ours.step == theirs.step
    for name in ("model.safetensors", "training.safetensors"):
        assert (ours.path / name).read_bytes() == (theirs.path / name).read_bytes(), name
