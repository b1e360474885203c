"""Series of any length brought down to the columns of a chart, so that no spike vanishes and nothing breaks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """A series sorted for drawing: what can be drawn apart from what cannot."""

    places: Floats
    """Where on the x axis the values lie that can be drawn; ascends."""
    values: Floats
    gaps: NDArray[np.int64]
    """For each value that cannot be drawn: how many that can come before it; ascends."""
    gap_places: Floats

    @classmethod
    def of(cls, places: NDArray[np.int64] | Floats, values: Floats, logarithmic: bool = False) -> "Points":
        """Sort a series whose `places` ascend; `values` may hold anything."""
        places, good = places.astype(np.float64), drawable(values, logarithmic)
        return cls(places[good], values[good], np.cumsum(good, dtype=np.int64)[~good], places[~good])

    def positive(self) -> "Points":
        """Those that have a place on a logarithmic scale; all others are gaps."""
        good = self.values > 0
        if good.all():
            return self
        numbers = np.concatenate(([0], np.cumsum(good)))
        gaps = np.concatenate((numbers[self.gaps], numbers[:-1][~good]))
        places = np.concatenate((self.gap_places, self.places[~good]))
        order = np.argsort(places, kind="stable")
        return Points(self.places[good], self.values[good], gaps[order], places[order])

    def window(self, bounds: tuple[float, float]) -> slice:
        """Which of the values lie between the bounds, both included."""
        low, high = bounds
        return slice(int(self.places.searchsorted(low, "left")), int(self.places.searchsorted(high, "right")))

    def crossings(self, bounds: tuple[float, float]) -> list[float]:
        """The values at which the line crosses the bounds, where it does."""
        found = []
        inside = self.window(bounds)
        for bound, at in zip(bounds, (inside.start, inside.stop), strict=True):
            if 0 < at < self.places.size and not _is_gap(self, np.array([at]))[0]:
                found.append(float(np.interp(bound, self.places[at - 1 : at + 1], self.values[at - 1 : at + 1])))
        return found


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
    before: tuple[float, float] | None
    """Column, a negative number, and value of the point that the line comes from at the left; None if from nowhere."""
    after: tuple[float, float] | None
    """Likewise where it leaves at the right."""


def drawable(values: Floats, logarithmic: bool = False) -> NDArray[np.bool_]:
    """Which values have a place on the scale."""
    finite = np.isfinite(values)
    return finite & (values > 0) if logarithmic else finite


def reduce_points(points: Points, bounds: tuple[float, float], width: int) -> Columns:
    """Minimum and maximum of every column of `width` columns between `bounds`; points outside are left out.

    What it costs for points far outside the bounds is next to nothing, and for those inside one look at each.
    """
    low, high, first, last = (np.full(width, np.nan) for _ in range(4))
    joined, undrawable = np.zeros(width, bool), np.zeros(width, bool)
    inside = points.window(bounds)
    before = _beyond(points, inside.start, inside.start - 1, bounds, width)
    after = _beyond(points, inside.stop, inside.stop, bounds, width)
    columns = Columns(low, high, first, last, joined, undrawable, before, after)
    if width < 1:
        return columns
    begin, end = (
        np.searchsorted(points.gap_places, bounds[0], "left"),
        points.gap_places.searchsorted(bounds[1], "right"),
    )
    undrawable[column_of(points.gap_places[begin:end], bounds, width)] = True
    places, values = points.places[inside], points.values[inside]
    if not places.size:
        return columns
    cuts = np.concatenate(([0], places.searchsorted(_borders(bounds, width), "left"), [places.size]))
    taken = np.flatnonzero(np.diff(cuts))
    starts, ends = cuts[taken], cuts[taken + 1] - 1
    low[taken] = np.minimum.reduceat(values, starts)
    high[taken] = np.maximum.reduceat(values, starts)
    first[taken] = values[starts]
    last[taken] = values[ends]
    joined[taken[1:]] = ~_is_gap(points, starts[1:] + inside.start)
    return columns


def _is_gap(points: Points, number: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a value that cannot be drawn lies just before the point of that number."""
    found: NDArray[np.bool_] = points.gaps.searchsorted(number, "left") != points.gaps.searchsorted(number, "right")
    return found


def _beyond(
    points: Points, gap: int, number: int, bounds: tuple[float, float], width: int
) -> tuple[float, float] | None:
    low, high = bounds
    if not 0 <= number < points.places.size or high <= low or _is_gap(points, np.array([gap]))[0]:
        return None
    return float((points.places[number] - low) / (high - low) * (width - 1)), float(points.values[number])


@lru_cache(16)  # one chart asks a dozen times
def _borders(bounds: tuple[float, float], width: int) -> Floats:
    """What lies between each two neighbouring columns: the first bound is the middle of the first column."""
    low, high = bounds
    if high <= low or width < 2:
        return np.full(max(0, width - 1), np.inf)
    return np.asarray(low + (np.arange(1, width) - 0.5) * ((high - low) / (width - 1)), dtype=np.float64)


def column_of(places: NDArray[np.int64] | Floats, bounds: tuple[float, float], width: int) -> NDArray[np.int64]:
    """The column of each place: the first bound lies in the first column, the second in the last."""
    return _borders(bounds, width).searchsorted(places.astype(np.float64), "right").astype(np.int64)
