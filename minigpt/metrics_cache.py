"""What was read of a long metrics.jsonl, as columns of bytes beside it: opened again, it need not be read again.

The file repeats what metrics.jsonl says and may be deleted at any time. One that does not belong to the metrics.jsonl
beside it, or is damaged, counts as none. Nothing in it can execute: it is a header of JSON and plain numbers.
"""

import hashlib
import json
import math
import os
import shutil
import stat
import struct
import sys
import time
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from minigpt.columns import NOT_COLUMNS, Column, Table
from minigpt.files import open_regular, write_atomically
from minigpt.journal import Row, count_in

_MAGIC = b"minigpt columns\n"
_VERSION = 1
_PREFIX = struct.Struct("<16sII")  # magic, bytes of the header, its checksum
_SUFFIX = struct.Struct("<I")  # the checksum of the numbers
_LARGEST_HEADER = 4 << 20
_LARGEST = 1 << 30  # bytes of numbers: some ten million rows
_MOST_COLUMNS = 200
_PIECE = 1 << 20
_SPARE = 1 << 14  # cells after the last row, so that the next ones do not move everything
_ROOM_LEFT = 1 << 30  # bytes that a training's own files must find on the disk
_LEFT_OVER = 3600.0  # seconds after which nobody is writing a temporary file any more


@dataclass(frozen=True)
class Contents:
    """What is known of a metrics.jsonl up to an offset."""

    offset: int
    attempt: int
    last: Row
    recoveries: list[tuple[int, int, int]]
    """Attempt, step reached before, step resumed from."""
    improvements: list[tuple[int, float]]
    table: Table


def cache_file(metrics_file: Path) -> Path:
    """Where the columns of a metrics.jsonl are kept."""
    return metrics_file.parent / "cache" / "metrics.columns"


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────


def read_cache(metrics_file: Path) -> tuple[Contents, int] | None:
    """What is kept of a metrics.jsonl, and the inode of that file; None if nothing that is right."""
    path = cache_file(metrics_file)
    try:
        if not stat.S_ISDIR(path.parent.lstat().st_mode):
            return None
        with open_regular(path) as file, open_regular(metrics_file) as source:
            return _read(file, source), os.fstat(source.fileno()).st_ino
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, MemoryError):
        return None


def _read(file: BufferedReader, source: BufferedReader) -> Contents:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX.size)
    _require(len(prefix) == _PREFIX.size)
    magic, length, checksum = _PREFIX.unpack(prefix)
    _require(magic == _MAGIC and length <= _LARGEST_HEADER)
    written = file.read(length)
    _require(len(written) == length and zlib.crc32(written) == checksum)
    header = json.loads(written)
    offset = _count(header, "offset")
    _require(header["version"] == _VERSION and header["byteorder"] == sys.byteorder)
    _require(os.fstat(source.fileno()).st_size >= offset and header["digest"] == _digest(source, offset))
    groups: list[tuple[int, list[str]]] = [(_count(each, "rows"), each["names"]) for each in header["groups"]]
    names = [name for _, of_group in groups for name in of_group]
    order = header["order"]
    _require(all(type(name) is str for name in names) and max(len(names), len(groups)) <= _MOST_COLUMNS)
    _require(len(set(names)) == len(names) and sorted(names) == sorted(order) and not NOT_COLUMNS & set(names))
    improvements = _count(header, "improvements")
    cells = 2 * improvements + sum(rows * (1 + len(of_group)) for rows, of_group in groups)
    # Each row has taken more than eight bytes: no number here can ask for more memory than the file takes.
    _require(all(rows <= offset // 8 for rows in [improvements, *(rows for rows, _ in groups)]))
    _require(8 * cells <= _LARGEST and size == _PREFIX.size + length + 8 * cells + _SUFFIX.size)

    numbers = _Numbers(file)
    last, attempt = header["last"], _count(header, "attempt")
    final = count_in(last, "step") if last else -1
    _require(type(last) is dict and final is not None)
    table = Table.of([(numbers.steps(rows, final), {name: numbers.values(rows) for name in of_group})
                      for rows, of_group in groups], order)  # fmt: skip
    best_steps, best_losses = numbers.steps(improvements, final), numbers.values(improvements)
    _require(_SUFFIX.unpack(file.read(_SUFFIX.size))[0] == numbers.checksum)
    recoveries = [(_number(a), _number(b), _number(c)) for a, b, c in header["recoveries"]]
    improved = list(zip(best_steps.numbers(), best_losses.numbers(), strict=True))
    _require(all(math.isfinite(loss) for _, loss in improved))
    return Contents(offset, attempt, last, recoveries, improved, table)


class _Numbers:
    """Reads the columns one after the other."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.checksum = 0

    def steps(self, rows: int, final: int | None) -> Column:
        import numpy as np

        column = self._column("q", rows)
        steps = column.view()
        _require(not rows or (steps[0] >= 0 and final is not None and steps[-1] <= final))
        _require(all(bool((np.diff(steps[at : at + _PIECE]) > 0).all()) for at in range(0, rows, _PIECE - 1)))
        return column

    def values(self, rows: int) -> Column:
        return self._column("d", rows)

    def _column(self, typecode: str, rows: int) -> Column:
        cells: array[Any] = array(typecode, bytes(8)) * (rows + min(rows, _SPARE))
        memory = memoryview(cells).cast("B")[: 8 * rows]
        for at in range(0, 8 * rows, _PIECE):
            piece = memory[at : at + _PIECE]
            _require(self._file.readinto(piece) == len(piece))
            self.checksum = zlib.crc32(piece, self.checksum)
        return Column(typecode, cells, rows)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("not the columns of this file")


def _number(value: Any) -> int:
    return _count({"": value}, "")


def _count(row: Any, key: str) -> int:
    count = count_in(row, key)
    if count is None:
        raise ValueError(f"no number: {key}")
    return count


def _digest(source: BufferedReader, offset: int) -> str:
    """Of the beginning, the end and some places between: a file that only grew has the same, and hardly another one."""
    digest = hashlib.sha256(str(offset).encode())
    ends = [(0, _PIECE // 16), (max(0, offset - _PIECE // 16), offset)]
    between = [(at, at + 4096) for at in (offset * share // 32 for share in range(1, 32))]
    for begin, end in ends + between:
        digest.update(os.pread(source.fileno(), min(end, offset) - begin, begin))
    return digest.hexdigest()


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def write_cache(metrics_file: Path, inode: int, prepared: "Prepared") -> bool:
    """Keep columns beside a metrics.jsonl, for whoever opens the run next; whether that worked.

    Takes up to a second: not for the thread that draws. Writes nothing over a link, or where the disk is nearly full.
    """
    path = cache_file(metrics_file)
    try:
        with open_regular(metrics_file) as source:
            if os.fstat(source.fileno()).st_ino != inode:
                return False
            head = prepared.header(_digest(source, prepared.offset))
        if len(head) > _LARGEST_HEADER or prepared.size > _LARGEST:
            return False
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        if not stat.S_ISDIR(path.parent.lstat().st_mode):
            return False
        _sweep(path)
        if shutil.disk_usage(path.parent).free < prepared.size + _ROOM_LEFT:
            return False
        write_atomically(path, prepared.pieces(head), mode=0o600)
    except (OSError, ValueError, TypeError, RecursionError):
        return False
    return True


def _sweep(path: Path) -> None:
    # What a viewer that was killed had begun to write.
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > _LEFT_OVER:
                left.unlink()


class Prepared:
    """Columns as they are at this moment, to be written by another thread while they grow."""

    def __init__(self, contents: Contents) -> None:
        self.offset = contents.offset
        self._contents = contents
        steps = array("q", [step for step, _ in contents.improvements])
        losses = array("d", [loss for _, loss in contents.improvements])
        self._header = {
            "version": _VERSION,
            "byteorder": sys.byteorder,
            "offset": contents.offset,
            "attempt": contents.attempt,
            "last": contents.last,
            "recoveries": contents.recoveries,
            "improvements": len(steps),
            "groups": [{"rows": steps.size, "names": list(values)} for steps, values in contents.table.groups()],
            "order": contents.table.order(),
        }
        columns = [column for steps, values in contents.table.groups() for column in (steps, *values.values())]
        self._memory = [column.memory().cast("B") for column in columns]
        self._memory += [memoryview(steps).cast("B"), memoryview(losses).cast("B")]
        self.size = sum(memory.nbytes for memory in self._memory)

    def header(self, digest: str) -> bytes:
        """What comes before the numbers."""
        return json.dumps({**self._header, "digest": digest}).encode()

    def pieces(self, header: bytes) -> Iterator[bytes | memoryview]:
        """The whole file, piece by piece."""
        yield _PREFIX.pack(_MAGIC, len(header), zlib.crc32(header))
        yield header
        checksum = 0
        for memory in self._memory:
            for at in range(0, memory.nbytes, _PIECE):
                piece = memory[at : at + _PIECE]
                checksum = zlib.crc32(piece, checksum)
                yield piece
        yield _SUFFIX.pack(checksum)
