"""Reading a metrics.jsonl of a million rows beside what else goes on: a preview at once, then all of it."""

import os
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from minigpt.files import open_regular
from minigpt.indexing import Indexing
from minigpt.journal import rows_in
from minigpt.metrics import Metrics

_PLACES = 1024  # of the preview: more than a chart has columns
_FEWEST_PLACES = 64
_PREVIEW_TIME = 0.2  # seconds after which the preview has as many places as it has
_BLOCK = 32 << 10  # bytes read at each of them: the row of an evaluation is likely to be in it
_TAIL = 64 << 10
_HEAD_START = 0.6  # seconds from the preview until the rest is read
_WORTH_A_PROCESS = 4 << 20  # bytes; fewer are read in half a second
_BITE = 1 << 16  # bytes; what this holds the interpreter's lock for is not noticed
_indexing = threading.Lock()  # one file at a time, however many runs are compared


def preview_of(path: Path) -> Metrics | None:
    """Metrics that know only some rows, evenly spread over the file, and all of its end; None if there are none."""
    lines: dict[int, bytes] = {}
    try:
        with open_regular(path) as file:
            descriptor, size = file.fileno(), os.fstat(file.fileno()).st_size
            _take_lines(
                lines, os.pread(descriptor, _TAIL, max(0, size - _TAIL)), max(0, size - _TAIL), all_of_them=True
            )
            began = time.monotonic()
            for taken, share in enumerate(_spread(_PLACES)):
                if taken >= _FEWEST_PLACES and time.monotonic() - began > _PREVIEW_TIME:
                    break
                place = int(share * size)
                _take_lines(lines, os.pread(descriptor, _BLOCK, place), place)
    except OSError:
        return None
    metrics = Metrics(path)
    metrics.take(rows_in(b"".join(line + b"\n" for _, line in sorted(lines.items()))))
    return metrics if metrics.last else None


def _spread(count: int) -> list[float]:
    """Places from 0 to 1, of which the first 2, 4, 8 and so on are evenly spread; `count` is a power of two."""
    places = [0.0]
    while len(places) < count:
        places += [place + 0.5 / len(places) for place in places]
    return places


def _take_lines(lines: dict[int, bytes], data: bytes, at: int, *, all_of_them: bool = False) -> None:
    """Of what stands at a place in the file: the first whole line, and the first with an evaluation."""
    begin = data.find(b"\n") + 1 if at else 0
    end = data.find(b"\n", begin)
    if end < 0 or (at and not begin):
        return
    lines[at + begin] = data[begin:end]
    if all_of_them:
        for line in data[end + 1 : data.rfind(b"\n") + 1].splitlines(keepends=True):
            lines[at + end + 1] = line.rstrip(b"\n")
            end += len(line)
    elif (found := data.find(b'"val_loss"', end)) >= 0:
        begin, end = data.rfind(b"\n", 0, found) + 1, data.find(b"\n", found)
        if end >= 0:
            lines[at + begin] = data[begin:end]


class LongRead:
    """Reads a file in a thread; whoever started it looks now and then what has come of it."""

    def __init__(self, path: Path) -> None:
        self.preview: Metrics | None = None
        """Some rows of the file, soon after the beginning."""
        self.metrics: Metrics | None = None
        """Once it is done, the whole file; then the thread has nothing more to do with it."""
        self.cached = 0
        """Up to which offset the cache beside the file knows it."""
        self._path = path
        self._stopped = threading.Event()
        self._reading = Metrics(path)
        self._thread = threading.Thread(target=self._run, name="reading metrics", daemon=True)
        self._thread.start()

    @property
    def share(self) -> float:
        """How much of the file has been read, 0 to 1."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return 1.0
        return min(1.0, self._reading.offset / size) if size else 1.0

    def stop(self) -> None:
        """Read no further. Returns at once."""
        self._stopped.set()

    def _run(self) -> None:
        read = Metrics(self._path)  # nothing of it, should something go wrong: whoever polls then reads it all
        try:
            self.preview = preview_of(self._path)
            self._read()
            read = self._reading
        finally:
            if not self._stopped.is_set():
                self.metrics = read

    def _read(self) -> None:
        metrics = self._reading
        if metrics.read_cache():
            self.cached = metrics.offset
        # Not beside whoever draws the preview: the processes take every core.
        if self._rest() > _WORTH_A_PROCESS and not self._stopped.wait(_HEAD_START):
            with _indexing:
                self._index()
        # What has been written meanwhile; everything, if there could be no such process.
        before = -1
        while not self._stopped.is_set() and metrics.offset != before:
            before = metrics.offset
            metrics.poll(_BITE)

    def _rest(self) -> int:
        try:
            return self._path.stat().st_size - self._reading.offset
        except OSError:
            return 0

    def _index(self) -> None:
        metrics = self._reading
        with suppress(OSError), open_regular(self._path) as file:
            if self._stopped.is_set() or not metrics.begins_with(os.fstat(file.fileno()).st_ino):
                return
            with closing(Indexing(file, metrics.offset)) as indexing:
                for begin, end, batch in indexing.batches():
                    if self._stopped.is_set() or begin != metrics.offset or not metrics.go_on(batch, end):
                        return
