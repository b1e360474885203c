"""The series of a run as charts need them, kept and extended as the run grows: a redraw takes in only what is new."""

from dataclasses import dataclass, field
from math import isfinite, isnan

import numpy as np
from numpy.typing import NDArray

from tui.charts.reduce import Floats, Points
from tui.charts.smoothing import MovingAverage
from tui.run.following import Following

SMOOTHED_FROM = 40
"""From this many rows on the single values are a band; a smoothed line then shows where the band goes."""

_PIECE = 32768  # values that are smoothed at a time

STEP = "step"
AXES = (STEP, "tokens", "epoch", "elapsed")
"""What a chart's x axis can count: names of metrics, besides the step itself."""


class _Growing:
    """An array of floats that is appended to without being copied each time."""

    def __init__(self) -> None:
        self._buffer = np.empty(64)
        self.size = 0

    def reserve(self, more: int) -> None:
        needed = self.size + more
        if needed > self._buffer.size:
            buffer = np.empty(needed * 3 // 2)  # what is not used of it yet takes no memory
            buffer[: self.size] = self.now
            self._buffer = buffer

    def append(self, values: Floats | NDArray[np.int64]) -> None:
        self.reserve(values.size)
        self._buffer[self.size : self.size + values.size] = values
        self.size += values.size

    @property
    def now(self) -> Floats:
        return self._buffer[: self.size]


@dataclass(frozen=True)
class Reading:
    """What a series says at a place: the value of the nearest logged step, nan if it was not finite."""

    step: int
    value: float
    smoothed: float | None


@dataclass
class _Trace:
    """One series: what can be drawn of it, and where the rest is."""

    seen: tuple[NDArray[np.int64], Floats] | None = None
    taken: int = 0
    ends: tuple[float, ...] = ()
    steps: _Growing = field(default_factory=_Growing)
    values: _Growing = field(default_factory=_Growing)
    gaps: _Growing = field(default_factory=_Growing)
    gap_steps: _Growing = field(default_factory=_Growing)
    places: dict[str, tuple[_Growing, _Growing]] = field(default_factory=dict)
    """By axis: where on it the steps lie, and those of the gaps."""
    risen: _Growing = field(default_factory=_Growing)
    """The highest value so far, at each: what an x axis needs, which must not turn back with a clock."""
    average: MovingAverage = field(default_factory=lambda: MovingAverage(0.0))
    smoothed: _Growing = field(default_factory=_Growing)

    def take(self, steps: NDArray[np.int64], values: Floats) -> bool:
        """Take in what was appended since the last call; False if the series is another one by now."""
        if self.seen is not None and self.seen[0] is steps and self.seen[1] is values:
            return True
        # An attempt that went back to a checkpoint has cut the series off and grown it anew.
        if self.taken > steps.size or (self.taken and not _same(self.ends, _ends(steps, values, self.taken))):
            return False
        new_steps, new_values = steps[self.taken :], values[self.taken :]
        good = np.isfinite(new_values)
        bad = np.flatnonzero(~good)
        if bad.size:
            self.gaps.append(self.steps.size + bad - np.arange(bad.size))
            self.gap_steps.append(new_steps[bad])
            new_steps, new_values = new_steps[good], new_values[good]
        self.steps.append(new_steps)
        self.values.append(new_values)
        self.seen, self.taken = (steps, values), steps.size
        self.ends = _ends(steps, values, self.taken)
        return True

    def smooth(self, weight: float) -> Floats:
        if self.average.weight != weight:
            self.average, self.smoothed.size = MovingAverage(weight), 0
        missing = self.values.now[self.smoothed.size :]
        self.smoothed.reserve(missing.size)
        # What is in between then stays where the processor has it at hand; fresh memory costs most of the time.
        for begin in range(0, missing.size, _PIECE):
            self.smoothed.append(self.average.extend(missing[begin : begin + _PIECE]))
        return self.smoothed.now


def _ends(steps: NDArray[np.int64], values: Floats, taken: int) -> tuple[float, ...]:
    return (
        tuple(float(column[place]) for place in (0, taken // 2, taken - 1) for column in (steps, values))
        if taken
        else ()
    )


def _same(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(a == b or (isnan(a) and isnan(b)) for a, b in zip(first, second, strict=True))


class Traces:
    """Answers for one run what its charts draw, on any x axis, raw or smoothed."""

    def __init__(self, following: Following) -> None:
        self.following = following
        self._traces: dict[str, _Trace] = {}
        self._recoveries = 0

    def refresh(self) -> None:
        """Forget what an attempt that went back has abandoned; once before each redraw."""
        recoveries = len(self.following.metrics.recoveries)
        if recoveries != self._recoveries:
            self._traces.clear()
            self._recoveries = recoveries

    def _trace(self, name: str) -> _Trace:
        steps, values = self.following.series(name)
        trace = self._traces.get(name)
        if trace is None or not trace.take(steps, values):
            trace = self._traces[name] = _Trace()
            trace.take(steps, values)
        return trace

    def size(self, name: str) -> int:
        """How many values of it there are, those that cannot be drawn included."""
        return int(self.following.series(name)[0].size)

    def undrawable(self, name: str) -> int:
        """How many of its values are not finite."""
        return self._trace(name).gaps.size

    def newest_step(self, name: str) -> int:
        """Its last step; 0 without any."""
        steps, _ = self.following.series(name)
        return int(steps[-1]) if steps.size else 0

    def points(self, name: str, axis: str, weight: float = 0.0) -> Points:
        """A series over an x axis; with a `weight` its moving average instead."""
        trace = self._trace(name)
        places, gap_places = self._places(trace, axis)
        values = trace.smooth(weight) if weight else trace.values.now
        return Points(places, values, trace.gaps.now.astype(np.int64), gap_places)

    def _places(self, trace: _Trace, axis: str) -> tuple[Floats, Floats]:
        if axis == STEP:
            return trace.steps.now, trace.gap_steps.now
        places = trace.places.setdefault(axis, (_Growing(), _Growing()))
        for grown, steps in zip(places, (trace.steps.now, trace.gap_steps.now), strict=True):
            if grown.size < steps.size:
                grown.append(self.along(axis, steps[grown.size :]))
        return places[0].now, places[1].now

    # ── the x axes ────────────────────────────────────────────────────────────────────────────────────────────

    def _scale(self, axis: str) -> tuple[Floats, Floats]:
        """Steps and what the axis counts at them, both ascending; empty where the run does not say."""
        trace = self._trace(axis)
        risen = trace.risen
        if risen.size < trace.values.size:
            new = np.maximum.accumulate(trace.values.now[risen.size :])
            risen.append(np.maximum(new, risen.now[-1]) if risen.size else new)
        return trace.steps.now, risen.now

    def has_axis(self, axis: str) -> bool:
        """Whether the run says at two steps or more what this axis counts."""
        return axis == STEP or self._trace(axis).values.size > 1

    def along(self, axis: str, steps: Floats) -> Floats:
        """Where steps lie on an axis, interpolated between those that the run tells of."""
        if axis == STEP or not steps.size:
            return steps
        known, places = self._scale(axis)
        return np.interp(steps, known, places) if known.size else steps

    def place_of(self, axis: str, step: float) -> float:
        """Where one step lies on an axis."""
        return float(self.along(axis, np.array([float(step)]))[0])

    def step_at(self, axis: str, place: float) -> float:
        """Which step lies at a place of an axis."""
        if axis == STEP:
            return place
        known, places = self._scale(axis)
        return float(np.interp(place, places, known)) if known.size else place

    def value_at(self, name: str, step: float) -> float | None:
        """The value logged at a step or next after it; None if it is not finite or there is none.

        Unlike the others this costs nothing the first time: a million values need not be sorted for one of them.
        """
        steps, values = self.following.series(name)
        if not steps.size:
            return None
        value = float(values[min(int(steps.searchsorted(int(step))), steps.size - 1)])
        return value if isfinite(value) else None

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    def reading(self, name: str, axis: str, place: float, weight: float = 0.0) -> Reading | None:
        """The value that was logged nearest to a place; None for a series without any."""
        points = self.points(name, axis)
        at, gap = _nearest(points.places, place), _nearest(points.gap_places, place)
        trace = self._trace(name)
        if gap is not None and (at is None or abs(points.gap_places[gap] - place) < abs(points.places[at] - place)):
            return Reading(int(trace.gap_steps.now[gap]), float("nan"), None)
        if at is None:
            return None
        smoothed = float(trace.smooth(weight)[at]) if weight else None
        return Reading(int(trace.steps.now[at]), float(points.values[at]), smoothed)

    def logged_near(self, name: str, axis: str, place: float, by: float) -> float | None:
        """The place of the logged value nearest to `place`, or one at least `by` from it (negative: to its left).

        Where there is none that far it is the last on that side; None for a series without any value.
        """
        points = self.points(name, axis)
        found = []
        for places in (points.places, points.gap_places):
            if not places.size:
                continue
            if by > 0:
                index = int(places.searchsorted(max(place + by, np.nextafter(place, np.inf)), "left"))
            elif by < 0:
                index = int(places.searchsorted(min(place + by, np.nextafter(place, -np.inf)), "right")) - 1
            else:
                index = _nearest(places, place) or 0
            found.append(float(places[min(max(index, 0), places.size - 1)]))
        beyond = [one for one in found if by == 0 or (one - place) * by > 0]
        return min(beyond or found, key=lambda one: abs(one - place - by), default=None)


def _nearest(places: Floats, place: float) -> int | None:
    if not places.size:
        return None
    index = int(places.searchsorted(place))
    around = [one for one in (index - 1, index) if 0 <= one < places.size]
    return min(around, key=lambda one: abs(float(places[one]) - place))
