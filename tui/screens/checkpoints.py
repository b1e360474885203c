"""The small window in which one chooses the checkpoint that answers and is evaluated."""

import contextlib

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from minigpt.errors import UserError
from minigpt.journal import number_in
from minigpt.rundir import Checkpoint, RunDirectory
from tui.asking.models import NEWEST
from tui.figures import loss_figure
from tui.widgets.row_table import Entry, Field, RowTable


class CheckpointScreen(ModalScreen[str]):
    """Returns "last" (the newest, whichever that is when it is asked), "best" or the step of one that is kept."""

    AUTO_FOCUS = "RowTable"
    BINDINGS = [Binding("escape,o,ctrl+o", "dismiss(None)", "leave it as it is", show=False)]

    def __init__(self, run: RunDirectory, chosen: str) -> None:
        super().__init__()
        self._run_directory = run
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical(id="checkpoints") as window:
            window.border_title = "which checkpoint answers?"
            window.border_subtitle = "Enter chooses, Esc leaves it"
            yield RowTable(
                (Field("checkpoint", flexible=True), Field("step", "right"), Field("val loss", "right")),
                id="checkpoint-rows",
            )

    def on_mount(self) -> None:
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        table = self.query_one(RowTable)
        entries = checkpoint_entries(self._run_directory)
        table.show(entries)
        keys = [entry.key for entry in entries]
        if self._chosen in keys:
            table.move_cursor(keys.index(self._chosen))

    def on_row_table_chosen(self) -> None:
        self.dismiss(self.query_one(RowTable).chosen)


def checkpoint_entries(run: RunDirectory) -> list[Entry]:
    """The newest and the best, and then each that is kept, from the newest down."""
    kept = run.checkpoints()
    if not kept:
        return []
    entries = [_entry(NEWEST, "newest, follows the training", kept[-1])]
    with contextlib.suppress(UserError):
        entries.append(_entry("best", "best", run.checkpoint("best")))
    return entries + [_entry(str(one.step), "kept", one) for one in reversed(kept)]


def _entry(key: str, label: str, checkpoint: Checkpoint) -> Entry:
    loss = number_in(checkpoint.info(), "val_loss")
    shown = "–" if loss is None else loss_figure(loss)
    return Entry(key, (label, f"{checkpoint.step:,}", shown))
