"""How often something may be drawn, from what drawing it costs."""

BUDGET = 0.003
"""The share of one core that redrawing the charts may take: the trainer's thread pays for it several times over."""

SHORTEST = 4.0  # seconds
LONGEST = 30.0
EAGER_FOR = 10.0
"""For so long after the start, or after a change that somebody waits for, SHORTEST_EAGER holds instead."""
SHORTEST_EAGER = 0.5
SLACK = 0.25
"""Timers come a little early as well as late."""


class Pace:
    """Says when the next drawing is due. Times are those of `time.monotonic`."""

    def __init__(self) -> None:
        self._cost = 0.0
        self._drawn = -LONGEST
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
        """Seconds that have to lie between two drawings."""
        if self.is_eager(now):
            return SHORTEST_EAGER
        return min(LONGEST, max(SHORTEST, self._cost / BUDGET))

    def spent(self, seconds: float, now: float) -> None:
        """Note what the drawing that began at `now` has cost."""
        # Half of the old: one drawing that met with something else does not set the pace.
        self._cost = seconds if not self._cost else (self._cost + seconds) / 2
        self._drawn = now

    def hurry(self) -> None:
        """Something happened that somebody waits for."""
        self._began = None
