"""What the screen knows of one run: the one object that follows a run directory's files for it."""

from collections import deque
from math import inf, isfinite
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt.files import read_limited
from minigpt.journal import JournalTail, Row, count_in, text_in
from minigpt.metrics import Metrics, Recovery
from minigpt.run_list import LIVE
from minigpt.rundir import RunDirectory, RunState, last_state_event, state_of
from tui.run.marks import Marks
from tui.run.metrics_feed import BITE, MetricsFeed, size_of

_POLL_TIME = 0.01  # seconds after which a poll leaves the rest of the files for the next one
_MOST_SAMPLES = 5000  # of which the newest stay
_MOST_REMEMBERED = 5000  # likewise of the events that tell what happened
LONGEST_MESSAGE = 2000  # characters
_BEGINNINGS = frozenset({"started", "recovered"})  # of an attempt; the second within one process
_TELLING = frozenset(
    {*_BEGINNINGS, "paused", "continued", "handing_over", "stopped", "finished", "failed", "notice"}
)  # what happened, for whoever was away


class Following:
    """Takes in by `poll` what a run directory has grown by, and answers from that without touching files.

    `since` is where in events.jsonl the attempt begins that is about to start, for one in this process.

    Of a run of very many rows `series` and `metrics` are a preview at first, and `behind` is true until all of it is
    read. With `keep_cache` it is there at once the next time; without, nothing is written. To be closed.
    """

    def __init__(self, run: RunDirectory, since: int = 0, *, keep_cache: bool = False) -> None:
        self.run = run
        self._feed = MetricsFeed(run.metrics_file, keep_cache=keep_cache)
        self.samples: list[Row] = []
        """The samples to show: of steps that were done again after a crash, only the last attempt's."""
        self.state = RunState.TRAINING
        self.starting = False
        """Whether somebody holds the run, but has not begun to train it."""
        self.behind = True
        """Whether there is more to read than has been read."""
        self.started: Row = {}
        """The last `started` event: device, precision, corpus, the number of steps and so on."""
        self.settings = settings_of(run)
        self._since = since
        self._event_tail = JournalTail(run.events_file)
        self._sample_tail = JournalTail(run.samples_file)
        self._restarts = [0, 0]
        """How often the files of events and of samples had been read from their beginning again."""
        self._all_samples: list[Row] = []
        self._series: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        self._recoveries: tuple[list[Recovery], int] = ([], 0)
        self._highest: dict[str, tuple[int, int, float]] = {}
        """For some metrics how many values were looked at, the last one's step and the highest."""
        self._reported = 0
        """How many events `poll` has returned."""
        self._forget_events()

    def _forget_events(self) -> None:
        self.events_read = 0
        """How many events there are so far."""
        self.remembered: deque[tuple[int, Row]] = deque(maxlen=_MOST_REMEMBERED)
        """The events that tell what happened to the run, each with how many came before it."""
        self.marks = Marks()
        self._state_event: str | None = None
        self._newest_event: Row = {}
        self._failure = ""
        self._overfitting: tuple[int, int] | None = None
        """The step at which overfitting was noticed, and the best one before."""
        self._not_compiled = ""

    def poll(self, *, held: bool = False) -> tuple[bool, list[Row]]:
        """Read on for a hundredth of a second or two; whether there are new metrics, and the new events.

        `held` says that somebody trains the run, whatever its files look like: they may have been deleted.
        """
        # Asked first: a run that ends meanwhile has told how before its lock is free.
        live = held or self.run.is_live()
        deadline = monotonic() + _POLL_TIME
        events, events_behind = _read_on(self._event_tail, deadline)
        new_samples, samples_behind = _read_on(self._sample_tail, deadline)
        new_samples = [row for row in new_samples if isinstance(row.get("text"), str)]
        restarts = [self._event_tail.restarts, self._sample_tail.restarts]
        if restarts[0] != self._restarts[0]:
            self._forget_events()
        if restarts[1] != self._restarts[1]:
            self._all_samples.clear()
        self._restarts = restarts
        for event in events:
            self._take_event(event)
        # A file that was written anew tells what it has told before.
        new_events = events[max(0, len(events) - max(0, self.events_read - self._reported)) :]
        self._reported = max(self._reported, self.events_read)
        self._all_samples = (self._all_samples + new_samples)[-_MOST_SAMPLES:]
        begins = any(text_in(event, "event") in _BEGINNINGS for event in events)
        if new_samples or begins:
            self.samples = self.marks.standing(self._all_samples)
        grown, metrics_behind = self._feed.poll(deadline)
        if grown:
            self._series.clear()
        recoveries = self.metrics.recoveries
        if self._recoveries[0] is not recoveries or self._recoveries[1] != len(recoveries):
            self._recoveries = recoveries, len(recoveries)
            self._highest.clear()
        self.behind = events_behind or samples_behind or metrics_behind
        self.starting = live and self._event_tail.offset <= self._since
        self.state = state_of(live, None if self.starting else self._state_event)
        return grown, new_events

    def close(self) -> None:
        """Read no further, and keep what was read for the next time if that is worth it. Returns at once."""
        self._feed.close()

    def _take_event(self, event: Row) -> None:
        self._newest_event = event
        self.marks.take(event)
        self._state_event = last_state_event([event], self._state_event)
        name = text_in(event, "event")
        if name in _TELLING:
            self.remembered.append((self.events_read, event))
        self.events_read += 1
        if name in _BEGINNINGS:
            self._failure = ""
            resumed_from = event.get("resumed_from")
            if resumed_from is not None and self._overfitting and self._overfitting[0] > _number(resumed_from, 0):
                self._overfitting = None  # these steps are done again, and may be noticed again
        if name == "started":
            self.started = event
            self._not_compiled = ""
        elif name == "notice":
            if event.get("kind") == "overfitting":
                told = _number(event.get("step"), 0)
                self._overfitting = told, _number(event.get("since"), told)
            elif event.get("kind") == "compile":
                self._not_compiled = text_in(event, "message")[:LONGEST_MESSAGE]
        elif name == "failed":
            self._failure = text_in(event, "message")[:LONGEST_MESSAGE]

    def told(self, key: str) -> str:
        """What the last `started` event says in words; empty if nothing."""
        return text_in(self.started, key)

    @property
    def metrics(self) -> Metrics:
        """The rows of the run; while `is_preview`, some of them."""
        return self._feed.metrics

    @property
    def is_preview(self) -> bool:
        """Whether `metrics` and `series` know only some rows, evenly spread, until all of a long file is read."""
        return self._feed.is_preview

    @property
    def share_read(self) -> float:
        """How much of the metrics has been read, 0 to 1."""
        return self._feed.share_read

    # ── marks on the charts, as `Marks` says ──────────────────────────────────────────────────────────────────────

    @property
    def spikes(self) -> list[tuple[int, float]]:
        return self.marks.spikes

    @property
    def saved(self) -> list[int]:
        return self.marks.saved

    @property
    def rate_changes(self) -> list[int]:
        return self.marks.rate_changes

    @property
    def alerts(self) -> list[tuple[int, str]]:
        return self.marks.alerts

    @property
    def rollbacks(self) -> set[int]:
        return self.marks.rollbacks

    @property
    def learning_rate_scale(self) -> float:
        return self.marks.learning_rate_scale

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_live(self) -> bool:
        """Whether somebody trains the run, or is about to."""
        return self.state in LIVE

    @property
    def step(self) -> int:
        """The newest step of the last attempt that there are events or rows of."""
        event_step = _number(self._newest_event.get("step"), 0)
        if self._rows_are_abandoned:
            return event_step
        row_step = _number(self.metrics.last.get("step"), 0)
        return max(row_step, event_step) if self._attempt == self.metrics.attempt else row_step

    @property
    def evaluating(self) -> bool:
        """Whether the trainer is in the middle of an evaluation: nothing else happens until it is over."""
        return self.is_live and self._newest_event.get("event") == "evaluating"

    @property
    def handing_over(self) -> bool:
        """Whether the trainer waits for another process to take the run over."""
        return self.is_live and self._newest_event.get("event") == "handing_over"

    @property
    def _attempt(self) -> int:
        return _number(self._newest_event.get("attempt"), 1) if self._newest_event else 0

    @property
    def _rows_are_abandoned(self) -> bool:
        return self.starting or self._attempt > self.metrics.attempt

    @property
    def max_steps(self) -> int:
        """The number of steps in all; 0 while unknown, and without such a limit."""
        return _number(self.started.get("max_steps"), _number(self.configured("train", "max_steps"), 0))

    @property
    def seconds_allowed(self) -> float:
        """How long the run may train; 0 for as long as its steps take."""
        minutes = self.started.get("max_minutes", self.configured("train", "max_minutes"))
        valid = isinstance(minutes, int | float) and not isinstance(minutes, bool) and 0 < minutes < 1e9
        return 60.0 * minutes if valid else 0.0

    @property
    def share(self) -> float | None:
        """How much of the run is done, 0 to 1, by whichever limit comes first; None without any that is known."""
        shares = [self.step / self.max_steps] if self.max_steps else []
        if self.seconds_allowed and not self.starting:
            shares.append((self.latest("elapsed") or 0.0) / self.seconds_allowed)
        return min(1.0, max(shares)) if shares else None

    @property
    def overfitting_since(self) -> int | None:
        """The step of which the trainer said that overfitting followed; None if it didn't, or a better one came."""
        best = self.metrics.best
        if self._overfitting is None or (best is not None and best[0] > self._overfitting[0]):
            return None
        return self._overfitting[1]

    @property
    def not_compiled(self) -> str:
        """Why the model of this attempt is not compiled although it was to be; empty if that is not so."""
        return self._not_compiled

    def configured(self, section: str, key: str) -> Any:
        """A value of the run's configuration file; None if it isn't there."""
        table = self.settings.get(section)
        return table.get(key) if isinstance(table, dict) else None

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values of one metric, kept until the file grows: several parts of the screen ask for the same."""
        if name not in self._series:
            self._series[name] = self.metrics.series(name)
        return self._series[name]

    def latest(self, name: str) -> float | None:
        """The newest value of a metric in the last attempt, None if there is none or it is no finite number."""
        value = None if self._rows_are_abandoned else self.metrics.newest(name)
        return value if value is not None and isfinite(value) else None

    def highest(self, name: str) -> float | None:
        """The highest finite value of a metric over the run, None if there is none."""
        steps, values = self.series(name)
        # The memory pane asks every second: of a million values only the new ones are looked at.
        size, last, highest = self._highest.get(name, (0, 0, -inf))
        if size > steps.size or (size and steps[size - 1] != last):
            size, highest = 0, -inf
        new = values[size:]
        highest = float(np.max(new, where=np.isfinite(new), initial=highest))
        if steps.size:
            self._highest[name] = steps.size, int(steps[-1]), highest
        return highest if isfinite(highest) else None

    @property
    def ended_because(self) -> str:
        """The `reason` that the last attempt's end recorded: "steps", "time" or "patience"; empty without one."""
        return text_in(self._newest_event, "reason") if self._newest_event.get("event") == "finished" else ""

    def failure(self) -> str:
        """The message of the last attempt's failure, empty if it recorded none."""
        return self._failure


def _read_on(tail: JournalTail, deadline: float) -> tuple[list[Row], bool]:
    """What a file has grown by, at least a bite of it, and whether there is more to come."""
    rows: list[Row] = []
    before = -1
    while tail.offset != before and (before < 0 or monotonic() < deadline):
        before, restarts = tail.offset, tail.restarts
        new = tail.poll(BITE)
        rows = new if tail.restarts != restarts else rows + new
    return rows, tail.offset != before and tail.offset < size_of(tail.path)


def _number(value: Any, otherwise: int) -> int:
    count = count_in({"": value}, "")
    return otherwise if count is None else count


def settings_of(run: RunDirectory) -> dict[str, Any]:
    """The run's configuration as plain tables: reading it through pydantic would delay the first frame."""
    import tomli

    try:
        return tomli.loads(read_limited(run.config_file, 1 << 20).decode())
    except (OSError, ValueError, RecursionError):
        return {}
