"""Back to the newest checkpoint that is good: a damaged one is put aside, one that only cannot be read now never is."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from minigpt import checkpoint as checkpoints
from minigpt import tensors
from minigpt.checkpoint import Snapshot, write_checkpoint
from minigpt.counters import Counters
from minigpt.device import choose_device
from minigpt.errors import UnreadableError, UserError
from minigpt.learner import Learner
from minigpt.restoring import restore_newest
from minigpt.rundir import RunDirectory
from minigpt.saving import write_best
from minigpt.tokenizer import CharTokenizer
from tests.training import tiny_config

TOKENIZER = CharTokenizer(list("abc\n"))
CORPUS = "0" * 64


@dataclass
class Kept:
    """A run with checkpoints of the steps 0, 10 and 20, of which 10 was the best, and who goes on with it."""

    run: RunDirectory
    learner: Learner
    notices: list[str] = field(default_factory=list)

    def restore(self) -> Counters | None:
        data: Any = SimpleNamespace(corpus_sha256=CORPUS, corpus="corpus.txt")
        return restore_newest(self.run, self.learner, data, self.notices.append)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.run.checkpoints_dir.iterdir() if path.is_dir())


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    config = tiny_config(tmp_path / "corpus.txt", tmp_path / "run")
    run = RunDirectory.create(config, "test", TOKENIZER)
    learner = Learner(config, TOKENIZER.vocab_size, choose_device(config.device), lambda kind, message: None)
    for step in (0, 10, 20):
        if step:  # what an optimizer keeps is there from the first update on
            learner.update(torch.zeros(4, 16, dtype=torch.long), torch.zeros(4, 16, dtype=torch.long), 1e-3)
        info = Counters(step, best_step=10 if step else -1, best_val_loss=1.5).to_json()
        info |= {**learner.numbers(), "corpus_sha256": CORPUS}
        write_checkpoint(run, Snapshot.take(step, learner.speaker, learner.tensors(), info))
    write_best(run, 10, 1.5)
    return Kept(run, learner)


ALL = ["step-00000000", "step-00000010", "step-00000020"]
LAST_ASIDE = ["damaged-step-00000020", "step-00000000", "step-00000010"]


def step_of(counters: Counters | None) -> int:
    assert counters is not None
    return counters.step


def refusing(error: Exception) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise error

    return refuse


def test_the_newest_is_taken_up(kept: Kept) -> None:
    assert step_of(kept.restore()) == 20
    assert (kept.names(), kept.notices) == (ALL, [])


# ── what is whole is not put aside ────────────────────────────────────────────────────────────────────────────────


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
FULL_HOST = RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory")
BROKEN = RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("minigpt.learner.restore_optimizer_states", FULL),
        ("minigpt.learner.restore_optimizer_states", FULL_HOST),
        ("minigpt.learner.restore_optimizer_states", MemoryError()),
        ("minigpt.learner.restore_optimizer_states", BROKEN),
        ("minigpt.restoring.load_weights", FULL),
        ("minigpt.tensors.load", FULL_HOST),
        ("minigpt.tensors.load", MemoryError()),
    ],
)
def test_no_room_is_not_taken_for_damage(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    """One after the other all checkpoints but the first were put aside, and the run went on from there."""
    monkeypatch.setattr(place, refusing(error))
    with pytest.raises(UnreadableError):
        kept.restore()
    assert (kept.names(), kept.notices) == (ALL, [])
    monkeypatch.undo()
    assert step_of(kept.restore()) == 20


def test_no_room_for_the_weights_themselves(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch tells of it in an error of its own, as one among misfits of shape."""
    monkeypatch.setattr(torch.Tensor, "copy_", refusing(torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(UnreadableError, match="no memory"):
        kept.restore()
    assert kept.names() == ALL


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors", "training.safetensors"])
def test_a_file_that_cannot_be_read_just_now_is_not_taken_for_damaged(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """Too many open files for a moment, and the newest checkpoint was put aside for good."""
    module, function = (checkpoints, "read_limited") if name == "checkpoint.json" else (tensors, "open_regular")
    read = getattr(module, function)

    def failing(path: Path, *rest: Any) -> Any:
        if path.name == name:
            raise OSError(code, os.strerror(code), str(path))
        return read(path, *rest)

    monkeypatch.setattr(module, function, failing)
    with pytest.raises(UnreadableError, match=f"{name}: cannot be read: {os.strerror(code)}"):
        kept.restore()
    assert kept.names() == ALL


def test_checkpoints_that_cannot_be_listed_are_not_taken_for_none(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumption would have begun at step 0 again, beside them."""
    monkeypatch.setattr(Path, "iterdir", refusing(OSError(errno.EMFILE, os.strerror(errno.EMFILE))))
    assert kept.run.checkpoints() == []
    with pytest.raises(UserError, match="checkpoints: cannot be read: Too many open files"):
        kept.restore()


# ── what is damaged is ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors", "training.safetensors"])
@pytest.mark.parametrize("way", ["missing", "rubbish", "directory", "link"])
def test_a_damaged_checkpoint_is_put_aside(kept: Kept, name: str, way: str) -> None:
    path = kept.run.checkpoint("last").path / name
    path.unlink()
    if way == "rubbish":
        path.write_bytes(b"\xff" * 100)
    elif way == "directory":
        path.mkdir()
    elif way == "link":
        path.symlink_to(kept.run.config_file)
    assert step_of(kept.restore()) == 10
    assert kept.names() == LAST_ASIDE and "put aside" in kept.notices[0]


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
def test_numbers_that_are_not_finite_are_damage(kept: Kept, name: str) -> None:
    """To go on from a checkpoint of a training that has diverged would be to diverge at once."""
    path = kept.run.checkpoint("last").path / name
    state = load_file(path)
    next(value for value in state.values() if value.is_floating_point() and value.dim()).view(-1)[0] = float("nan")
    checkpoints.save_file(state, path)
    assert step_of(kept.restore()) == 10
    assert kept.names() == LAST_ASIDE and "not finite" in kept.notices[0]


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_something_lies_where_it_is_put(kept: Kept, tmp_path: Path, kind: str) -> None:
    """A file of that name was an error without words."""
    last = kept.run.checkpoint("last").path
    (last / "model.safetensors").write_bytes(b"x")
    aside = last.with_name(f"damaged-{last.name}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    if kind == "directory":
        aside.mkdir()
        (aside / "old").touch()
    elif kind == "file":
        aside.write_text("mine")
    else:
        aside.symlink_to(outside)
    assert step_of(kept.restore()) == 10
    assert max(path.name for path in aside.iterdir()) == "training.safetensors"
    assert (outside / "mine").exists()


def test_what_cannot_be_put_aside_is_refused_in_words(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left under its name it would be vouched for when the training comes to its step again."""
    (kept.run.checkpoint("last").path / "model.safetensors").write_bytes(b"x")
    monkeypatch.setattr(Path, "rename", refusing(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    with pytest.raises(UserError, match="is damaged, and cannot be put aside: Read-only file system"):
        kept.restore()


@pytest.mark.parametrize("name", ["rng.5", "rng.", "rng.cpu.more"])
def test_only_generators_that_there_are_may_be_in_it(kept: Kept, name: str) -> None:
    """A header may name as many as it likes, of 8 MiB each."""
    checkpoint = kept.run.checkpoint("last")
    state = kept.learner.tensors() | {name: torch.zeros(4)}
    checkpoints.save_file(state, checkpoint.path / "training.safetensors")
    assert step_of(kept.restore()) == 10
    assert f"{name} of shape (4,) is not what such a training keeps" in kept.notices[0]


@pytest.mark.parametrize("content", [None, "{", '{"step": 0, "val_loss": 9.0}'], ids=["missing", "damaged", "older"])
def test_the_best_one_is_called_so_again(kept: Kept, content: str | None) -> None:
    """A process may be killed after a checkpoint was written, and before best.json was."""
    kept.run.best_file.unlink()
    if content is not None:
        kept.run.best_file.write_text(content)
    kept.restore()
    assert kept.run.checkpoint("best").step == 10
