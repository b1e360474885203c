"""What a list shows of each run: for the home screen, and for `minigpt runs`."""

import time
from dataclasses import dataclass
from pathlib import Path

from minigpt.journal import JournalTail, count_in
from minigpt.metrics import Metrics
from minigpt.rundir import RunDirectory, RunState, last_state_event, last_written, list_runs, state_of

LIVE = frozenset({RunState.TRAINING, RunState.PAUSED})


@dataclass(frozen=True)
class RunSummary:
    """One run in one line. Of abandoned attempts it knows nothing, like the charts."""

    run: RunDirectory
    state: RunState
    step: int | None
    max_steps: int | None
    train_loss: float | None
    """The newest, as is `val_loss`; nan where that was no finite number."""
    val_loss: float | None
    best: tuple[int, float] | None
    """Step and value of the lowest val_loss."""
    written: float
    """When it last wrote something, as seconds since the epoch."""


class RunList:
    """Reads the runs again and again, and of each only what is new. For one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[object, ...], RunSummary]] = {}
        self._live: dict[Path, _Reader] = {}

    def read(self) -> list[RunSummary]:
        """All runs, those that are being trained first, then the one written to last."""
        known: dict[Path, tuple[tuple[object, ...], RunSummary]] = {}
        live: dict[Path, _Reader] = {}
        for run in list_runs():
            signature = (run.is_live(), _stamp(run.metrics_file), _stamp(run.events_file))
            before = self._known.get(run.path)
            if before is not None and before[0] == signature:
                known[run.path] = before
                if reader := self._live.get(run.path):
                    live[run.path] = reader
                continue
            reader = self._live.get(run.path) or _Reader(run)
            known[run.path] = (signature, reader.read())
            if run.is_live():  # what has ended will hardly grow, and what was read of it takes memory
                live[run.path] = reader
        self._known, self._live = known, live
        summaries = [summary for _, summary in known.values()]
        return sorted(summaries, key=lambda summary: (summary.state not in LIVE, -summary.written))


class _Reader:
    """Follows one run's files."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._metrics = Metrics(run.metrics_file)
        self._events = JournalTail(run.events_file)
        self._last_event: str | None = None
        self._max_steps: int | None = None

    def read(self) -> RunSummary:
        live = self._run.is_live()  # asked first: a run that ends meanwhile has told how before its lock is free
        metrics = self._metrics.read_all()
        restarts = self._events.restarts
        while events := self._events.poll():
            if self._events.restarts != restarts:
                restarts = self._events.restarts
                self._last_event = self._max_steps = None
            self._last_event = last_state_event(events, self._last_event)
            limits = [limit for row in events if (limit := count_in(row, "max_steps")) is not None]
            self._max_steps = limits[-1] if limits else self._max_steps
        return RunSummary(
            run=self._run,
            state=state_of(live, self._last_event),
            step=metrics.last.get("step"),
            max_steps=self._max_steps,
            train_loss=metrics.newest("train_loss"),
            val_loss=metrics.newest("val_loss"),
            best=metrics.best,
            written=last_written(self._run),
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
