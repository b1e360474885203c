"""The lines under the charts: how they are drawn or where the cursor stands, and what the marks mean."""

from collections.abc import Sequence

from rich.cells import cell_len

from minigpt.inert import inert_line, inert_pane
from tui.charts.curves import mark_legend, run_mark, shown_alerts
from tui.charts.grid import ALERT, CURSOR, LABEL, SOLID, fitted
from tui.charts.quantities import Quantity
from tui.charts.scale import axis_labels
from tui.charts.traces import STEP, Traces
from tui.charts.view import ChartView, Extent
from tui.figures import duration, short_count

_LONGEST_NAME = 40
Entries = list[tuple[str, int]]


def foot_lines(
    runs: Sequence[Traces], charts: Sequence[Quantity], view: ChartView, extent: Extent, size: tuple[int, int]
) -> list[Entries]:
    """Texts with their roles, line by line, for a pane of that width and height; the names of runs may take a sixth."""
    width, height = size
    smoothing = f"{SOLID} EMA {view.smoothing:g}" if view.smoothing else "not smoothed"
    said = _cursor(runs, view, extent, width) if view.cursor is not None else _state(view, extent)
    first = _fitted([(smoothing, LABEL), *said], width)
    if len(runs) == 1:
        return [first + _fitted(mark_legend(runs[0], charts), width - sum(cell_len(text) + 2 for text, _ in first))]
    names = [
        (f"{run_mark(number).name} {run_mark(number).point} {run_name(run)}", run_mark(number).role)
        for number, run in enumerate(runs)
    ]
    return [first, *_wrapped(names, width, height // 6)]


def run_name(run: Traces) -> str:
    """A run's name as the legend has it."""
    return inert_pane(inert_line(run.following.run.name, _LONGEST_NAME))


def _fitted(entries: Entries, width: int) -> Entries:
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
        lines = lines[: max(1, most)]
        lines[-1] = [*lines[-1][:-1], (f"… and {len(entries) - sum(map(len, lines)) + 1} more", LABEL)]
    return lines


def _state(view: ChartView, extent: Extent) -> Entries:
    if view.is_zoomed:
        low, high = axis_labels(view.axis, [float(round(one, 6)) for one in view.bounds(extent)])
        return [(f"{_axis_name(view)} {low}–{high}", LABEL)]
    return [(f"by {_axis_name(view)}", LABEL)] if view.axis != STEP else []


def _axis_name(view: ChartView) -> str:
    return "time" if view.axis == "elapsed" else view.axis


def _cursor(runs: Sequence[Traces], view: ChartView, extent: Extent, width: int) -> Entries:
    """Where the cursor stands, on every axis, and what happened there."""
    assert view.cursor is not None
    first = runs[0]
    step = first.step_at(view.axis, view.cursor)
    low, high = view.bounds(extent)  # about as many cells apart as the pane is wide
    parts = [f"step {step:,.0f}"]
    if not low <= view.cursor <= high:
        parts[0] = f"cursor {'◂' if view.cursor < low else '▸'} {parts[0]}"
    near = [
        kind
        for at, kind in shown_alerts(first.following)
        if abs(first.place_of(view.axis, at) - view.cursor) < (high - low) / width
    ]
    if near:
        parts.append(f"{ALERT} {inert_pane(inert_line(near[0], 20))}")
    epoch, elapsed, tokens = (first.value_at(name, step) for name in ("epoch", "elapsed", "tokens"))
    parts += [f"epoch {epoch:.4g}"] if epoch is not None else []
    parts += [duration(elapsed)] if elapsed is not None else []
    parts += [f"{short_count(tokens)} tokens"] if tokens is not None else []
    return [(" · ".join(parts), CURSOR)]
