"""The time of a training: a pause is none, and what is done besides steps does not count into the throughput."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts seconds of training from `elapsed` on, and those spent on steps since the last row of metrics."""

    def __init__(self, elapsed: float) -> None:
        self._paused_at: float | None = None
        self._besides_before_pause = 0.0
        self.set_back(elapsed)

    def set_back(self, elapsed: float) -> None:
        """Count from `elapsed` on, and a new row; if it stands still it goes on doing so."""
        self._before = elapsed
        self._started = self._row_began = time.perf_counter()
        self._besides = 0.0
        if self.paused:
            self.pause()

    def elapsed(self) -> float:
        """Seconds of training, earlier attempts included."""
        now = time.perf_counter() if self._paused_at is None else self._paused_at
        return self._before + now - self._started

    @contextmanager
    def besides(self) -> Iterator[None]:
        """What happens in here takes training time, but is no step."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._besides += time.perf_counter() - began

    def new_row(self) -> float:
        """Begin the next row; the seconds that the steps of the last one took."""
        now = time.perf_counter()
        seconds = max(1e-9, now - self._row_began - self._besides)
        self._row_began, self._besides = now, 0.0
        return seconds

    # ── pauses ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._paused_at is not None

    def pause(self) -> None:
        """Stand still."""
        self._paused_at, self._besides_before_pause = time.perf_counter(), self._besides

    def go_on(self) -> None:
        """Run again after a pause; what was done in it besides is not counted twice."""
        assert self._paused_at is not None
        pause = time.perf_counter() - self._paused_at
        self._started += pause
        self._besides = self._besides_before_pause + pause
        self._paused_at = None
