"""What the dashboard itself costs: the share of a core that its thread takes, and what it sends to the terminal."""

from collections import deque
from collections.abc import Callable
from time import monotonic, thread_time

WINDOW = 30.0  # seconds over which it is told


class Cost:
    """Measured in the thread that calls; `sent` tells how many bytes went to the terminal so far, None if unknown."""

    def __init__(self, sent: Callable[[], int | None] = lambda: None) -> None:
        self._sent = sent
        self._marks: deque[tuple[float, float, int | None]] = deque()

    def words(self) -> str:
        """Over the last half minute: `screen 0.4% of a core, 1.6 kB/s`; empty before there is anything to tell."""
        now = (monotonic(), thread_time(), self._sent())
        self._marks.append(now)
        while len(self._marks) > 2 and now[0] - self._marks[1][0] >= WINDOW:
            self._marks.popleft()
        first = self._marks[0]
        passed = now[0] - first[0]
        if passed < WINDOW / 3:
            return ""
        share = f"screen {(now[1] - first[1]) / passed:.1%} of a core"
        if now[2] is None or first[2] is None:
            return share
        return f"{share}, {(now[2] - first[2]) / passed / 1000:.1f} kB/s"
