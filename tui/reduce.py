"""Series of any length brought down to the columns of a chart, so that no spike vanishes and nothing breaks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """One series as a chart of `width` columns shows it; each array has one entry per column, nan where it is empty."""

    low: Floats
    high: Floats
    first: Floats
    last: Floats
    joined: NDArray[np.bool_]
    """Whether the line reaches this column from the occupied one before it: no gap lies between them."""
    undrawable: NDArray[np.bool_]
    """Whether a value in this column cannot be drawn: nan, infinite, or not positive where the scale is logarithmic."""


def drawable(values: Floats, logarithmic: bool = False) -> NDArray[np.bool_]:
    """Which values have a place on the scale."""
    finite = np.isfinite(values)
    return finite & (values > 0) if logarithmic else finite


def reduce_columns(
    steps: NDArray[np.int64] | Floats,
    values: Floats,
    bounds: tuple[float, float],
    width: int,
    logarithmic: bool = False,
) -> Columns:
    """Minimum and maximum of every column of `width` columns between `bounds`; points outside are left out.

    `steps` ascends. `values` may hold anything.
    """
    nothing = np.full(width, np.nan)
    columns = Columns(
        nothing, nothing.copy(), nothing.copy(), nothing.copy(), np.zeros(width, bool), np.zeros(width, bool)
    )
    low_bound, high_bound = bounds
    begin, end = np.searchsorted(steps, low_bound, "left"), np.searchsorted(steps, high_bound, "right")
    steps, values = steps[begin:end], values[begin:end]
    if not steps.size or width < 1:
        return columns
    places = column_of(steps, bounds, width)
    good = drawable(values, logarithmic)
    columns.undrawable[places[~good]] = True
    # How many undrawable values came before each point: where it grows between two points, the line is broken.
    broken = np.cumsum(~good)[good]
    places, values = places[good], values[good]
    if not places.size:
        return columns
    starts = np.concatenate(([0], np.flatnonzero(np.diff(places)) + 1))
    ends = np.concatenate((starts[1:], [places.size])) - 1
    taken = places[starts]
    columns.low[taken] = np.minimum.reduceat(values, starts)
    columns.high[taken] = np.maximum.reduceat(values, starts)
    columns.first[taken] = values[starts]
    columns.last[taken] = values[ends]
    columns.joined[taken[1:]] = broken[starts[1:]] == broken[ends[:-1]]
    return columns


def column_of(steps: NDArray[np.int64] | Floats, bounds: tuple[float, float], width: int) -> NDArray[np.int64]:
    """The column of each step: the first bound lies in the first column, the second in the last."""
    low, high = bounds
    if high <= low:
        return np.zeros(steps.shape, np.int64)
    share = (steps.astype(np.float64) - low) / (high - low)
    return np.clip(np.rint(share * (width - 1)), 0, width - 1).astype(np.int64)


def smooth(values: Floats, window: int) -> Floats:
    """The mean of each value and those before it, `window` in all; values that are not finite are passed over."""
    finite = np.isfinite(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(finite, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(finite)))
    behind = np.maximum(np.arange(1, values.size + 1) - window, 0)
    number = counts[1:] - counts[behind]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (sums[1:] - sums[behind]) / number
    return np.where(finite, means, np.nan)
