"""Line charts drawn into a grid of characters, without a terminal or a widget: braille dots, axes, marks.

A redraw has to be cheap enough to happen beside a training thread, so all of it is array arithmetic. What it costs
still grows with the series; how often it may happen follows from that (`tui.pace`).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tui.reduce import Columns, Floats, column_of, drawable, reduce_columns
from tui.scale import labels_of, last_step, scaled, ticks_between, value_range, value_ticks

# What a cell is; the widget gives each a colour. Later ones are drawn over earlier ones.
ROLES = ("blank", "axis", "label", "recovery", "raw", "train", "val", "best", "problem", "title")
BLANK, AXIS, LABEL, RECOVERY, RAW, TRAIN, VAL, BEST, PROBLEM, TITLE = range(len(ROLES))

SPIKE, ROLLBACK = "▲", "↺"
_SPACE = ord(" ")
# A braille character is 2×4 dots; the bit of each by row and column.
_BITS = np.array([[1, 8], [2, 16], [4, 32], [64, 128]], dtype=np.uint32)
Codes = NDArray[np.uint32]
Roles = NDArray[np.uint8]


@dataclass(frozen=True)
class Line:
    """A series as a line; with `points` each of its values gets that character."""

    steps: NDArray[np.int64]
    values: Floats
    role: int
    points: str = ""


@dataclass(frozen=True)
class Picture:
    """Everything a chart shows."""

    title: str
    lines: tuple[Line, ...] = ()
    legend: tuple[tuple[str, int], ...] = ()
    """Texts for the title row with their roles, the most important first; those that find no room are left out."""
    best: tuple[int, float] | None = None
    recoveries: tuple[int, ...] = ()
    rollbacks: tuple[int, ...] = ()
    """Where the training went back to by itself: marked at the bottom, besides the line that a recovery has."""
    spikes: tuple[tuple[int, float], ...] = ()
    """Steps and values to be marked, steps ascending."""
    end: int = 0
    """The step at which the run will be over, 0 if unknown: the axis never reaches beyond it."""
    logarithmic: bool = False
    waiting: str = ""
    """What to say while there is nothing to draw."""


@dataclass(frozen=True)
class Grid:
    """A drawn chart: one code point and one role for each cell, as arrays of height × width."""

    codes: Codes
    roles: Roles

    @classmethod
    def empty(cls, width: int, height: int) -> "Grid":
        return cls(np.full((height, width), _SPACE, np.uint32), np.zeros((height, width), np.uint8))

    def write(self, row: int, column: int, text: str, role: int) -> None:
        """Put `text` at a place; what does not fit is cut off."""
        height, width = self.codes.shape
        if not 0 <= row < height or column < 0:
            return
        text = text[: max(0, width - column)]
        self.codes[row, column : column + len(text)] = [ord(character) for character in text]
        self.roles[row, column : column + len(text)] = role

    def changed_spans(self, before: "Grid") -> list[tuple[int, int, int]]:
        """Row, first column and width of what differs from `before`, which must have the same size."""
        different = (self.codes != before.codes) | (self.roles != before.roles)
        spans = []
        for row in np.flatnonzero(different.any(axis=1)).tolist():
            columns = np.flatnonzero(different[row])
            # Spans are cut where at least eight cells are alike: moving the cursor costs about as many bytes.
            parts = np.split(columns, np.flatnonzero(np.diff(columns) > 8) + 1)
            spans += [(row, int(part[0]), int(part[-1] - part[0] + 1)) for part in parts]
        return spans


@dataclass(frozen=True)
class _Area:
    """The part of the grid inside the axes, and the scales that lead there."""

    top: int
    left: int
    width: int
    height: int
    steps: tuple[float, float]
    values: tuple[float, float]  # of the logarithms where the scale is logarithmic
    logarithmic: bool

    def dots(self, values: Floats) -> Floats:
        """Rows of dots from the top, four to a cell; nan stays nan."""
        places = scaled(values, self.logarithmic)
        low, high = self.values
        rows = np.rint((high - places) / (high - low) * (self.height * 4 - 1))
        return np.clip(rows, 0, self.height * 4 - 1)


def draw(picture: Picture, width: int, height: int) -> Grid:
    """Draw `picture` at a size. Any values and any size give a chart, be it an empty one."""
    grid = Grid.empty(max(width, 0), max(height, 0))
    if width < 4 or height < 2:
        return grid
    _draw_title(grid, picture)
    ranges = _ranges(picture)
    if ranges is None:
        text = picture.waiting[:width]
        grid.write(height // 2, max(0, (width - len(text)) // 2), text, LABEL)
        return grid
    area = _draw_axes(grid, picture, *ranges)
    if area is None:
        return grid
    inside = slice(area.top, area.top + area.height)
    for step in (*picture.recoveries, *picture.rollbacks):
        column = area.left + int(column_of(np.array([step]), area.steps, area.width)[0])
        grid.codes[inside, column] = ord("┊")
        grid.roles[inside, column] = RECOVERY
    _draw_lines(grid, picture, area)
    for step in picture.rollbacks:
        column = area.left + int(column_of(np.array([step]), area.steps, area.width)[0])
        grid.write(area.top + area.height - 1, column, ROLLBACK, PROBLEM)
    return grid


def _ranges(picture: Picture) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The steps and the (scaled) values that the axes span; None while no value can be drawn."""
    lows, highs, newest = [], [], 0
    for line in picture.lines:
        good = line.values[drawable(line.values, picture.logarithmic)]
        if good.size:
            lows.append(float(good.min()))
            highs.append(float(good.max()))
        if line.steps.size:
            newest = max(newest, int(line.steps[-1]))
    if not lows:
        return None
    return (0.0, float(last_step(newest, picture.end))), value_range(min(lows), max(highs), picture.logarithmic)


def _draw_title(grid: Grid, picture: Picture) -> None:
    width = grid.codes.shape[1]
    grid.write(0, 0, "─" * width, AXIS)
    grid.write(0, 1, f" {picture.title} ", TITLE)
    room = width - len(picture.title) - 5
    chosen = []
    for text, role in picture.legend:
        if len(text) + 3 <= room:
            chosen.append((text, role))
            room -= len(text) + 3
    column = width - 1 - sum(len(text) + 3 for text, _ in chosen)
    for text, role in chosen:
        grid.write(0, column, f" {text} ", role)
        column += len(text) + 3


def _draw_axes(grid: Grid, picture: Picture, steps: tuple[float, float], values: tuple[float, float]) -> _Area | None:
    height, width = grid.codes.shape
    top, rows = 1, height - 2
    if rows < 1:
        return None
    ticks = value_ticks(values, rows // 3 + 1, picture.logarithmic)
    labels = labels_of(ticks, picture.logarithmic)
    gutter = min(max([5, *map(len, labels)]) + 1, width // 2)
    area = _Area(top, gutter + 1, width - gutter - 1, rows, steps, values, picture.logarithmic)
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
    _draw_step_labels(grid, area)
    return area


def _draw_step_labels(grid: Grid, area: _Area) -> None:
    row, free = area.top + area.height, 0
    width = grid.codes.shape[1]
    for tick in ticks_between(*area.steps, max(1, area.width // 11)):
        if tick != int(tick):
            continue
        column = area.left + int(column_of(np.array([tick]), area.steps, area.width)[0])
        label = f"{int(tick):,}" if tick else "step 0"
        start = max(0, column - len(label) // 2) if tick else area.left - 1
        start = min(start, width - len(label))
        if start >= free:
            grid.write(row, start, label, LABEL)
            free = start + len(label) + 2


def _draw_lines(grid: Grid, picture: Picture, area: _Area) -> None:
    shape = (area.height, area.width)
    inside = np.s_[area.top : area.top + area.height, area.left : area.left + area.width]
    bits = np.zeros(shape, np.uint32)
    roles = np.zeros(shape, np.uint8)
    undrawable = np.zeros(area.width, bool)
    reduced = partial(reduce_columns, bounds=area.steps, logarithmic=picture.logarithmic)
    for line in picture.lines:
        own = _braille(reduced(line.steps, line.values, width=area.width * 2), area)
        bits |= own
        roles[own > 0] = line.role
    drawn = bits > 0
    grid.codes[inside][drawn] = 0x2800 + bits[drawn]
    grid.roles[inside][drawn] = roles[drawn]
    for line in picture.lines:
        columns = reduced(line.steps, line.values, width=area.width)
        undrawable |= columns.undrawable
        # A lone value would be a lone dot, which nobody sees.
        if line.points or np.count_nonzero(np.isfinite(line.values)) == 1:
            _mark(grid, area, columns.last, ord(line.points or "•"), line.role)
    if picture.spikes:
        steps, values = (np.array(column) for column in zip(*picture.spikes, strict=True))
        _mark(grid, area, reduced(steps, values.astype(np.float64), width=area.width).high, ord(SPIKE), PROBLEM)
    if picture.best is not None:
        step, value = picture.best
        column = reduced(np.array([step]), np.array([value]), width=area.width)
        _mark(grid, area, column.last, ord("★"), BEST)
    grid.codes[area.top, area.left + np.flatnonzero(undrawable)] = ord("×")
    grid.roles[area.top, area.left + np.flatnonzero(undrawable)] = PROBLEM


def _mark(grid: Grid, area: _Area, values: Floats, code: int, role: int) -> None:
    columns = np.flatnonzero(np.isfinite(values))
    rows = area.top + area.dots(values[columns]).astype(int) // 4
    grid.codes[rows, area.left + columns] = code
    grid.roles[rows, area.left + columns] = role


def _braille(columns: Columns, area: _Area) -> Codes:
    """The dots of one line as braille bits, height × width; `columns` are twice as many as the cells are wide."""
    taken = np.flatnonzero(np.isfinite(columns.low))
    if not taken.size:
        return np.zeros((area.height, area.width), np.uint32)
    everywhere = np.arange(columns.low.size)
    # Rows grow downwards, so the highest value gives the topmost dot.
    top, bottom = area.dots(columns.high), area.dots(columns.low)
    enter, leave = area.dots(columns.first), area.dots(columns.last)
    # Empty columns inside a joined stretch are crossed by a straight line.
    following = taken[np.minimum(np.searchsorted(taken, everywhere), taken.size - 1)]
    between = np.isnan(top) & (everywhere > taken[0]) & (everywhere < taken[-1]) & columns.joined[following]
    knots = np.stack([taken, taken], axis=1).ravel() + np.tile([-1e-6, 1e-6], taken.size)
    heights = np.stack([enter[taken], leave[taken]], axis=1).ravel()
    crossing = np.rint(np.interp(everywhere[between], knots, heights))
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
