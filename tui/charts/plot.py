"""Line charts drawn into a grid of characters, without a terminal or a widget: braille dots, axes, marks.

A redraw has to be cheap enough to happen beside a training thread, so all of it is array arithmetic. What it costs
still grows with the series; how often it may happen follows from that (`tui.pace`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from tui.charts.braille import apart_from, braille_bits, dots_of, excursions, hatched
from tui.charts.grid import (
    AXIS,
    BLANK,
    BROKEN,
    CURRENT,
    CURSOR,
    LABEL,
    MARK,
    PROBLEM,
    RECOVERY,
    RESUMED,
    ROLLBACK,
    TITLE,
    Grid,
    Said,
    fitted,
    in_short,
)
from tui.charts.plot_area import Area, PlotArea
from tui.charts.reduce import Columns, Floats, Points, column_of, reduce_points
from tui.charts.scale import axis_labels, axis_ticks, labels_of, last_step, value_range, value_ticks

_NAME_EVERY = 24  # cells between two names on a line
_LEAST_ROWS_WITH_MARKS = 5


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
    band: bool = False
    """Whether it is the single values that a smoothed line runs through: hatched, and behind all lines."""
    excursions: bool = False
    """Whether only what reaches far beyond the usual is drawn of it."""
    ascii: str = "*"
    """What it is drawn with where there is no braille."""
    exponential: bool = False
    """Whether e to the power of the values is drawn; cheaper than raising each of a million."""
    broken: int = PROBLEM
    """The role of the marks for those of its values that cannot be drawn."""


@dataclass(frozen=True)
class Picture:
    """Everything a chart shows. Places are on the x axis, whatever that counts."""

    title: str
    lines: tuple[Line, ...] = ()
    """In the order of drawing: where several meet, the cell has the dots of all of them and the colour of the last."""
    legend: tuple[tuple[Said, int], ...] = ()
    """Texts for the title row with their roles, the most important first; see `tui.charts.grid.fitted`."""
    recoveries: tuple[float, ...] = ()
    rollbacks: tuple[float, ...] = ()
    """Where the training went back to by itself: marked at the bottom, besides the line that a recovery has."""
    points: tuple[tuple[str, int, tuple[tuple[float, float], ...]], ...] = ()
    """Characters with their roles, and the places and values at which they stand, the most important last."""
    marks: tuple[tuple[str, int, tuple[float, ...]], ...] = ()
    """Characters with their roles and places, the most important first: they have the topmost row to themselves.

    Where the same one has several roles at one place, it has that of a mark of no run in particular.
    """
    end: float = 0
    """Where the run will be over, 0 if unknown: the axis never reaches beyond it."""
    bounds: tuple[float, float] | None = None
    """The part of the axis to show; None: the whole run."""
    axis: str = "step"
    cursor: float | None = None
    logarithmic: bool = False
    unit: float = 1.0
    """What the labels count the values in."""
    note: str = ""
    """What the title says besides, if the values in the legend leave room for it."""
    is_current: bool = False
    """Whether this is the chart among others that the keys mean."""
    waiting: str = ""
    """What to say while there is nothing to draw."""


@dataclass(frozen=True)
class Frame:
    """What of a chart is known before it is drawn: its axes, of which charts over each other share the gutter."""

    picture: Picture
    bounds: tuple[float, float]
    values: tuple[float, float] | None
    """None while no value can be drawn."""
    ticks: list[float]
    labels: list[str]
    mark_rows: int
    """How many rows the marks take from the values."""

    @property
    def gutter(self) -> int:
        """How many cells the labels of the values take."""
        return max([5, *map(len, self.labels)]) + 1


def frame_of(picture: Picture, height: int) -> Frame:
    """The axes of a chart so many rows high."""
    bounds = picture.bounds or (0.0, float(last_step(_newest(picture), picture.end)))
    has_marks = any(places for _, _, places in picture.marks) or any(
        line.points.gap_places.size for line in picture.lines
    )
    mark_rows = int(has_marks and height - 2 >= _LEAST_ROWS_WITH_MARKS)
    found = _values_in(picture, bounds)
    if found is None:
        return Frame(picture, bounds, None, [], [], mark_rows)
    values = value_range(*found, picture.logarithmic)
    ticks = value_ticks(values, (height - 2 - mark_rows) // 3 + 1, picture.logarithmic)
    return Frame(picture, bounds, values, ticks, labels_of(ticks, picture.logarithmic), mark_rows)


def draw(picture: Picture, width: int, height: int, *, ascii: bool = False) -> Grid:
    """Draw `picture` at a size. Any values and any size give a chart, be it an empty one."""
    return draw_framed(frame_of(picture, height), width, height, ascii=ascii)[0]


def draw_framed(
    frame: Frame, width: int, height: int, *, gutter: int = 0, ascii: bool = False
) -> tuple[Grid, PlotArea | None]:
    """The same, with where its x axis lies; None while there is none. The gutter has `gutter` cells at least."""
    picture = frame.picture
    grid = Grid.empty(max(width, 0), max(height, 0))
    if width < 4 or height < 2:
        return grid, None
    _draw_title(grid, picture)
    area = None
    if frame.values is None:
        text = _shown_text(picture)[:width]
        grid.write(height // 2, max(0, (width - len(text)) // 2), text, LABEL)
    else:
        area = _draw_axes(grid, frame, frame.values, max(gutter, frame.gutter))
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
    name = f"{picture.title} · log" if picture.logarithmic else picture.title
    titles = [(f"{name} · {picture.note}", 3)] if picture.note else []
    # As much as the legend leaves room for: before it loses digits the note goes, and the scale before the averages.
    title = name
    for one, way in (*titles, (name, 2), (picture.title, 2)):
        if sum(cell_len(in_short(said, way)) + 3 for said, _ in picture.legend) <= width - cell_len(one) - 5:
            title = one
            break
    grid.write(0, 0, "─" * width, CURRENT if picture.is_current else AXIS)
    grid.write(0, 1, f" {title} ", CURRENT if picture.is_current else TITLE)
    chosen = fitted(picture.legend, width - cell_len(title) - 5)
    column = width - 1 - sum(cell_len(text) + 3 for text, _ in chosen)
    for text, role in chosen:
        grid.write(0, column, f" {text} ", role)
        column += cell_len(text) + 3


def _draw_axes(grid: Grid, frame: Frame, values: tuple[float, float], gutter: int) -> Area | None:
    height, width = grid.codes.shape
    top, rows = 1 + frame.mark_rows, height - 2 - frame.mark_rows
    gutter = min(gutter, width // 2)
    if rows < 1 or width - gutter - 1 < 2:
        return None
    area = Area(top, gutter + 1, width - gutter - 1, rows, frame.bounds, values, frame.picture.logarithmic)
    grid.codes[1 : top + rows, gutter] = ord("│")
    grid.roles[1 : top + rows, gutter] = AXIS
    used: set[int] = set()
    tick_rows = area.dots(np.array(frame.ticks, dtype=np.float64)).astype(int) // 4
    for row, label in zip(tick_rows.tolist(), frame.labels, strict=True):
        if row not in used:
            used.add(row)
            grid.write(top + row, max(0, gutter - 1 - len(label)), label[: gutter - 1], LABEL)
            grid.codes[top + row, gutter] = ord("┤")
    _draw_axis_labels(grid, frame.picture.axis, area)
    return area


def _draw_axis_labels(grid: Grid, axis: str, area: Area) -> None:
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


def _draw_inside(grid: Grid, picture: Picture, area: Area, *, ascii: bool) -> None:
    rows = slice(1, area.top + area.height)
    for places, code, role in (
        ((*picture.recoveries, *picture.rollbacks), RESUMED, RECOVERY),
        (() if picture.cursor is None else (picture.cursor,), "│", CURSOR),
    ):
        columns = area.columns(np.array(places, dtype=np.float64))
        grid.codes[rows, columns] = ord(code)
        grid.roles[rows, columns] = role
    _draw_lines(grid, picture, area, ascii=ascii)
    for mark in dict.fromkeys(mark for mark, _, _ in picture.marks):
        _place_marks(grid, area, mark, [(role, places) for one, role, places in picture.marks if one == mark])
    for place in picture.rollbacks:
        column = area.column(place)
        if column is not None:
            grid.write(area.top + area.height - 1, column, ROLLBACK, PROBLEM)


def _draw_lines(grid: Grid, picture: Picture, area: Area, *, ascii: bool) -> None:
    """Draw the lines and what stands on them."""
    inside = np.s_[area.top : area.top + area.height, area.left : area.left + area.width]
    codes, roles = grid.codes[inside], grid.roles[inside]
    reduced = [_reduced(picture, line, area) for line in picture.lines]
    drawn = [dots_of(columns, area) for columns in reduced]
    solid = np.zeros((area.height * 4, area.width * 2), bool)
    for line, dots in zip(picture.lines, drawn, strict=True):
        if line.dashed:
            dots.reshape(area.height * 4, area.width, 2)[:, ::3] = False
        if not line.band and not line.excursions:
            solid |= dots
    together = np.zeros_like(solid)
    for line, found in zip(picture.lines, drawn, strict=True):
        dots = excursions(found) if line.excursions else found
        if line.band:
            dots = apart_from(hatched(dots), solid)
        together |= dots
        cells = dots.reshape(area.height, 4, area.width, 2).any(axis=(1, 3))
        codes[cells] = ord(line.ascii)
        roles[cells] = line.role
    if not ascii:
        bits = braille_bits(together)
        codes[bits > 0] = 0x2800 + bits[bits > 0]
    for number, (line, columns) in enumerate(zip(picture.lines, reduced, strict=True)):
        taken = np.flatnonzero(np.isfinite(columns.last))
        if line.excursions:
            continue
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
    for mark, role, points in picture.points:
        if points:
            places, values = (np.array(column, dtype=np.float64) for column in zip(*sorted(points), strict=True))
            columns = reduce_points(
                Points.of(places, values / picture.unit, picture.logarithmic), area.bounds, area.width * 2
            )
            _mark(grid, area, np.flatnonzero(np.isfinite(columns.high)), columns.high, (mark, role))
    broken = _roles(
        [
            (line.broken, np.flatnonzero(columns.undrawable.reshape(-1, 2).any(axis=1)))
            for line, columns in zip(picture.lines, reduced, strict=True)
        ],
        area.width,
    )
    grid.codes[1, area.left :][broken > 0] = ord(BROKEN)
    grid.roles[1, area.left :][broken > 0] = broken[broken > 0]


def _reduced(picture: Picture, line: Line, area: Area) -> Columns:
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


def _mark(grid: Grid, area: Area, columns: NDArray[np.int64], values: Floats, mark: tuple[str, int]) -> None:
    """Put a character with its role where the values of these columns of dots lie."""
    rows = area.top + area.dots(values[columns]).astype(int) // 4
    grid.codes[rows, area.left + columns // 2] = ord(mark[0])
    grid.roles[rows, area.left + columns // 2] = mark[1]


def _roles(marks: list[tuple[int, NDArray[np.int64]]], width: int) -> NDArray[np.uint8]:
    """The role of each column that marks of one kind stand in, given their roles and columns; 0 for the others."""
    roles = np.zeros(width, np.uint8)
    for role, columns in marks:
        roles[columns] = np.where((roles[columns] == BLANK) | (roles[columns] == role), role, MARK)
    return roles


def _place_marks(grid: Grid, area: Area, mark: str, marks: list[tuple[int, tuple[float, ...]]]) -> None:
    """Put a character into the topmost row at each of the places, unless something stands there already."""
    roles = _roles(
        [(role, area.columns(np.array(places, dtype=np.float64))) for role, places in marks], grid.codes.shape[1]
    )
    columns = np.flatnonzero(roles)
    # So many that they would be a line of their own say no more than some of them do.
    for column in columns[:: max(1, -(-4 * columns.size // area.width))].tolist():
        if grid.roles[1, column] in {BLANK, RECOVERY}:
            grid.write(1, column, mark, int(roles[column]))
