"""Lines as dots: eight to a cell, four over each other and two beside each other."""

import numpy as np
from numpy.typing import NDArray

from tui.charts.grid import Codes
from tui.charts.plot_area import Area
from tui.charts.reduce import Columns

Dots = NDArray[np.bool_]
"""Four times as high and twice as wide as the cells."""

# The bit that each dot has in a braille character, by row and column.
_BITS = np.array([[1, 8], [2, 16], [4, 32], [64, 128]], dtype=np.uint32)
_LEAST_EXCURSION = 4  # dots


def dots_of(columns: Columns, area: Area) -> Dots:
    """Those of one line; `columns` are twice as many as the cells of the area are wide."""
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
        return np.zeros((area.height * 4, area.width * 2), bool)
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
        dots: Dots = (numbers >= top) & (numbers <= bottom)
    return dots


def hatched(dots: Dots) -> Dots:
    """A band as strokes, one in each cell, as high as the band is there: no spike of it is lost."""
    found = np.zeros_like(dots)
    found[:, ::2] = dots[:, ::2] | dots[:, 1::2]
    return found


def excursions(dots: Dots) -> Dots:
    """Only those columns of a line that reach far beyond what the others do."""
    heights = dots.sum(axis=0)
    usual = float(np.median(heights[heights > 0])) if heights.any() else 0.0
    found: Dots = dots & (heights > max(_LEAST_EXCURSION, 4 * usual))
    return found


def apart_from(dots: Dots, lines: Dots) -> Dots:
    """A band without the dots next to lines that run through it: they are seen without colours too."""
    near = lines.copy()
    near[1:] |= lines[:-1]
    near[:-1] |= lines[1:]
    return dots & ~near


def braille_bits(dots: Dots) -> Codes:
    """What the braille character of each cell has besides its first code point."""
    height, width = dots.shape
    cells = dots.reshape(height // 4, 4, width // 2, 2).astype(np.uint32)
    bits: Codes = np.einsum("hrwc,rc->hw", cells, _BITS)
    return bits
