"""The runs as rows of a table: what stands in them, which of them match a filter, and their order."""

from math import isfinite

from minigpt.run_list import LIVE, RunSummary, age, size_in_words
from minigpt.rundir import RunState
from tui.charts.sparkline import sparkline
from tui.figures import loss_figure
from tui.ordering import Key, Order, with_arrow
from tui.widgets.row_table import Entry, Field

CURVE_WIDTH = 10
_NOW = 60.0  # seconds since a run that goes on has written something

_STATES = {
    # With a sign, and one that terminals without colours and without these characters tell apart.
    RunState.TRAINING: ("►", ">", "training"),
    RunState.PAUSED: ("‖", "=", "paused"),
    RunState.FINISHED: ("✓", "+", "finished"),
    RunState.STOPPED: ("■", "-", "stopped"),
    RunState.CRASHED: ("✗", "!", "crashed"),
}
_UNKNOWN = "—"
_UNREAD = "…"

FIELDS = (
    Field("run", flexible=True, cut=True),
    Field("state"),
    Field("step", "right"),
    Field("of", "right", wide_only=88),
    Field("train", "right", wide_only=112),
    Field("val", "right", wide_only=112),
    Field("best val", "right"),
    Field("curve"),
    Field("age", "right"),
    Field("size", "right", wide_only=96),
)


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else value


KEYS: dict[int, Key[RunSummary]] = {
    0: Key(lambda run: run.run.name.casefold()),
    1: Key(lambda run: None if run.state is None else list(_STATES).index(run.state)),
    2: Key(lambda run: run.step, largest_first=True),
    3: Key(lambda run: run.max_steps or None, largest_first=True),
    4: Key(lambda run: _finite(run.train_loss)),
    5: Key(lambda run: _finite(run.val_loss)),
    6: Key(lambda run: run.best[1] if run.best else None),
    8: Key(lambda run: run.written, largest_first=True),
    9: Key(lambda run: run.size, largest_first=True),
}


def labels_of(order: Order, shown: int, total: int, *, ascii: bool = False) -> tuple[str, ...]:
    """The heads of the columns, and how many of all runs are shown."""
    labels = [field.label for field in FIELDS]
    if shown != total:
        labels[0] = f"run ({shown:,} of {total:,})"
    if order.column == 8:  # the newest has the smallest age
        order = Order(8, not order.reverse)
    return with_arrow(labels, order, KEYS, ascii=ascii)


def entry(run: RunSummary, time: float, *, marked: bool = False, ascii: bool = False) -> Entry:
    """The row of a run."""
    live = run.state in LIVE
    sign, plain_sign, word = _STATES[run.state] if run.state else ("", "", "")
    unknown = "-" if ascii else _UNKNOWN
    unread = ("..." if ascii else _UNREAD) if run.state is None else unknown

    def loss(value: float | None) -> str:
        return unknown if value is None else "NaN" if not isfinite(value) else loss_figure(value)

    cells = (
        run.run.name,
        f"{plain_sign if ascii else sign} {word}" if run.state else unread,
        unread if run.step is None else f"{run.step:,}",
        f"{run.max_steps:,}" if run.max_steps else unknown,  # none if the time is what ends it
        loss(run.train_loss),
        loss(run.val_loss),
        loss(run.best[1] if run.best else None),
        sparkline(run.curve, ascii=ascii),
        # Of one that writes nothing any more it says since when: it may hang.
        "now" if live and time - run.written < _NOW else age(time - run.written),
        unread if run.size is None else size_in_words(run.size),
    )
    return Entry(str(run.run.path), cells, "bold" if live else "", "*" if marked else "")
