"""The table of epochs: how the run stood at the last evaluation of each, and what else the newest one measured."""

from math import exp, isfinite

from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from minigpt.metrics import EpochRow, epoch_table
from tui.curves import figure
from tui.following import Following
from tui.widgets.progress import StatusLine

_HEAD = f"{'loss':>26}{'perplexity':>22}\n{'epoch':>6}{'step':>10}{'train':>10}{'val':>10}{'train':>12}{'val':>10}"


class EpochRows(ScrollView):
    """The rows under the heading; draws those that are in view."""

    BINDING_GROUP_TITLE = "Epochs"

    def __init__(self) -> None:
        super().__init__(id="epoch-rows")
        self._lines: list[str] = []

    def show(self, lines: list[str]) -> None:
        """Take these rows, and stay at the newest if that is where the reader was."""
        follows = self.max_scroll_y - self.scroll_y <= 1
        self._lines = lines
        self.virtual_size = Size(max(map(len, lines), default=0), len(lines))
        self.refresh()
        if follows:
            self.call_after_refresh(self.scroll_end, animate=False)

    def render_line(self, y: int) -> Strip:
        row = y + self.scroll_offset.y
        text = self._lines[row] if row < len(self._lines) else ""
        return Strip([Segment(text, self.rich_style)]).adjust_cell_length(self.size.width, self.rich_style)


class EpochsPane(Vertical):
    """Shows the table of a run, and grows with it."""

    BORDER_TITLE = " epochs "

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = None

    def compose(self) -> ComposeResult:
        yield Static(_HEAD, id="epoch-head", markup=False)
        yield EpochRows()
        yield Static("", id="no-epochs", markup=False)
        yield StatusLine(id="newest-evaluation")

    def focus(self, scroll_visible: bool = True) -> "EpochsPane":
        """Let the arrow keys scroll the rows."""
        self.screen.set_focus(self.query_one(EpochRows), scroll_visible)
        return self

    def show(self, following: Following) -> None:
        """Take in what there is now, if it is anything new."""
        steps, losses = following.series("val_loss")
        state = (losses.tobytes(), steps[-1:].tolist(), following.is_live, following.metrics.best)
        if state == self._shown:
            return
        self._shown = state
        table = epoch_table(following.metrics)
        rows = self.query_one(EpochRows)
        rows.show(rows_of(table))
        empty = self.query_one("#no-epochs", Static)
        empty.update(
            "No evaluation after the first step yet. Each epoch gets a row: how its last evaluation came out."
            if following.is_live
            else "The run ended before its first evaluation."
        )
        rows.display = self.query_one("#epoch-head").display = bool(table)
        empty.display = not table
        newest = self.query_one("#newest-evaluation", StatusLine)
        content = newest_evaluation(following)
        newest.display = bool(content.plain)
        newest.show(content)


def rows_of(table: list[EpochRow]) -> list[str]:
    """The table as lines; the epoch with the lowest validation loss is marked."""
    best = min((row.val_loss for row in table if isfinite(row.val_loss)), default=None)
    lines = []
    for row in table:
        values = (
            f"{figure(row.train_loss):>10}{figure(row.val_loss):>10}"
            f"{_perplexity(row.train_loss):>12}{_perplexity(row.val_loss):>10}"
        )
        lines.append(f"{row.epoch:>6,}{row.step:>10,}{values}{' ★' if row.val_loss == best else ''}")
    return lines


def _perplexity(loss: float) -> str:
    return figure(exp(loss)) if loss < 700 else "–"


def newest_evaluation(following: Following) -> Content:
    """Accuracy and bits of the newest evaluation on both splits; empty for a run that has not measured them."""
    lines = []
    for split, prefix in (("validation", "val"), ("training", "train_eval")):
        measured = [following.latest(f"{prefix}_{name}") for name in ("accuracy", "bpc", "bpb")]
        if any(value is not None for value in measured):
            accuracy, *bits = measured
            share = "–" if accuracy is None else f"{accuracy:.1%}"
            lines.append(
                f"{split:<13}{share:>11}" + "".join("–".rjust(16) if b is None else f"{b:>16.4f}" for b in bits)
            )
    if not lines:
        return Content("")
    steps, _ = following.series("val_accuracy")
    step = f"step {steps[-1]:,}" if steps.size else ""
    head = f"{step:<13}{'accuracy':>11}{'bits/character':>16}{'bits/byte':>16}"
    return Content.assemble((head, "$foreground 60%"), "\n" + "\n".join(lines))
