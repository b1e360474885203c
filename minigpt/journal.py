"""Append-only JSONL files: metrics, events and samples, written by one process and tailed by any number."""

import errno
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from minigpt.files import open_regular, sync_path

Row = dict[str, Any]

_LONGEST_LINE = 4 << 20  # bytes; the longest sample takes less
_decode = json.JSONDecoder().raw_decode


def _json_safe(value: Any) -> Any:
    # JSON has no nan and inf; a number that is none is written as null and read as a gap.
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _json_safe(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(entry) for entry in value]
    return value


class JournalWriter:
    """Appends rows to one JSONL file, each by a single write, so that a killed process leaves at most one torn line.

    A row that cannot be written, on a full disk or in a directory that is gone, is kept and comes before the next one:
    whoever appends goes on. Only the holder of the run's lock opens one. Rows may come from several threads.

    `may_make_again` is asked before a file that has vanished is written anew: where a directory was deleted as a whole
    another run may lie by now.
    """

    def __init__(self, path: Path, may_make_again: Callable[[], bool] = lambda: True) -> None:
        self.path = path
        self._may_make_again = may_make_again
        self._lock = threading.RLock()
        self._waiting: list[bytes] = []
        self._torn_from: int | None = None
        """Where half a row begins that could not be cut off."""
        self._has_durable_name = False
        self.error: OSError | None = None
        """Why the newest rows are not in the file."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._cut_torn_tail()

    def _cut_torn_tail(self) -> None:
        # The torn line belongs to a process that is gone.
        end = os.fstat(self._descriptor).st_size
        position = end
        while position > 0:
            if end - position > _LONGEST_LINE:  # no row of ours: readers skip it, once it has an end
                with suppress(OSError):
                    os.write(self._descriptor, b"\n")
                return
            start = max(0, position - 65536)
            newline = os.pread(self._descriptor, position - start, start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            os.ftruncate(self._descriptor, position)

    def append(self, row: Row) -> None:
        """Write one row, or keep it until it can be written."""
        line = (json.dumps(_json_safe(row), allow_nan=False) + "\n").encode()
        with self._lock, suppress(OSError):
            self._waiting.append(line)
            self.flush()

    @property
    def waiting(self) -> int:
        """How many rows are not in the file yet."""
        return len(self._waiting)

    def flush(self) -> None:
        """Write the rows that wait. Raises OSError; the file then ends at a whole line all the same."""
        with self._lock:
            try:
                self._flush()
            except OSError as error:
                self.error = error
                raise
            self.error = None

    def _flush(self) -> None:
        while self._waiting:
            self.make_again()
            if self._torn_from is not None:
                os.ftruncate(self._descriptor, self._torn_from)
                self._torn_from = None
            line = self._waiting[0]
            size = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, line)
            if written < len(line):  # the disk filled up in the middle of the line
                self._torn_from = size
                os.ftruncate(self._descriptor, size)
                self._torn_from = None
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._waiting.pop(0)

    def is_in_place(self) -> bool:
        """Whether the file that rows go to is the one that lies under its path: not deleted, moved or replaced."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def make_again(self) -> None:
        """Write the file anew if it is not in its place. Raises OSError, also if another one is, or it may not be."""
        with self._lock:
            if not self.is_in_place():
                self._make_again()

    def _make_again(self) -> None:
        if not self._may_make_again():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        # What is open can still be read, although it has no name any more.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            offset = 0
            while data := os.pread(self._descriptor, 1 << 20, offset):
                offset += len(data)
                while data:
                    data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)  # a checkpoint may vouch for these rows already
            sync_path(self.path.parent)
            # Under the same number: another thread may be about to `sync` it.
            os.dup2(descriptor, self._descriptor, inheritable=False)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Make what was written durable, also against a power cut. Raises OSError. May be called from any thread."""
        os.fsync(self._descriptor)
        if not self._has_durable_name:
            sync_path(self.path.parent)
            self._has_durable_name = True

    def close(self) -> None:
        """Give the file back; what was appended is in the hands of the system already, if there is room for it."""
        with suppress(OSError):
            self.flush()
        os.close(self._descriptor)


class JournalTail:
    """Follows a JSONL file that another thread or process appends to.

    `poll` returns the rows completed since the last call. A line without its newline is left for the next call; one
    that is no JSON object, or longer than 4 MiB, is skipped. A file that shrank (it was cut or replaced) is read from
    the start again, and `restarts` counts that, so that a caller can drop what it had.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.restarts = 0
        self.offset = offset
        self._inode = -1

    def poll(self, limit: int = 32 << 20) -> list[Row]:
        """Read at most `limit` further bytes, or a longer line, and return their rows, oldest first.

        None while the file is missing.
        """
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                if self._inode not in (-1, status.st_ino) or status.st_size < self.offset:
                    self.offset = 0
                    self.restarts += 1
                self._inode = status.st_ino
                if status.st_size == self.offset:
                    return []
                file.seek(self.offset)
                data = file.read(limit)
                end = data.rfind(b"\n") + 1
                if not end and len(data) == limit < _LONGEST_LINE:
                    # The line is longer than the bite: whatever the bites are, the same lines are read.
                    data += file.read(_LONGEST_LINE - limit)
                    end = data.rfind(b"\n") + 1
                begin, self.offset = self.offset, self.offset + end
                if not end and len(data) >= _LONGEST_LINE:
                    # Rubbish without newlines: pass it over instead of reading it again for ever.
                    self.offset = _next_data(file.fileno(), begin + len(data), status.st_size)
        except OSError:
            return []
        return rows_in(data[:end])

    @property
    def inode(self) -> int:
        """The file that it has read from; -1 before the first look."""
        return self._inode

    def go_on_from(self, offset: int, inode: int) -> None:
        """Begin at `offset` of the file with this inode: what comes before is known already."""
        self.offset, self._inode = offset, inode


def rows_in(data: bytes) -> list[Row]:
    """The rows in whole lines of a JSONL file. Lines that are no JSON objects, or longer than 4 MiB, are skipped."""
    try:
        text = data.decode() if b"\r" not in data else ""
    except UnicodeDecodeError:
        text = ""
    rows: list[Row] = []
    if not text:
        for encoded in data.splitlines():
            _add_row(rows, encoded)
        return rows
    # Nearly every line is as our writer makes them. The decoder alone takes two thirds of the time of `json.loads`,
    # which first finds out how a line is encoded; a line that it does not take whole is left to `json.loads`.
    for line in text.split("\n"):
        if line.startswith('{"') and len(line) <= _LONGEST_LINE // 4:
            try:
                row, end = _decode(line)
            except (ValueError, RecursionError):
                end = -1
            if end == len(line):
                rows.append(row)
                continue
        if line:
            _add_row(rows, line.encode())
    return rows


def _add_row(rows: list[Row], line: bytes) -> None:
    try:
        row = json.loads(line) if len(line) <= _LONGEST_LINE else None
    except (ValueError, RecursionError):
        return
    if isinstance(row, dict):
        rows.append(row)


def _next_data(descriptor: int, offset: int, size: int) -> int:
    # Past a hole: a file may claim a terabyte of zeros and take no room.
    if not hasattr(os, "SEEK_DATA") or offset >= size:
        return offset
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # nothing but a hole up to the end
        return size


def journal_rows(path: Path) -> Iterator[Row]:
    """The whole rows of a JSONL file one by one, oldest first; none when it is missing."""
    tail = JournalTail(path)
    before = -1
    while tail.offset != before:
        before = tail.offset
        yield from tail.poll()


def read_journal(path: Path) -> list[Row]:
    """All whole rows of a JSONL file, oldest first; none when it is missing."""
    return list(journal_rows(path))


# ── what a row may hold ───────────────────────────────────────────────────────────────────────────────────────────


def count_in(row: Row, key: str) -> int | None:
    """The whole number from 0 on that stands at a key, as a step does; None for anything else."""
    value = row.get(key)
    return value if type(value) is int and 0 <= value < 2**62 else None


def number_in(row: Row, key: str) -> float | None:
    """The number that stands at a key, which may be infinite or nan; None for anything else."""
    value = row.get(key)
    if type(value) is float:
        return value
    # A whole number of thousands of digits fits into no float.
    return float(value) if type(value) is int and abs(value) < 2**1000 else None


def text_in(row: Row, key: str) -> str:
    """The text that stands at a key, as it stands; empty for anything else."""
    value = row.get(key)
    return value if isinstance(value, str) else ""
