"""What the screen knows of one run: the one object that follows a run directory's files for it."""

from bisect import bisect_right
from collections import deque
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt.files import read_limited
from minigpt.journal import JournalTail, Row, count_in, number_in, text_in
from minigpt.metrics import Metrics
from minigpt.run_list import LIVE
from minigpt.rundir import RunDirectory, RunState, last_state_event, state_of

_RATE_ROWS = 20
_BITE = 1 << 20  # bytes of each file in one poll: some hundredths of a second
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
    """

    def __init__(self, run: RunDirectory, since: int = 0) -> None:
        self.run = run
        self.metrics = Metrics(run.metrics_file)
        self.samples: list[Row] = []
        """The samples to show: of steps that were done again after a crash, only the last attempt's."""
        self.state = RunState.TRAINING
        self.starting = False
        """Whether somebody holds the run, but has not begun to train it."""
        self.behind = True
        """Whether there is more to read than one `poll` takes."""
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
        self._reported = 0
        """How many events `poll` has returned."""
        self._forget_events()

    def _forget_events(self) -> None:
        self.events_read = 0
        """How many events there are so far."""
        self.remembered: deque[tuple[int, Row]] = deque(maxlen=_MOST_REMEMBERED)
        """The events that tell what happened to the run, each with how many came before it."""
        self.spikes: list[tuple[int, float]] = []
        """Step and value of each loss spike, abandoned steps left out."""
        self.rollbacks: set[int] = set()
        """The attempts that began with going back to a checkpoint, when the training had diverged for example."""
        self.learning_rate_scale = 1.0
        """What the learning rate is multiplied by since."""
        self._state_event: str | None = None
        self._newest_event: Row = {}
        self._failure = ""
        self._overfitting: tuple[int, int] | None = None
        """The step at which overfitting was noticed, and the best one before."""
        self._not_compiled = ""
        self._resumptions: dict[int, int] = {}
        """The attempts that went on from a checkpoint, with its step."""

    def poll(self, *, held: bool = False) -> tuple[bool, list[Row]]:
        """Read on, at most a megabyte of each file; whether there are new metrics, and the new events.

        `held` says that somebody trains the run, whatever its files look like: they may have been deleted.
        """
        # Asked first: a run that ends meanwhile has told how before its lock is free.
        live = held or self.run.is_live()
        offsets = self._event_tail.offset, self.metrics.offset
        events = self._event_tail.poll(_BITE)
        new_samples = [row for row in self._sample_tail.poll() if isinstance(row.get("text"), str)]
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
            self.samples = self._standing(self._all_samples)
        if begins or any(event.get("kind") == "spike" for event in events):
            self._find_spikes()
        grown = self.metrics.poll(_BITE)
        if grown:
            self._series.clear()
        read = (self._event_tail.offset - offsets[0], self.metrics.offset - offsets[1])
        self.behind = max(read) > _BITE // 2
        self.starting = live and self._event_tail.offset <= self._since
        self.state = state_of(live, None if self.starting else self._state_event)
        return grown, new_events

    def _take_event(self, event: Row) -> None:
        self._newest_event = event
        self._state_event = last_state_event([event], self._state_event)
        name = text_in(event, "event")
        if name in _TELLING:
            self.remembered.append((self.events_read, event))
        self.events_read += 1
        if name in _BEGINNINGS:
            self._failure = ""
            scale = number_in(event, "learning_rate_scale")
            self.learning_rate_scale = scale if scale is not None and 0 < scale < 1 else 1.0
            if event.get("resumed_from") is not None:
                resumed_from = _number(event.get("resumed_from"), 0)
                self._resumptions[_number(event.get("attempt"), 1)] = resumed_from
                if self._overfitting is not None and self._overfitting[0] > resumed_from:
                    self._overfitting = None  # these steps are done again, and may be noticed again
        if name == "started":
            self.started = event
            self._not_compiled = ""
        elif name == "recovered":
            self.rollbacks.add(_number(event.get("attempt"), 0))
        elif name == "notice":
            if event.get("kind") == "overfitting":
                told = _number(event.get("step"), 0)
                self._overfitting = told, _number(event.get("since"), told)
            elif event.get("kind") == "compile":
                self._not_compiled = text_in(event, "message")[:LONGEST_MESSAGE]
        elif name == "failed":
            self._failure = text_in(event, "message")[:LONGEST_MESSAGE]

    def _find_spikes(self) -> None:
        notices = [row for _, row in self.remembered if row.get("event") == "notice" and row.get("kind") == "spike"]
        losses = [(_number(row.get("step"), 0), number_in(row, "loss")) for row in self._standing(notices)]
        self.spikes = [(step, loss) for step, loss in losses if loss is not None and isfinite(loss)]

    def _standing(self, rows: list[Row]) -> list[Row]:
        """Those that were not done again by a later attempt."""
        # From each attempt on: the earliest step that it or a later one went back to.
        attempts, earliest = sorted(self._resumptions), dict[int, int]()
        step = 2**62
        for attempt in reversed(attempts):
            earliest[attempt] = step = min(step, self._resumptions[attempt])

        def stands(row: Row) -> bool:
            place = bisect_right(attempts, _number(row.get("attempt"), 1))
            return place == len(attempts) or _number(row.get("step"), 0) <= earliest[attempts[place]]

        return [row for row in rows if stands(row)]

    def told(self, key: str) -> str:
        """What the last `started` event says in words; empty if nothing."""
        return text_in(self.started, key)

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
            steps, values = self.metrics.series(name)
            # Copies: what it returns may share memory with the reader's own arrays, which then cannot grow.
            self._series[name] = steps.copy(), values.copy()
        return self._series[name]

    def latest(self, name: str) -> float | None:
        """The newest value of a metric in the last attempt, None if there is none or it is no finite number."""
        value = None if self._rows_are_abandoned else self.metrics.newest(name)
        return value if value is not None and isfinite(value) else None

    def highest(self, name: str) -> float | None:
        """The highest finite value of a metric over the run, None if there is none."""
        _, values = self.series(name)
        finite = values[np.isfinite(values)]
        return float(finite.max()) if finite.size else None

    def seconds_left(self) -> float | None:
        """How long the rest will take, by whichever limit comes first; None while unknown."""
        if self.starting:
            return None
        limits = [self._seconds_of_steps_left()]
        elapsed = self.latest("elapsed")
        if self.seconds_allowed and elapsed is not None:
            limits.append(max(0.0, self.seconds_allowed - elapsed))
        return min((limit for limit in limits if limit is not None), default=None)

    def _seconds_of_steps_left(self) -> float | None:
        # At the pace of the last rows, evaluations included.
        steps, elapsed = self.series("elapsed")
        if steps.size < 2 or not self.max_steps:
            return None
        first = max(0, steps.size - _RATE_ROWS)
        done, took = int(steps[-1] - steps[first]), float(elapsed[-1] - elapsed[first])
        left = max(0, self.max_steps - self.step) * took / done if done > 0 and took >= 0 else float("nan")
        return left if isfinite(left) else None

    @property
    def ended_because(self) -> str:
        """The `reason` that the last attempt's end recorded: "steps", "time" or "patience"; empty without one."""
        return text_in(self._newest_event, "reason") if self._newest_event.get("event") == "finished" else ""

    def failure(self) -> str:
        """The message of the last attempt's failure, empty if it recorded none."""
        return self._failure


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
