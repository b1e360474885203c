"""Training in a process of its own, which no terminal reaches: from the beginning, or taken over from this one."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from minigpt.inert import inert_line
from minigpt.journal import Row, count_in, text_in
from minigpt.rundir import RunDirectory

_PATIENCE = 900.0  # seconds without a word from it; a large model may take minutes to load, compile or evaluate
_GRACE = 30.0  # seconds in which it may save when it is to end
_LOOK_INTERVAL = 0.1


@dataclass(frozen=True)
class Detached:
    """A process that trains by itself, or has done so to the end by now."""

    pid: int
    run: RunDirectory


@dataclass(frozen=True)
class NotDetached:
    """Why there is no such process."""

    reason: str
    code: int
    """As an exit code: 2 for what the user can mend, 1 for a crash, 130 if it was asked to stop."""


def hand_over(run: RunDirectory, lock_descriptor: int, stop: threading.Event) -> int | str:
    """Let another process train on from the last checkpoint; return its number once it has trained a step.

    It shares the lock, which is never free in between. Otherwise why it could not be, also if `stop` was set meanwhile:
    then that process is gone, and what it may have trained is in the run.
    """
    begun = start_detached(["--resume", str(run.path)], stop, lock_descriptor=lock_descriptor)
    return begun.pid if isinstance(begun, Detached) else begun.reason


def start_detached(
    arguments: Sequence[str],
    stop: threading.Event,
    *,
    lock_descriptor: int | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Detached | NotDetached:
    """Do what `minigpt train ARGUMENTS` does in a process of its own, and wait until that has trained its first step.

    `tell` is told in words what it does until then. Once `stop` is set that process saves and ends. If it comes to
    nothing it is certain that the process is gone.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as printed, closing(_Reports(reading)) as reports:
        try:
            process = _spawn(arguments, writing, lock_descriptor, printed)
        except OSError as error:
            return NotDetached(f"no process could be started: {error.strerror}", 1)
        finally:
            os.close(writing)
        try:
            begun = _await_first_step(process, reports, stop, tell)
        except BaseException:
            _end(process)
            raise
        if begun is None:
            process.wait()
            return NotDetached(_why_it_died(process.returncode, printed), 1)
        return begun


def _spawn(arguments: Sequence[str], report: int, lock: int | None, printed: IO[bytes]) -> "subprocess.Popen[bytes]":
    # -P: nothing is to be imported from wherever the user happens to be.
    command = [sys.executable, "-P", "-m", "minigpt.background", str(report), "-" if lock is None else str(lock)]
    return subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        pass_fds=[report] if lock is None else [report, lock],
        start_new_session=True,
    )


def _await_first_step(
    process: "subprocess.Popen[bytes]", reports: "_Reports", stop: threading.Event, tell: Callable[[str], object]
) -> Detached | NotDetached | None:
    """How it began; None if it died without a word."""
    run: RunDirectory | None = None
    heard = time.monotonic()
    while True:
        gone = process.poll() is not None  # asked first: then nothing comes after what is read now
        for report in reports.read(0 if gone else _LOOK_INTERVAL):
            heard = time.monotonic()
            if words := text_in(report, "phase"):
                tell(words)
            if path := text_in(report, "run"):
                run = RunDirectory(Path(path))
            if error := text_in(report, "error"):
                _end(process)
                return NotDetached(error, count_in(report, "code") or 1)
            if "ended" in report:
                _end(process)
            if ("step" in report or "ended" in report) and run is not None and not stop.is_set():
                return Detached(process.pid, run)
        if stop.is_set():
            tell("stopping")
            _end(process)
            said = [text_in(report, "ended") or text_in(report, "error") for report in reports.read(0)]
            return NotDetached("\n".join(filter(None, said)) or "stopped before the training began", 130)
        if gone:
            return None
        if time.monotonic() - heard > _PATIENCE:
            _end(process)
            return NotDetached(f"nothing was heard from its process for {_PATIENCE / 60:.0f} minutes", 1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let it save and end, or else end it; it is gone afterwards."""
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _why_it_died(returncode: int, printed: IO[bytes]) -> str:
    how = f"ended with exit code {returncode}"
    if returncode < 0:
        how = f"was ended by signal {-returncode} ({signal.strsignal(-returncode)})"
    size = os.fstat(printed.fileno()).st_size
    said = os.pread(printed.fileno(), 1 << 16, max(0, size - (1 << 16))).decode(errors="replace").strip()
    last = f": {inert_line(said.splitlines()[-1], 300)}" if said else ""
    return f"its process {how}{last}"


class _Reports:
    """What the process says on its way, as JSON lines from a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def read(self, seconds: float) -> list[Row]:
        """What it has said since; waits so long for something."""
        reports = []
        while select.select([self._descriptor], [], [], seconds)[0]:
            if not (data := os.read(self._descriptor, 1 << 16)):
                time.sleep(seconds)  # at the end of the pipe there is always something to read
                break
            *lines, self._rest = (self._rest + data).split(b"\n")
            reports += [json.loads(line) for line in lines]
            seconds = 0
        return reports

    def close(self) -> None:
        os.close(self._descriptor)
