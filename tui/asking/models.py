"""Which checkpoint answers, by what name it goes on the screen, and its model, kept open for the next question."""

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.journal import number_in
from minigpt.rundir import Checkpoint, RunDirectory
from tui.figures import loss_figure

if TYPE_CHECKING:
    from minigpt.model import GPT
    from minigpt.tokenizer import Tokenizer

NEWEST = "last"
"""The choice that follows the training; the others are "best" and the step of a checkpoint that is kept."""

CHANGE_KEY = "Ctrl+O"


@dataclass(frozen=True)
class Described:
    """A checkpoint as an answer names it."""

    checkpoint: Checkpoint
    val_loss: float | None
    is_best: bool

    @classmethod
    def read(cls, run: RunDirectory, checkpoint: Checkpoint) -> "Described":
        """What its own files say of it."""
        loss = number_in(checkpoint.info(), "val_loss")
        try:
            is_best = run.checkpoint("best") == checkpoint
        except UserError:
            is_best = False
        return cls(checkpoint, loss, is_best)

    @property
    def named(self) -> str:
        """Step and validation loss."""
        return f"step {self.checkpoint.step:,}" + (
            "" if self.val_loss is None else f" · val {loss_figure(self.val_loss)}"
        )


class Models:
    """The model opened last, kept for the next question; never two at a time."""

    def __init__(self) -> None:
        self._opened: tuple[_File, GPT, Tokenizer] | None = None
        self._opening = threading.Lock()  # a question that was stopped may still be loading when the next one comes

    def open(self, run: RunDirectory, which: str) -> "tuple[Described, GPT, Tokenizer]":
        """The model of the checkpoint that `which` means now.

        Raises UserError if there is none, or a damaged one, or too little memory for it is free.
        """
        from minigpt.checkpoint import load_named

        with self._opening:
            checkpoint = run.checkpoint(which)
            if self._opened is None or self._opened[0] != _file_of(checkpoint):
                self._opened = None  # its memory is free before the other one takes as much
                _require_free_memory(checkpoint)
                file = _file_of(checkpoint)
                checkpoint, model, tokenizer = load_named(run, which)
                self._opened = (file, model, tokenizer)
            return Described.read(run, checkpoint), *self._opened[1:]


_File = tuple[Path, int, int]


def _file_of(checkpoint: Checkpoint) -> _File:
    # A run that goes back to an earlier step writes the later ones again, under the names that they had.
    path = checkpoint.path / "model.safetensors"
    try:
        status = path.stat()
    except OSError:
        return path, 0, 0
    return path, status.st_ino, status.st_mtime_ns


def _require_free_memory(checkpoint: Checkpoint) -> None:
    # The system would let it be taken and then kill the process, with the training in it.
    import psutil

    needed = 0
    with contextlib.suppress(OSError):
        needed = 2 * (checkpoint.path / "model.safetensors").stat().st_size
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"to open the model of step {checkpoint.step:,} takes {needed / 2**30:,.1f} GiB of memory, "
            f"and {free / 2**30:,.1f} GiB are free"
        )


def spread(run: RunDirectory) -> list[str]:
    """The steps of up to four checkpoints that show how a run has gone: first, middle, best and last."""
    steps = [checkpoint.step for checkpoint in run.checkpoints()]
    if not steps:
        return []
    shown = {steps[0], steps[len(steps) // 2], steps[-1]}
    if (best := run.best_step()) in steps:
        shown.add(best)
    return [str(step) for step in sorted(shown)]


def chosen_title(run: RunDirectory, which: str, pane: str, width: int) -> str:
    """A pane's title: what it does, and with which checkpoint; what is too long for `width` cells is left out."""
    try:
        described = Described.read(run, run.checkpoint(which))
    except UserError:
        gone = f"step {int(which):,} is not kept any more" if which.isdecimal() else f"no {which} checkpoint yet"
        return f"{pane} · " + (gone if run.checkpoints() else "no checkpoint yet")
    kind = {NEWEST: "newest, ", "best": "best, "}.get(which, "")
    title = f"{pane} · {kind}step {described.checkpoint.step:,}"
    details = ["best"] if described.is_best and which != "best" else []
    details += [] if described.val_loss is None else [f"val {loss_figure(described.val_loss)}"]
    # The loss goes first: where "best" is missing, another pane that has room for it seems to contradict.
    for kept in range(len(details), 0, -1):
        whole = f"{title} ({', '.join(details[:kept])})"
        if len(whole) <= width:
            return whole
    return title
