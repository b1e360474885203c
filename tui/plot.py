"""Line charts drawn into a grid of characters, without a terminal or a widget: braille dots, axes, marks.

A redraw has to be cheap enough to happen beside a training thread, so all of it is array arithmetic. What it costs
still grows with the series; how often it may happen follows from that (`tui.pace`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from tui.grid import (
    AXIS,
    BEST,
    BEST_MARK,
    BLANK,
    BROKEN,
    CURRENT,
    CURSOR,
    LABEL,
    PROBLEM,
    RECOVERY,
    RESUMED,
    ROLLBACK,
    SPIKE,
    TITLE,
    Codes,
    Grid,
    fitted,
)
from tui.reduce import Columns, Floats, Points, column_of, reduce_points
from tui.scale import axis_labels, axis_ticks, labels_of, last_step, scaled, value_range, value_ticks

# A braille character is 2×4 dots; the bit of each by row and column.
_BITS = np.array([[1, 8], [2, 16], [4, 32], [64, 128]], dtype=np.uint32)
_NAME_EVERY = 24  # cells between two names on a line


@dataclass(frozen=True)
class Line:
    """A series as a line."""

    points: Points
    role: int
    mark: str = ""
    """What each of its values gets, for a series of few."""
    name: str = ""
    """A character that stands on the line here and there, and tells it from others without colours."""
    dashed: bool = False
    ascii: str = "*"
    """What it is drawn with where there is no braille."""
    exponential: bool = False
    """Whether e to the power of the values is drawn; cheaper than raising each of a million."""


@dataclass(frozen=True)
class Picture:
    """Everything a chart shows. Places are on the x axis, whatever that counts."""

    title: str
    lines: tuple[Line, ...] = ()
    """In the order of drawing: each covers those before it."""
    legend: tuple[tuple[str, int], ...] = ()
    """Texts for the title row with their roles, the most important first; see `tui.grid.fitted`."""
    best: tuple[tuple[float, float], ...] = ()
    """Places and values of the best evaluations."""
    recoveries: tuple[float, ...] = ()
    rollbacks: tuple[float, ...] = ()
    """Where the training went back to by itself: marked at the bottom, besides the line that a recovery has."""
    spikes: tuple[tuple[float, float], ...] = ()
    """Places and values to be marked, places ascending."""
    marks: tuple[tuple[str, int, tuple[float, ...]], ...] = ()
    """Characters with their roles and places: at the top, or below it where a line is in the way."""
    end: float = 0
    """Where the run will be over, 0 if unknown: the axis never reaches beyond it."""
    bounds: tuple[float, float] | None = None
    """The part of the axis to show; None: the whole run."""
    axis: str = "step"
    cursor: float | None = None
    logarithmic: bool = False
    unit: float = 1.0
    """What the labels count the values in."""
    is_current: bool = False
    """Whether this is the chart among others that the keys mean."""
    waiting: str = ""
    """What to say while there is nothing to draw."""


@dataclass(frozen=True)
class _Area:
    """The part of the grid inside the axes, and the scales that lead there."""

    top: int
    left: int
    width: int
    height: int
    bounds: tuple[float, float]
    values: tuple[float, float]  # of the logarithms where the scale is logarithmic
    logarithmic: bool

    def heights(self, values: Floats) -> Floats:
        """Rows of dots from the top, four to a cell, not rounded and reaching beyond the area; nan stays nan."""
        places = scaled(values, self.logarithmic)
        low, high = self.values
        rows: Floats = (high - places) / (high - low) * (self.height * 4 - 1)
        return rows

    def dots(self, values: Floats) -> Floats:
        """Rows of dots inside the area."""
        return np.clip(np.rint(self.heights(values)), 0, self.height * 4 - 1)

    def columns(self, places: Floats) -> NDArray[np.int64]:
        """The columns of the grid of those places that lie between the bounds."""
        inside = places[(places >= self.bounds[0]) & (places <= self.bounds[1])]
        return self.left + column_of(inside, self.bounds, self.width * 2) // 2

    def column(self, place: float) -> int | None:
        """The column of the grid of one place."""
        columns = self.columns(np.array([place]))
        return int(columns[0]) if columns.size else None


@dataclass(frozen=True)
class PlotArea:
    """Where in a drawn chart the x axis lies: what a mouse needs."""

    left: int
    width: int
    bounds: tuple[float, float]

    def place(self, column: float) -> float:
        """The place under a column of the grid."""
        low, high = self.bounds
        # Two columns of dots to a cell; its middle lies between them.
        share = (2 * (column - self.left) + 0.5) / max(1, 2 * self.width - 1)
        return low + min(1.0, max(0.0, share)) * (high - low)


def draw(picture: Picture, width: int, height: int, *, ascii: bool = False) -> Grid:
    """Draw `picture` at a size. Any values and any size give a chart, be it an empty one."""
    return draw_with_area(picture, width, height, ascii=ascii)[0]


def draw_with_area(picture: Picture, width: int, height: int, *, ascii: bool = False) -> tuple[Grid, PlotArea | None]:
    """The same, with where its x axis lies; None while there is none."""
    grid = Grid.empty(max(width, 0), max(height, 0))
    if width < 4 or height < 2:
        return grid, None
    bounds = picture.bounds or (0.0, float(last_step(_newest(picture), picture.end)))
    values = _values_in(picture, bounds)
    _draw_title(grid, picture)
    area = None
    if values is None:
        text = _shown_text(picture)[:width]
        grid.write(height // 2, max(0, (width - len(text)) // 2), text, LABEL)
    else:
        area = _draw_axes(grid, picture, bounds, value_range(*values, picture.logarithmic))
    if area is not None:
        _draw_inside(grid, picture, area, ascii=ascii)
    if ascii:
        grid.to_ascii()
    return grid, None if area is None else PlotArea(area.left, area.width, area.bounds)


def _shown_text(picture: Picture) -> str:
    if any(line.points.places.size for line in picture.lines):
        return "no values here that can be drawn"
    if any(line.points.gap_places.size for line in picture.lines):
        return f"{BROKEN} no finite value so far"
    return picture.waiting


def _newest(picture: Picture) -> float:
    ends = [
        places[-1] for line in picture.lines for places in (line.points.places, line.points.gap_places) if places.size
    ]
    return float(max(ends, default=0))


def _points_of(picture: Picture, line: Line) -> Points:
    # On a logarithmic scale e to the power of anything is positive.
    return line.points.positive() if picture.logarithmic and not line.exponential else line.points


def _value(values: Floats, line: Line, unit: float) -> Floats:
    if line.exponential:
        with np.errstate(over="ignore"):
            values = np.exp(values)
    return values / unit if unit != 1.0 else values


def _values_in(picture: Picture, bounds: tuple[float, float]) -> tuple[float, float] | None:
    """The lowest and the highest value between the bounds; None while no value can be drawn."""
    extremes = []
    for line in picture.lines:
        points = _points_of(picture, line)
        values = points.values[points.window(bounds)]
        if values.size:
            extremes += [values.min(), values.max()]
        # Of a line to a value out of view all that is in view is to be seen, be it the only thing there.
        extremes += points.crossings(bounds)
    if not extremes:
        return None
    # All lines of a chart are of one kind.
    found = _value(np.array(extremes), picture.lines[0], picture.unit)
    found = found[np.isfinite(found) & (found > 0)] if picture.logarithmic else found[np.isfinite(found)]
    return (float(found.min()), float(found.max())) if found.size else None


def _draw_title(grid: Grid, picture: Picture) -> None:
    width = grid.codes.shape[1]
    grid.write(0, 0, "─" * width, CURRENT if picture.is_current else AXIS)
    grid.write(0, 1, f" {picture.title} ", CURRENT if picture.is_current else TITLE)
    chosen = fitted(picture.legend, width - cell_len(picture.title) - 5)
    column = width - 1 - sum(cell_len(text) + 3 for text, _ in chosen)
    for text, role in chosen:
        grid.write(0, column, f" {text} ", role)
        column += cell_len(text) + 3


def _draw_axes(grid: Grid, picture: Picture, bounds: tuple[float, float], values: tuple[float, float]) -> _Area | None:
    height, width = grid.codes.shape
    top, rows = 1, height - 2
    if rows < 1:
        return None
    ticks = value_ticks(values, rows // 3 + 1, picture.logarithmic)
    labels = labels_of(ticks, picture.logarithmic)
    gutter = min(max([5, *map(len, labels)]) + 1, width // 2)
    area = _Area(top, gutter + 1, width - gutter - 1, rows, bounds, values, picture.logarithmic)
    if area.width < 2:
        return None
    grid.codes[top : top + rows, gutter] = ord("│")
    grid.roles[top : top + rows, gutter] = AXIS
    used: set[int] = set()
    tick_rows = area.dots(np.array(ticks, dtype=np.float64)).astype(int) // 4
    for row, label in zip(tick_rows.tolist(), labels, strict=True):
        if row not in used:
            used.add(row)
            grid.write(top + row, max(0, gutter - 1 - len(label)), label[: gutter - 1], LABEL)
            grid.codes[top + row, gutter] = ord("┤")
    _draw_axis_labels(grid, picture.axis, area)
    return area


def _draw_axis_labels(grid: Grid, axis: str, area: _Area) -> None:
    row, free = area.top + area.height, 0
    width = grid.codes.shape[1]
    ticks = axis_ticks(axis, area.bounds, max(1, area.width // 11))
    columns = (area.left + column_of(np.array(ticks, dtype=np.float64), area.bounds, area.width * 2) // 2).tolist()
    for index, (column, label) in enumerate(zip(columns, axis_labels(axis, ticks), strict=True)):
        start = max(0, column - len(label) // 2)
        text = label
        if index == 0:
            # Which axis it is stands before the first.
            text = f"{'time' if axis == 'elapsed' else axis} {label}"
            start = max(0, min(area.left - 1, column - len(text) + 1))
        start = max(0, min(start, width - len(text)))
        if start >= free:
            grid.write(row, start, text, LABEL)
            free = start + len(text) + 2


def _draw_inside(grid: Grid, picture: Picture, area: _Area, *, ascii: bool) -> None:
    rows = slice(area.top, area.top + area.height)
    for places, code, role in (
        ((*picture.recoveries, *picture.rollbacks), RESUMED, RECOVERY),
        (() if picture.cursor is None else (picture.cursor,), "│", CURSOR),
    ):
        columns = area.columns(np.array(places, dtype=np.float64))
        grid.codes[rows, columns] = ord(code)
        grid.roles[rows, columns] = role
    _draw_lines(grid, picture, area, ascii=ascii)
    free = (grid.roles[rows, area.left :] == BLANK) | (grid.roles[rows, area.left :] == RECOVERY)
    for mark, role, places in picture.marks:
        _place_marks(grid, area, free, (mark, role, places))
    for place in picture.rollbacks:
        column = area.column(place)
        if column is not None:
            grid.write(area.top + area.height - 1, column, ROLLBACK, PROBLEM)


def _draw_lines(grid: Grid, picture: Picture, area: _Area, *, ascii: bool) -> None:
    """Draw the lines and what stands on them."""
    inside = np.s_[area.top : area.top + area.height, area.left : area.left + area.width]
    codes, roles = grid.codes[inside], grid.roles[inside]
    undrawable = np.zeros(area.width, bool)
    reduced = [_reduced(picture, line, area) for line in picture.lines]
    for line, columns in zip(picture.lines, reduced, strict=True):
        bits = _braille(columns, area)
        if line.dashed:
            bits[:, ::3] = 0
        # Not laid over the dots that are there: without colours a line is seen only where it is alone.
        drawn = bits > 0
        codes[drawn] = ord(line.ascii) if ascii else 0x2800 + bits[drawn]
        roles[drawn] = line.role
        undrawable |= columns.undrawable.reshape(-1, 2).any(axis=1)
    for number, (line, columns) in enumerate(zip(picture.lines, reduced, strict=True)):
        taken = np.flatnonzero(np.isfinite(columns.last))
        # A lone value would be a lone dot, which nobody sees.
        mark = line.mark or ("•" if line.points.values.size == 1 else "")
        if mark:
            # More than every other cell has no room for a mark.
            taken = taken[:: max(1, -(-2 * taken.size // area.width))]
            _mark(grid, area, taken, columns.last, (mark, line.role))
        elif line.name and taken.size:
            spots = np.arange(4 + 5 * number, area.width, _NAME_EVERY) * 2
            spots = spots[(spots >= taken[0]) & (spots <= taken[-1])]
            nearest = taken[np.minimum(taken.searchsorted(spots), taken.size - 1)]
            _mark(grid, area, nearest if spots.size else taken[-1:], columns.last, (line.name, line.role))
    for points, mark, role in ((picture.spikes, SPIKE, PROBLEM), (picture.best, BEST_MARK, BEST)):
        if points:
            places, values = (np.array(column, dtype=np.float64) for column in zip(*sorted(points), strict=True))
            columns = reduce_points(
                Points.of(places, values / picture.unit, picture.logarithmic), area.bounds, area.width * 2
            )
            _mark(grid, area, np.flatnonzero(np.isfinite(columns.high)), columns.high, (mark, role))
    codes[0, undrawable] = ord(BROKEN)
    roles[0, undrawable] = PROBLEM


def _reduced(picture: Picture, line: Line, area: _Area) -> Columns:
    columns = reduce_points(_points_of(picture, line), area.bounds, area.width * 2)
    if not line.exponential and picture.unit == 1.0:
        return columns
    low, high, first, last = (
        _value(one, line, picture.unit) for one in (columns.low, columns.high, columns.first, columns.last)
    )
    ends = [
        None if end is None else (end[0], float(_value(np.array([end[1]]), line, picture.unit)[0]))
        for end in (columns.before, columns.after)
    ]
    too_large = np.isinf(high)
    for one in (low, high, first, last):
        one[too_large] = np.nan
    return Columns(low, high, first, last, columns.joined, columns.undrawable | too_large, *ends)


def _mark(grid: Grid, area: _Area, columns: NDArray[np.int64], values: Floats, mark: tuple[str, int]) -> None:
    """Put a character with its role where the values of these columns of dots lie."""
    rows = area.top + area.dots(values[columns]).astype(int) // 4
    grid.codes[rows, area.left + columns // 2] = ord(mark[0])
    grid.roles[rows, area.left + columns // 2] = mark[1]


def _place_marks(
    grid: Grid,
    area: _Area,
    free: NDArray[np.bool_],
    marks: tuple[str, int, tuple[float, ...]],
) -> None:
    """Put a character into each column that has one of the places, where nothing is covered by it."""
    mark, role, places = marks
    columns = np.unique(area.columns(np.array(places, dtype=np.float64)))
    # So many that they would be a line of their own say no more than some of them do.
    for column in columns[:: max(1, -(-4 * columns.size // area.width))].tolist():
        rows = np.flatnonzero(free[:, column - area.left])
        if rows.size:
            row = int(rows[0])
            grid.write(area.top + row, column, mark, role)
            free[row, column - area.left] = False


def _braille(columns: Columns, area: _Area) -> Codes:
    """The dots of one line as braille bits, height × width; `columns` are twice as many as the cells are wide."""
    taken = np.flatnonzero(np.isfinite(columns.low))
    everywhere = np.arange(columns.low.size)
    # Rows grow downwards, so the highest value gives the topmost dot.
    top, bottom = area.dots(columns.high), area.dots(columns.low)
    enter, leave = area.dots(columns.first), area.dots(columns.last)
    # Empty columns inside a joined stretch are crossed by a straight line, also to what lies beyond the edges.
    between = np.isnan(top)
    knots = np.stack([taken, taken], axis=1).ravel() + np.tile([-1e-6, 1e-6], taken.size)
    heights = area.heights(np.stack([columns.first[taken], columns.last[taken]], axis=1).ravel())
    if taken.size:
        following = taken[np.minimum(np.searchsorted(taken, everywhere), taken.size - 1)]
        reached = (everywhere > taken[0]) & (everywhere < taken[-1]) & columns.joined[following]
        if columns.before is not None:
            reached |= everywhere < taken[0]
        if columns.after is not None:
            reached |= everywhere > taken[-1]
        between &= reached
    elif columns.before is None or columns.after is None:
        return np.zeros((area.height, area.width), np.uint32)
    ends = [end for end in (columns.before, columns.after) if end is not None]
    for place, height in zip([end[0] for end in ends], area.heights(np.array([end[1] for end in ends])), strict=True):
        at = 0 if place < 0 else knots.size
        knots, heights = np.insert(knots, at, place), np.insert(heights, at, height)
    crossing = np.interp(everywhere[between], knots, heights)
    # Where the line runs beyond the top or the bottom there is nothing to see of it.
    crossing = np.where((crossing < -0.5) | (crossing > area.height * 4 - 0.5), np.nan, np.rint(crossing))
    for rows in (top, bottom, enter, leave):
        rows[between] = crossing
    # Neighbours meet halfway, so that a steep line has no holes.
    linked = np.isfinite(top[1:]) & np.isfinite(top[:-1]) & (between[1:] | columns.joined[1:])
    start, stop = leave[:-1][linked], enter[1:][linked]
    middle = np.floor((start + stop) / 2)
    left, right = everywhere[:-1][linked], everywhere[1:][linked]
    top[left], bottom[left] = np.minimum(top[left], middle), np.maximum(bottom[left], middle)
    top[right], bottom[right] = np.minimum(top[right], middle), np.maximum(bottom[right], middle)
    numbers = np.arange(area.height * 4)[:, None]
    with np.errstate(invalid="ignore"):
        dots = (numbers >= top) & (numbers <= bottom)  # (4·height, 2·width)
    cells = dots.reshape(area.height, 4, area.width, 2).astype(np.uint32)
    bits: Codes = np.einsum("hrwc,rc->hw", cells, _BITS)
    return bits
