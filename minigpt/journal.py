"""Append-only JSONL files: metrics, events and samples, written by one process and tailed by any number."""

import json
import math
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_LONGEST_LINE = 8 << 20


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
    """Appends rows to one JSONL file, each by a single write, so that a killed process leaves at most one torn line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._cut_torn_tail()

    def _cut_torn_tail(self) -> None:
        # Only the holder of the run's lock opens a writer, so the torn line belongs to a process that is gone.
        end = os.fstat(self._descriptor).st_size
        position = end
        while position > 0:
            start = max(0, position - 65536)
            newline = os.pread(self._descriptor, position - start, start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            os.ftruncate(self._descriptor, position)

    def append(self, row: Row) -> None:
        """Write one row. Raises OSError when the disk is full or gone; the file then ends at a whole line again."""
        line = (json.dumps(_json_safe(row), allow_nan=False) + "\n").encode()
        size = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, line)
        if written < len(line):  # the disk filled up in the middle of the line
            os.ftruncate(self._descriptor, size)
            raise OSError(28, "No space left on device", str(self.path))

    def sync(self) -> None:
        """Make all rows so far durable, also against a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the file back; what was appended is in the hands of the system already."""
        os.close(self._descriptor)


class JournalTail:
    """Follows a JSONL file that another thread or process appends to.

    `poll` returns the rows completed since the last call. A line without its newline is left for the next call;
    one that is no JSON object is skipped. A file that shrank (it was cut or replaced) is read from the start
    again, and `restarts` counts that, so that a caller can drop what it had.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.restarts = 0
        self.offset = offset
        self._inode = -1

    def poll(self, limit: int = 32 << 20) -> list[Row]:
        """Read at most `limit` further bytes and return their rows, oldest first; none while the file is missing."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if self._inode not in (-1, status.st_ino) or status.st_size < self.offset:
                    self.offset = 0
                    self.restarts += 1
                self._inode = status.st_ino
                if status.st_size == self.offset:
                    return []
                file.seek(self.offset)
                data = file.read(limit)
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= min(limit, _LONGEST_LINE):
            end = len(data)  # rubbish without newlines: pass it over instead of reading it again for ever
        self.offset += end
        rows = []
        for line in data[:end].splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows


def read_journal(path: Path) -> list[Row]:
    """All whole rows of a JSONL file, oldest first; none when it is missing."""
    tail = JournalTail(path)
    rows: list[Row] = []
    before = -1
    while tail.offset != before:
        before = tail.offset
        rows.extend(tail.poll())
    return rows
