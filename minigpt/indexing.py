"""`python -m minigpt.indexing OFFSET`: turns the rows of the metrics.jsonl on its standard input into columns.

Reading a million rows takes seconds of Python. In a process of its own that holds up neither the screen nor a training,
which both would wait for the interpreter's lock that a thread takes as well. Each bite of the file goes to the standard
output as one line of JSON, with the bytes of its columns after it; of what is not regular only the place, to be read
row by row.
"""

import gc
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

from minigpt.columns import Batch, Part, batch_of
from minigpt.journal import Row, rows_in

_BITE = 1 << 20  # bytes


def main(arguments: Sequence[str]) -> int:
    """Write the columns of the file from the offset on."""
    gc.disable()  # rows hold no cycles
    try:
        _write(sys.stdin.fileno(), int(arguments[0]), sys.stdout.buffer)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would complain of what it could not write
    return 0


def _write(descriptor: int, offset: int, out: IO[bytes]) -> None:
    while True:
        data = os.pread(descriptor, _BITE, offset)
        end = data.rfind(b"\n") + 1
        if not end:
            return
        rows = rows_in(data[:end])
        batch = batch_of(rows) if rows else None
        offset += end
        if batch is None:
            out.write(json.dumps({"end": offset}).encode() + b"\n")
            continue
        parts = [{"rows": len(part.steps), "names": list(part.values)} for part in batch.parts]
        described: Row = {"attempt": batch.attempt, "first": batch.first, "final": batch.final}
        described |= {"names": batch.names, "last": batch.last}
        out.write(json.dumps({"end": offset, **described, "parts": parts}).encode() + b"\n")
        for part in batch.parts:
            part.steps.tofile(out)
            for values in part.values.values():
                values.tofile(out)
        out.flush()


class Indexing:
    """Such a process, and what it says. To be closed; it then ends."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        """Start it on an open file. Raises OSError."""
        # -P: nothing is to be imported from wherever the user happens to be.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "minigpt.indexing", str(offset)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def batches(self) -> Iterator[tuple[int, Batch | None]]:
        """For each bite the offset of its end, and its rows if they are regular."""
        stream = self._process.stdout
        assert stream is not None
        with suppress(EOFError, ValueError):  # it was killed
            while line := stream.readline():
                said = json.loads(line)
                if "parts" not in said:
                    yield said["end"], None
                    continue
                parts = []
                for part in said["parts"]:
                    steps = _read("q", part["rows"], stream)
                    parts.append(Part(steps, {name: _read("d", part["rows"], stream) for name in part["names"]}))
                keys = ("attempt", "first", "final", "names", "last")
                yield said["end"], Batch(parts=parts, **{key: said[key] for key in keys})

    def close(self) -> None:
        """End it."""
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()


def _read(typecode: str, count: int, stream: IO[bytes]) -> "array[Any]":
    numbers: array[Any] = array(typecode)
    numbers.fromfile(stream, count)
    return numbers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
