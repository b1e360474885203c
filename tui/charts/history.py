"""The last minutes of one figure, as a line of text."""

from collections import deque

SLOT = 15.0
"""Seconds in one character: the line moves on four times a minute, and so costs a slow connection next to nothing."""

_MOST = 240  # characters: an hour
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.:-=+*#"


class History:
    """Takes a figure whenever there is one, and draws the mean of each slot of time."""

    def __init__(self) -> None:
        self._past: deque[float | None] = deque(maxlen=_MOST)
        self._slot: int | None = None
        self._sum = 0.0
        self._count = 0

    def take(self, value: float | None, now: float) -> None:
        """Note the figure at a time in seconds, on any clock that only goes forward; None where it was not told."""
        slot = int(now // SLOT)
        if self._slot is not None and slot > self._slot:
            self._past.append(self._mean())
            self._past.extend([None] * min(_MOST, slot - self._slot - 1))
            self._sum, self._count = 0.0, 0
        self._slot = slot
        if value is not None:
            self._sum += value
            self._count += 1

    def _mean(self) -> float | None:
        return self._sum / self._count if self._count else None

    def line(self, width: int, low: float, high: float, *, ascii: bool = False) -> str:
        """The newest `width` slots between two levels, the newest on the right; blank where nothing was told."""
        if width <= 0:
            return ""
        levels = _ASCII if ascii else _BLOCKS
        values = [*self._past, self._mean()][-width:]
        span = max(high - low, 1e-9)
        drawn = (" " if value is None else levels[max(0, min(7, int((value - low) / span * 8)))] for value in values)
        return "".join(drawn).rjust(width)
