"""What a list shows of each run, read from its files and read again only when they changed."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory, RunState, last_written, list_runs

_TAIL = 64 << 10

LIVE = frozenset({RunState.TRAINING, RunState.PAUSED})


@dataclass(frozen=True)
class RunSummary:
    """One run in one line."""

    run: RunDirectory
    state: RunState
    step: int | None
    max_steps: int | None
    val_loss: float | None
    """The lowest of all evaluations."""
    written: float
    """When it last wrote something, as seconds since the epoch."""


class RunList:
    """Reads the runs again and again, and of each only what changed. For one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[object, ...], RunSummary]] = {}

    def read(self) -> list[RunSummary]:
        """All runs, those that are being trained first, then the one written to last."""
        known: dict[Path, tuple[tuple[object, ...], RunSummary]] = {}
        for run in list_runs():
            signature = (run.is_live(), _stamp(run.metrics_file), _stamp(run.events_file))
            before = self._known.get(run.path)
            summary = before[1] if before is not None and before[0] == signature else summarize(run)
            known[run.path] = (signature, summary)
        self._known = known
        summaries = [summary for _, summary in known.values()]
        return sorted(summaries, key=lambda summary: (summary.state not in LIVE, -summary.written))


def summarize(run: RunDirectory) -> RunSummary:
    """Read what a list shows of one run."""
    events = read_journal(run.events_file)
    losses = [loss for row in events if isinstance(loss := row.get("val_loss"), int | float)]
    limits = [limit for row in events if isinstance(limit := row.get("max_steps"), int)]
    step = _last_row(run.metrics_file).get("step")
    return RunSummary(
        run=run,
        state=run.state(events),
        step=step if isinstance(step, int) else None,
        max_steps=limits[-1] if limits else None,
        val_loss=min(losses, default=None),
        written=last_written(run),
    )


def age(seconds: float) -> str:
    """How long ago something was, in one unit: `now`, `3 min`, `2 h`, `5 days`."""
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h"
    days = int(seconds // 86400)
    return "1 day" if days == 1 else f"{days} days"


def now() -> float:
    """The time against which ages are told."""
    return time.time()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _last_row(path: Path) -> dict[str, Any]:
    # The end of the file is enough: a list must not read whole histories, nor load numpy for them.
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read(_TAIL).splitlines(keepends=True)
    except OSError:
        return {}
    for line in reversed(lines):
        if line.endswith(b"\n"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                return row
    return {}
