"""The table of epochs: how the run stood at the last evaluation of each, and what else the newest one measured."""

from math import exp, isfinite

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from minigpt.metrics import EpochRow, epoch_table
from tui.charts.quantities import figure
from tui.run.following import Following
from tui.widgets.lines import Line, Lines
from tui.widgets.search import SearchedPane, SearchLine
from tui.widgets.status_line import StatusLine

_HEAD = f"{'loss':>26}{'perplexity':>22}\n{'epoch':>6}{'step':>10}{'train':>10}{'val':>10}{'train':>12}{'val':>10}"


class EpochsPane(SearchedPane):
    """Shows the table of a run, and grows with it."""

    BORDER_TITLE = " epochs "
    BINDING_GROUP_TITLE = "Epochs"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = None

    def compose(self) -> ComposeResult:
        yield Static(_HEAD, id="epoch-head", markup=False)
        yield Lines(id="epoch-rows")
        yield Static("", id="no-epochs", markup=False)
        yield StatusLine(id="newest-evaluation")
        yield SearchLine()

    def show(self, following: Following) -> None:
        """Take in what there is now, if it is anything new."""
        steps, losses = following.series("val_loss")
        state = (losses.tobytes(), steps[-1:].tolist(), following.is_live, following.metrics.best)
        if state == self._shown:
            return
        self._shown = state
        table = epoch_table(following.metrics)
        rows = self.query_one(Lines)
        rows.show(map(Line, rows_of(table)))
        self.search_again()
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
