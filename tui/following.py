"""What the screen knows of one run: the one object that follows a run directory's files for it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt.journal import JournalTail, Row
from minigpt.metrics import Metrics
from minigpt.rundir import RunDirectory, RunState
from tui.run_list import LIVE

_RATE_ROWS = 20


class Following:
    """Takes in by `poll` what a run directory has grown by, and answers from that without touching files."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.metrics = Metrics(run.metrics_file)
        self.events: list[Row] = []
        self.samples: list[Row] = []
        """The samples to show: of steps that were done again after a crash, only the last attempt's."""
        self.state = RunState.TRAINING
        self.started: Row = {}
        """The last `started` event: device, precision, corpus, the number of steps and so on."""
        self.settings = _settings(run)
        self._event_tail = JournalTail(run.events_file)
        self._sample_tail = JournalTail(run.samples_file)
        self._all_samples: list[Row] = []
        self._series: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def poll(self) -> tuple[bool, list[Row]]:
        """Read on; whether there are new metrics, and the new events."""
        new_events = self._event_tail.poll()
        self.events += new_events
        for event in new_events:
            if event.get("event") == "started":
                self.started = event
        new_samples = [row for row in self._sample_tail.poll() if isinstance(row.get("text"), str)]
        self._all_samples += new_samples
        if new_samples or any(event.get("event") == "started" for event in new_events):
            self.samples = self._valid_samples()
        self.state = self.run.state(self.events)
        grown = self.metrics.poll()
        if grown:
            self._series.clear()
        return grown, new_events

    def _valid_samples(self) -> list[Row]:
        resumed = {
            _number(event.get("attempt"), 1): _number(event.get("resumed_from"), 0)
            for event in self.events
            if event.get("event") == "started" and event.get("resumed_from") is not None
        }
        return [
            sample
            for sample in self._all_samples
            if all(
                _number(sample.get("attempt"), 1) >= attempt or _number(sample.get("step"), 0) <= step
                for attempt, step in resumed.items()
            )
        ]

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    @property
    def step(self) -> int:
        """The step of the newest row; before there is one in this attempt, that of the newest event."""
        if self.metrics.last:
            return _number(self.metrics.last.get("step"), 0)
        return _number(self.events[-1].get("step"), 0) if self.events else 0

    @property
    def max_steps(self) -> int:
        """The number of steps in all, 0 while unknown."""
        configured = self.settings.get("train", {})
        fallback = configured.get("max_steps") if isinstance(configured, dict) else 0
        return _number(self.started.get("max_steps"), _number(fallback, 0))

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values of one metric, kept until the file grows: several parts of the screen ask for the same."""
        if name not in self._series:
            self._series[name] = self.metrics.series(name)
        return self._series[name]

    def latest(self, name: str) -> float | None:
        """The newest value of a metric, None if there is none."""
        value = self.metrics.last.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        _, values = self.series(name)
        return float(values[-1]) if values.size else None

    def highest(self, name: str) -> float | None:
        """The highest finite value of a metric over the run, None if there is none."""
        _, values = self.series(name)
        finite = values[np.isfinite(values)]
        return float(finite.max()) if finite.size else None

    def seconds_left(self) -> float | None:
        """How long the rest will take at the pace of the last rows, evaluations included; None while unknown."""
        steps, elapsed = self.series("elapsed")
        if steps.size < 2 or not self.max_steps:
            return None
        first = max(0, steps.size - _RATE_ROWS)
        done, took = int(steps[-1] - steps[first]), float(elapsed[-1] - elapsed[first])
        if done <= 0 or not took >= 0:
            return None
        return max(0, self.max_steps - self.step) * took / done

    def failure(self) -> str:
        """The message of the last attempt's failure, empty if it recorded none."""
        for event in reversed(self.events):
            match event.get("event"):
                case "failed":
                    return str(event.get("message", ""))
                case "started":
                    break
        return ""

    def answer_to(self, command: str) -> Row | None:
        """The event by which the trainer answered a command, if it did."""
        return next((event for event in reversed(self.events) if event.get("command") == command), None)


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _settings(run: RunDirectory) -> dict[str, Any]:
    """The run's configuration as plain tables: reading it through pydantic would delay the first frame."""
    import tomli

    try:
        return tomli.loads(run.config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
