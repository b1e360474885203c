"""How often something may be drawn: from what drawing it costs, and from what the connection takes."""

BUDGET = 0.003
"""The share of one core that redrawing the charts may take: the trainer's thread pays for it several times over."""

SHORTEST = 4.0  # seconds
LONGEST = 30.0
EAGER_FOR = 10.0
"""For so long after the start, or after a change that somebody waits for, SHORTEST_EAGER holds instead."""
SHORTEST_EAGER = 0.5
SLACK = 0.25
"""Timers come a little early as well as late."""
FRAME = 2.0  # seconds between two frames of numbers

# With low bandwidth: a frame of numbers is some hundred bytes, the charts are one or two thousand.
FRUGAL_SHORTEST, FRUGAL_LONGEST, FRUGAL_EAGER, FRUGAL_FRAME = 30.0, 120.0, 5.0, 10.0


class Pace:
    """Says when the next drawing is due. Times are those of `time.monotonic`."""

    def __init__(self, *, low_bandwidth: bool = False) -> None:
        self.low_bandwidth = low_bandwidth
        self._shortest, self._longest, self._eager, self._frame = (
            (FRUGAL_SHORTEST, FRUGAL_LONGEST, FRUGAL_EAGER, FRUGAL_FRAME)
            if low_bandwidth
            else (SHORTEST, LONGEST, SHORTEST_EAGER, FRAME)
        )
        self._cost = 0.0
        self._drawn = float("-inf")
        self._began: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether it is time to draw again."""
        if self._began is None:
            self._began = now
        return now - self._drawn >= self.interval(now) - SLACK

    def is_eager(self, now: float) -> bool:
        """Whether somebody may be waiting for the first points."""
        return self._began is None or now - self._began < EAGER_FOR

    def interval(self, now: float) -> float:
        """Seconds that have to lie between two drawings of the charts."""
        if self.is_eager(now):
            return self._eager
        return min(self._longest, max(self._shortest, self._cost / BUDGET))

    def frame(self, now: float) -> float:
        """Seconds that have to lie between two frames of the numbers."""
        return self._eager if self.is_eager(now) else self._frame

    def spent(self, seconds: float, now: float) -> None:
        """Note what the drawing that began at `now` has cost."""
        # Half of the old: one drawing that met with something else does not set the pace.
        self._cost = seconds if not self._cost else (self._cost + seconds) / 2
        self._drawn = now

    def hurry(self) -> None:
        """Something happened that somebody waits for."""
        self._began = None
