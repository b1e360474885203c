"""Which checkpoint answers, by what name it goes on the screen, and its model, kept open for the next question."""

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
    """The model opened last, kept for the next question. Used by one thread at a time."""

    def __init__(self) -> None:
        self._opened: tuple[Path, GPT, Tokenizer] | None = None

    def open(self, run: RunDirectory, which: str) -> "tuple[Described, GPT, Tokenizer]":
        """The model of the checkpoint that `which` means now. Raises UserError if there is none, or a damaged one."""
        from minigpt.checkpoint import load_named

        checkpoint = run.checkpoint(which)
        if self._opened is None or self._opened[0] != checkpoint.path:
            checkpoint, model, tokenizer = load_named(run, which)
            self._opened = (checkpoint.path, model, tokenizer)
        return Described.read(run, checkpoint), *self._opened[1:]


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
    for left_out in range(len(details) + 1):
        whole = title + (f" ({', '.join(details[left_out:])})" if details[left_out:] else "")
        if len(whole) <= width:
            return whole
    return title
