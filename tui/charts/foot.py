"""The lines under the charts: how they are drawn or where the cursor stands, and what the marks mean."""

from collections.abc import Sequence

from rich.cells import cell_len

from minigpt.inert import inert_line, inert_pane
from tui.charts.curves import mark_legend, marks_at, run_mark, said_of_run, shown_alerts
from tui.charts.grid import ALERT, CURSOR, LABEL, SOLID, Said, fitted
from tui.charts.quantities import Quantity
from tui.charts.scale import axis_labels
from tui.charts.traces import SMOOTHED_FROM, STEP, Traces
from tui.charts.view import ChartView, Extent
from tui.figures import duration, short_count

_LONGEST_NAME = 40
Entries = list[tuple[str, int]]


def state_line(
    runs: Sequence[Traces], charts: Sequence[Quantity], view: ChartView, extent: Extent, *, width: int, columns: int
) -> Entries:
    """Texts with their roles: how these charts are drawn or where the cursor stands, and what the marks mean.

    `columns` is how wide each of the charts is.
    """
    smoothing: Said = "not smoothed"
    if view.smoothing:
        smoothing = f"{SOLID} EMA {view.smoothing:g}", f"{SOLID} {view.smoothing:g}"
        if all(run.size("train_loss") < SMOOTHED_FROM for run in runs):
            smoothing = f"{SOLID} EMA from {SMOOTHED_FROM} rows on", f"{SOLID} from {SMOOTHED_FROM} rows"
    said = _cursor(runs, view, extent, columns) if view.cursor is not None else _state(view, extent)
    first = _fitted([(smoothing, LABEL), *said], width)
    return first + _fitted(mark_legend(runs, charts), width - sum(cell_len(text) + 2 for text, _ in first))


def run_lines(runs: Sequence[Traces], current: Quantity, view: ChartView, *, size: tuple[int, int]) -> list[Entries]:
    """The names of several runs, line by line, for a pane of that width and height, of which they may take a sixth.

    With a cursor they say what each run has there in the `current` one of the charts, whose title may lack the room.
    """
    if len(runs) == 1:
        return []
    width, height = size
    names = [f"{run_mark(number).name} {run_mark(number).point} {run_name(run)}" for number, run in enumerate(runs)]
    roles = [run_mark(number).role for number in range(len(runs))]
    most = max(1, height // 6)
    if view.cursor is None:
        return _wrapped([*zip(names, roles, strict=True)], width, most)
    there = [(number, ways) for number, run in enumerate(runs) if (ways := said_of_run(run, number, current, view))]
    named = [f"{names[number]} {ways[2].removeprefix(run_mark(number).name)}" for number, ways in there]
    lines: list[Entries] = []
    # From the longest to the shortest, until all of them have room.
    for texts in (named, *map(list, zip(*(ways for _, ways in there), strict=True))):
        values = [(text, roles[number]) for text, (number, _) in zip(texts, there, strict=True)]
        lines = _wrapped([(f"{current.title}:", LABEL), *values], width, most)
        if not lines[-1][-1][0].startswith("…"):
            break
    return lines


def run_name(run: Traces) -> str:
    """A run's name as the legend has it."""
    return inert_pane(inert_line(run.following.run.name, _LONGEST_NAME))


def _fitted(entries: Sequence[tuple[Said, int]], width: int) -> Entries:
    # The first cell stays free, and each entry has two cells after it instead of three.
    return fitted(entries, width - 1 + len(entries))


def _wrapped(entries: Entries, width: int, most: int) -> list[Entries]:
    lines: list[Entries] = [[]]
    used = 1
    for text, role in entries:
        if lines[-1] and used + cell_len(text) > width:
            lines.append([])
            used = 1
        lines[-1].append((text, role))
        used += cell_len(text) + 2
    if len(lines) > most:
        lines = lines[:most]
        lines[-1] = [*lines[-1][:-1], (f"… and {len(entries) - sum(map(len, lines)) + 1} more", LABEL)]
    return lines


def _state(view: ChartView, extent: Extent) -> Entries:
    if view.is_zoomed:
        low, high = axis_labels(view.axis, [float(round(one, 6)) for one in view.bounds(extent)])
        return [(f"{_axis_name(view)} {low}–{high}", LABEL)]
    return [(f"by {_axis_name(view)}", LABEL)] if view.axis != STEP else []


def _axis_name(view: ChartView) -> str:
    return "time" if view.axis == "elapsed" else view.axis


def _cursor(runs: Sequence[Traces], view: ChartView, extent: Extent, columns: int) -> Entries:
    """Where the cursor stands, on every axis, and what happened there: in charts so many columns wide."""
    assert view.cursor is not None
    first = runs[0]
    step = first.step_at(view.axis, view.cursor)
    low, high = view.bounds(extent)
    parts = [f"step {step:,.0f}"]
    if not low <= view.cursor <= high:
        parts[0] = f"cursor {'◂' if view.cursor < low else '▸'} {parts[0]}"
    within = (high - low) / max(1, columns)
    if len(runs) > 1:
        near = marks_at(runs, view.axis, view.cursor, within)
        parts += [near] if near else []
    elif near := next(
        (
            kind
            for at, kind in shown_alerts(first.following)
            if abs(first.place_of(view.axis, at) - view.cursor) < within
        ),
        "",
    ):
        parts.append(f"{ALERT} {inert_pane(inert_line(near, 20))}")
    epoch, elapsed, tokens = (first.value_at(name, step) for name in ("epoch", "elapsed", "tokens"))
    parts += [f"epoch {epoch:.4g}"] if epoch is not None else []
    parts += [duration(elapsed)] if elapsed is not None else []
    parts += [f"{short_count(tokens)} tokens"] if tokens is not None else []
    return [(" · ".join(parts), CURSOR)]
