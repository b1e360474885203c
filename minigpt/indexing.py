"""`python -m minigpt.indexing OFFSET PLACE COUNT`: turns rows of the metrics.jsonl on its standard input into columns.

Reading a million rows takes seconds of Python. In processes of their own that holds up neither the screen nor a
training, which both would wait for the interpreter's lock that a thread takes as well. COUNT of them share a file: the
one with the PLACE 0 takes the bites 0, COUNT, 2 COUNT and so on behind the OFFSET. Each bite goes to the standard
output as one line of JSON, with the bytes of its columns after it; of what is not regular only the place, to be read
row by row.
"""

import gc
import itertools
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
_LONGEST = 1 << 16  # bytes of a line that goes on into the next bite
_MOST_PROCESSES = 2  # on two cores a quarter faster than one; more were not tried


def main(arguments: Sequence[str]) -> int:
    """Write the columns of every COUNT-th bite of the file from the offset on."""
    gc.disable()  # rows hold no cycles
    try:
        offset, place, count = map(int, arguments)
        _write(sys.stdin.fileno(), offset, place, count, sys.stdout.buffer)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would complain of what it could not write
    return 0


def _write(descriptor: int, offset: int, place: int, count: int, out: IO[bytes]) -> None:
    for bite in itertools.count(place, count):
        begin, data = _lines_of(descriptor, offset, bite)
        if not data:
            return
        rows = rows_in(data)
        batch = batch_of(rows) if rows else None
        said: Row = {"begin": begin, "end": begin + len(data)}
        if batch is None:
            out.write(json.dumps(said).encode() + b"\n")
            continue
        parts = [{"rows": len(part.steps), "names": list(part.values)} for part in batch.parts]
        said |= {"attempt": batch.attempt, "first": batch.first, "final": batch.final}
        said |= {"names": batch.names, "last": batch.last}
        out.write(json.dumps({**said, "parts": parts}).encode() + b"\n")
        for part in batch.parts:
            part.steps.tofile(out)
            for values in part.values.values():
                values.tofile(out)
        out.flush()


def _lines_of(descriptor: int, offset: int, bite: int) -> tuple[int, bytes]:
    """The whole lines that begin in a bite, and where the first one does; none at the end, and behind a huge line."""
    at = offset + bite * _BITE
    # From the byte before it on: a line begins behind the end of another one.
    before = 1 if bite else 0
    data = os.pread(descriptor, before + _BITE + _LONGEST, at - before)
    begin = data.find(b"\n") + 1 if bite else 0
    if bite and not 0 < begin <= _BITE:
        return at, b""
    last = data.find(b"\n", before + _BITE - 1)
    if last < 0 and len(data) < before + _BITE + _LONGEST:  # the file ends here
        last = data.rfind(b"\n")
    return at - before + begin, data[begin : last + 1]


class Indexing:
    """Such processes, and what they say. To be closed; they then end."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        """Start them on an open file. Raises OSError."""
        self._processes: list[subprocess.Popen[bytes]] = []
        count = min(_MOST_PROCESSES, os.cpu_count() or 1)
        try:
            for place in range(count):
                # -P: nothing is to be imported from wherever the user happens to be.
                command = [sys.executable, "-P", "-m", "minigpt.indexing", *map(str, (offset, place, count))]
                self._processes.append(
                    subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                )
        except OSError:
            self.close()
            raise

    def batches(self) -> Iterator[tuple[int, int, Batch | None]]:
        """For each bite where its lines begin and end, and their rows if they are regular."""
        with suppress(EOFError, ValueError):  # one was killed
            for process in itertools.cycle(self._processes):
                stream = process.stdout
                assert stream is not None
                line = stream.readline()
                if not line:
                    return
                said = json.loads(line)
                if "parts" not in said:
                    yield said["begin"], said["end"], None
                    continue
                parts = []
                for part in said["parts"]:
                    steps = _read("q", part["rows"], stream)
                    parts.append(Part(steps, {name: _read("d", part["rows"], stream) for name in part["names"]}))
                keys = ("attempt", "first", "final", "names", "last")
                yield said["begin"], said["end"], Batch(parts=parts, **{key: said[key] for key in keys})

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()
            process.wait()


def _read(typecode: str, count: int, stream: IO[bytes]) -> "array[Any]":
    numbers: array[Any] = array(typecode)
    numbers.fromfile(stream, count)
    return numbers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
