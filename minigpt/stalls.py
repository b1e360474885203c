"""A training that stands still, noticed and told by a thread beside it: its own cannot say so."""

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from types import TracebackType

SHORTEST_STALL = 60.0  # seconds without a sign of life
STALL_INTERVALS = 10  # of the usual ones between two
LOOK_INTERVAL = 2.0
_LONGEST_LOOK = 10.0  # seconds between two looks that count as watching: the whole process may have been stopped
_STEPS = 20  # from which the usual time of one is told


class StallWatch:
    """Watches for the time in which it is entered whether signs of life come, and calls `tell` when none did for long.

    That is called from another thread: with True when the training stands still and with False when it goes on, and the
    words for it. Before two steps are done nothing counts as a stall: the first may be compiled for minutes.
    """

    def __init__(self, tell: Callable[[bool, str], None]) -> None:
        self._tell = tell
        self._signs = 0
        self._steps: deque[float] = deque(maxlen=_STEPS)
        """When the last steps were done."""
        self._looked_at = time.monotonic()
        self._signs_seen = -1
        self._waited = 0.0
        """Seconds of watching without a sign."""
        self._stopped = 0.0
        """Seconds since the last sign in which not even this watch ran."""
        self._told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> "StallWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def sign_of_life(self) -> None:
        """Something goes on, be it a part of an evaluation or the waiting of a pause. For the training's thread."""
        self._signs += 1

    def step_done(self) -> None:
        """So does the training itself."""
        self._signs += 1
        self._steps.append(time.monotonic())

    def _watch(self) -> None:
        self._looked_at = time.monotonic()
        while not self._ended.wait(LOOK_INTERVAL):
            self.look()

    def look(self) -> None:
        """See what has come since the last look."""
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        if passed >= SHORTEST_STALL:
            self._stopped += passed
        if self._signs != self._signs_seen or len(self._steps) < 2:
            after = [f"{_words(self._waited)} without a sign of life"] if self._told else []
            # Stopped, asleep, or only kept from running by something that held the interpreter's lock.
            after += [f"{_words(self._stopped)} in which nothing ran"] if self._stopped else []
            if after:
                self._tell(False, f"the training goes on, after {' and '.join(after)}")
            self._signs_seen, self._waited, self._stopped, self._told = self._signs, 0.0, 0.0, False
            return
        self._waited += min(passed, _LONGEST_LOOK)
        # A list of them: the training's thread goes on adding.
        usual = median(after - before for before, after in pairwise(list(self._steps)))
        if not self._told and self._waited >= max(SHORTEST_STALL, STALL_INTERVALS * usual):
            self._told = True
            words = f"the training has stood still for {_words(self._waited)}; usually a step takes {_words(usual)}"
            self._tell(True, f"{words}. The process is still there.")


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
