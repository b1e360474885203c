"""A run's metrics as they come in: a short file at once, a long one beside what else goes on, with a preview of it."""

import threading
from pathlib import Path
from time import monotonic

from minigpt.long_metrics import LongRead
from minigpt.metrics import Metrics

_LONG_FROM = 4 << 20  # bytes, some 16,000 rows: a shorter file is read before anybody notices
BITE = 256 << 10  # bytes between two looks at the clock: some milliseconds


class MetricsFeed:
    """Reads one metrics.jsonl by `poll`, for the thread that draws.

    A file of more than `long_from` bytes is first read by a thread and a process of its own. With `keep_cache` what
    was read is kept beside it, again and again as it grows: then it is there at once the next time.
    """

    def __init__(self, path: Path, *, keep_cache: bool = False, long_from: int = _LONG_FROM) -> None:
        self.metrics = Metrics(path)
        """What is known so far: nothing or a preview, until a long file is read."""
        self.is_preview = False
        """Whether that is only some rows of the file."""
        self.share_read = 1.0
        """How much of the file has been read, 0 to 1."""
        self._path = path
        self._keep_cache = keep_cache
        self._long_from = long_from
        self._began = False
        self._long_read: LongRead | None = None
        self._writing: threading.Thread | None = None
        self._cached = 0
        """Up to which offset of the file the cache goes."""

    def poll(self, deadline: float) -> tuple[bool, bool]:
        """Read at least one bite, and more until `deadline`; whether anything is new, and whether there is more."""
        size = size_of(self._path)
        if not self._began:
            self._began = True
            self._long_read = LongRead(self._path) if size > self._long_from else None
        if self._long_read is not None:
            return self._look_at(self._long_read)
        grown, before = False, -1
        while self.metrics.offset != before and (before < 0 or monotonic() < deadline):
            before = self.metrics.offset
            grown |= self.metrics.poll(BITE)
        behind = self.metrics.offset != before and self.metrics.offset < size
        self.share_read = min(1.0, self.metrics.offset / size) if behind else 1.0
        # Each time it is a fifth longer: all in all a few times what is written once.
        if self.metrics.offset - self._cached > max(self._long_from, self._cached // 4):
            self._write_cache()
        return grown, behind

    def _look_at(self, reading: LongRead) -> tuple[bool, bool]:
        self.share_read = reading.share
        if reading.metrics is not None:
            self.metrics, self._cached, self._long_read = reading.metrics, reading.cached, None
            self.is_preview = False
            return True, True
        if reading.preview is None or self.is_preview:
            return False, True
        self.metrics, self.is_preview = reading.preview, True
        return True, True

    def _write_cache(self) -> None:
        if not self._keep_cache or self._writing is not None:
            return
        keep, self._cached = self.metrics.prepare_cache(), self.metrics.offset

        def write() -> None:
            keep()
            self._writing = None

        # Not a daemon: whoever quits now waits for it, a second at most, rather than that it has to be done again.
        self._writing = threading.Thread(target=write, name="writing the cache of metrics")
        self._writing.start()

    def close(self) -> None:
        """Read no further, and keep what was read if that is worth it. Returns at once."""
        if self._long_read is not None:
            self._long_read.stop()
            return
        uncovered = self.metrics.offset - self._cached
        if self.metrics.offset > self._long_from and uncovered > max(self._long_from // 4, self._cached // 32):
            self._write_cache()


def size_of(path: Path) -> int:
    """The bytes in a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
