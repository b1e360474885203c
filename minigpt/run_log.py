"""What a training appends to: rows of metrics, events and samples."""

import time
from contextlib import suppress
from typing import Any

from minigpt.journal import JournalWriter
from minigpt.rundir import RunDirectory, RunLock


class RunLog:
    """The three growing files of a run, for the holder of its lock. `attempt` stands in every event.

    Events and notices may come from any thread.
    """

    def __init__(self, run: RunDirectory, lock: RunLock, attempt: int) -> None:
        self.attempt = attempt
        # A directory without our lock may be that of another run which has taken the name.
        self.metrics = JournalWriter(run.metrics_file, lock.is_in_place)
        self.events = JournalWriter(run.events_file, lock.is_in_place)
        self.samples = JournalWriter(run.samples_file, lock.is_in_place)
        self._all = (self.metrics, self.events, self.samples)

    def event(self, step: int, event: str, **values: Any) -> None:
        """Write an event, or keep it until it can be written."""
        self.events.append({"event": event, "time": time.time(), "step": step, "attempt": self.attempt, **values})

    def notice(self, step: int, kind: str, message: str, **values: Any) -> None:
        """Write an event that somebody should read."""
        self.event(step, "notice", kind=kind, message=message, **values)

    @property
    def waiting(self) -> int:
        """How many rows are not in their files yet."""
        return sum(journal.waiting for journal in self._all)

    @property
    def error(self) -> OSError | None:
        """Why they are not."""
        return next((journal.error for journal in self._all if journal.error is not None), None)

    def flush(self) -> None:
        """Write what waits. Raises OSError."""
        for journal in self._all:
            journal.flush()

    def sync(self) -> None:
        """Make what was written durable. Raises OSError. May be called from any thread."""
        for journal in self._all:
            journal.sync()

    def is_in_place(self) -> bool:
        """Whether any of those files lies where it was made: then the directory is still that of this run."""
        return any(journal.is_in_place() for journal in self._all)

    def make_again(self) -> None:
        """Write those files anew that are not in their place any more. Raises OSError."""
        for journal in self._all:
            journal.make_again()

    def close(self) -> None:
        """Give the files back."""
        for journal in self._all:
            with suppress(OSError):
                journal.close()
