"""What a list shows of each run: for the home screen, and for `minigpt runs`."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.files import read_limited
from minigpt.journal import JournalTail, count_in
from minigpt.run_files import size_on_disk
from minigpt.rundir import RunDirectory, RunState, last_state_event, last_written, list_runs, state_of

if TYPE_CHECKING:
    from minigpt.metrics import Metrics

LIVE = frozenset({RunState.TRAINING, RunState.PAUSED})

_BITE = 1 << 20  # bytes of a long run's metrics between two looks at the clock
_LONG = 4 << 20  # bytes of metrics, which take a good part of a second to be read
_SIZE_INTERVAL = 60.0  # seconds after which the size of a live run is taken again
_MOST_SETTINGS, _LONGEST_SETTING = 500, 200  # of what a run's configuration says; a real one has sixty, and short ones

Setting = bool | int | float | str


@dataclass(frozen=True)
class RunSummary:
    """One run in one line. Of abandoned attempts it knows nothing, like the charts."""

    run: RunDirectory
    state: RunState | None
    """None until the run's files have been read, like all that follows but `written`."""
    step: int | None
    max_steps: int | None
    train_loss: float | None
    """The newest, as is `val_loss`; nan where that was no finite number."""
    val_loss: float | None
    best: tuple[int, float] | None
    """Step and value of the lowest val_loss."""
    written: float
    """When it last wrote something, as seconds since the epoch."""
    size: int | None = None
    """Bytes on the disk."""
    curve: tuple[float, ...] = ()
    """The training loss from the first step to the newest in a few values; nan where one was no finite number."""
    corpus: str = ""
    about: str = ""
    """What the preset that it came from is for."""
    settings: Mapping[str, Setting] = field(default_factory=dict, compare=False)
    """What its configuration says, by dotted keys."""


class RunList:
    """Reads the runs again and again, and of each only what is new. For one thread at a time.

    `curve` is how many values a curve has; without curves no numpy is needed.
    """

    def __init__(self, curve: int = 0) -> None:
        self._curve = curve
        self.keep_caches = False
        """Whether what was read of a long run that has ended is kept in its cache/."""
        self._known: dict[Path, tuple[tuple[object, ...] | None, RunSummary]] = {}
        self._readers: dict[Path, _Reader] = {}
        self._sizes: dict[Path, tuple[tuple[object, ...], float, int]] = {}
        self.behind = False
        """Whether there is more to read than the last `read` had time for."""

    def read(self, seconds: float = math.inf) -> list[RunSummary]:
        """All runs, those that are being trained first, then the one written to last.

        After about `seconds` it returns with what it has, and the next call goes on from there.
        """
        deadline = time.monotonic() + seconds
        self.behind = False
        before, readers = self._known, self._readers
        self._known, self._readers = {}, {}
        runs = [(run.is_live(), run) for run in list_runs()]
        for live, run in sorted(runs, key=lambda pair: not pair[0]):
            stamps: tuple[object, ...] | None = (live, _stamp(run.metrics_file), _stamp(run.events_file))
            known, summary = before.get(run.path, (None, None))
            reader = readers.get(run.path)
            if summary is None or known != stamps:
                whole = False
                if not self.behind:
                    reader = reader or _Reader(run, self._curve)
                    whole = reader.read(deadline)
                    self.behind = not whole or time.monotonic() > deadline
                if whole and reader is not None:
                    summary = replace(reader.summary(), size=summary.size if summary else None)
                    if self.keep_caches and not live:
                        reader.keep_cache()
                else:
                    summary, stamps = summary or _unread(run, live), None
            # What has ended will hardly grow, and what was read of it takes memory.
            if reader is not None and (live or stamps is None):
                self._readers[run.path] = reader
            self._known[run.path] = stamps, summary
        self._measure(deadline)
        summaries = [summary for _, summary in self._known.values()]
        return sorted(summaries, key=lambda summary: (summary.state not in LIVE, -summary.written))

    def _measure(self, deadline: float) -> None:
        """Take the sizes that are not known, or not any more: walking through all directories at each look is dear."""
        self._sizes = {path: known for path, known in self._sizes.items() if path in self._known}
        for path, (signature, summary) in self._known.items():
            if self.behind:
                return
            if signature is None:
                continue
            now = time.monotonic()
            state = (*signature[1:], _stamp(summary.run.checkpoints_dir))
            stamp, taken, size = self._sizes.get(path, ((), -math.inf, 0))
            if stamp != state and not (summary.state in LIVE and now - taken < _SIZE_INTERVAL):
                size = size_on_disk(summary.run)
                self._sizes[path] = state, now, size
                self.behind = time.monotonic() > deadline
            self._known[path] = signature, replace(summary, size=size)


def _unread(run: RunDirectory, live: bool) -> RunSummary:
    return RunSummary(run, RunState.TRAINING if live else None, None, None, None, None, None, last_written(run))


class _Reader:
    """Follows one run's files."""

    def __init__(self, run: RunDirectory, curve: int) -> None:
        from minigpt.metrics import Metrics  # here: the home screen's first frame shows no runs yet

        self._run = run
        self._width = curve
        self._metrics = Metrics(run.metrics_file)
        self._events = JournalTail(run.events_file)
        self._last_event: str | None = None
        self._event_step: tuple[int, int] = (0, 0)
        """Attempt and step of the newest event that tells them."""
        self._max_steps: int | None = None
        self._live = False
        self._begun = False
        self._cached = 0
        """Up to where its cache knows the metrics."""
        self._settings = settings_of(run)

    def read(self, deadline: float) -> bool:
        """Read what is new, or as much as there is time for; whether that was all."""
        self._live = self._run.is_live()  # asked first: a run that ends meanwhile has told how before its lock is free
        restarts = self._events.restarts
        while events := self._events.poll():
            if self._events.restarts != restarts:
                restarts = self._events.restarts
                self._last_event = self._max_steps = None
                self._event_step = (0, 0)
            self._last_event = last_state_event(events, self._last_event)
            for row in reversed(events):
                if (step := count_in(row, "step")) is not None:
                    self._event_step = (count_in(row, "attempt") or 1, step)
                    break
            limits = [limit for row in events if (limit := count_in(row, "max_steps")) is not None]
            self._max_steps = limits[-1] if limits else self._max_steps
        if not self._begun:
            self._begun = True
            if _stamp(self._run.metrics_file)[1] > _LONG and self._metrics.read_cache():
                self._cached = self._metrics.offset
        before = -1
        while self._metrics.offset != before:
            if self._metrics.offset - before > _BITE // 2 and before >= 0 and time.monotonic() > deadline:
                return False  # after a smaller bite nothing comes any more
            before = self._metrics.offset
            self._metrics.poll(_BITE)
        return True

    def _step(self) -> int | None:
        """That of the newest row, or of an event behind it: a run is stopped between two rows, and saved there."""
        step: int | None = self._metrics.last.get("step")
        attempt, event_step = self._event_step
        return max(step, event_step) if step is not None and attempt == self._metrics.attempt else step

    def keep_cache(self) -> None:
        """Keep what was read of a long run for the next time."""
        if self._metrics.offset - self._cached > _LONG:
            self._metrics.prepare_cache()()
            self._cached = self._metrics.offset

    def summary(self) -> RunSummary:
        """What was read."""
        return RunSummary(
            run=self._run,
            state=state_of(self._live, self._last_event),
            step=self._step(),
            max_steps=self._max_steps,
            train_loss=self._metrics.newest("train_loss"),
            val_loss=self._metrics.newest("val_loss"),
            best=self._metrics.best,
            written=last_written(self._run),
            curve=curve_of(self._metrics, self._width) if self._width else (),
            corpus=_text(self._settings.get("data.corpus")),
            about=_text(self._settings.get("run.about")),
            settings=self._settings,
        )


def curve_of(metrics: "Metrics", width: int) -> tuple[float, ...]:
    """The training loss in at most `width` values: means of equal stretches of steps, nan for one with a gap in it."""
    import numpy as np  # here: `minigpt runs` does without it

    steps, losses = metrics.series("train_loss")
    if not steps.size:
        return ()
    width = min(width, steps.size)
    span = max(1, int(steps[-1] - steps[0]))
    places = np.minimum((steps - steps[0]) * (width / (span + 1)), width - 1).astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.bincount(places, weights=losses, minlength=width)
    counts = np.bincount(places, minlength=width)
    return tuple(float(total / count) for total, count in zip(sums, counts, strict=True) if count)


def settings_of(run: RunDirectory) -> dict[str, Setting]:
    """What a run's configuration says, by dotted keys; of a file that is no configuration, what can be read as one."""
    import tomli

    try:
        table: dict[str, Any] = tomli.loads(read_limited(run.config_file, 1 << 20).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, Setting] = {}
    for section, values in table.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            # A whole number of thousands of digits fits into no float, and cannot be compared with one.
            if isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**62):
                short = value[:_LONGEST_SETTING] if isinstance(value, str) else value
                found[f"{section}.{key}"[:_LONGEST_SETTING]] = short
            if len(found) == _MOST_SETTINGS:
                return found
    return found


def _text(value: Setting | None) -> str:
    return value if isinstance(value, str) else ""


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


def size_in_words(size: int) -> str:
    """A number of bytes as `812 KiB`, `12.4 MiB` or `3.1 GiB`."""
    if size < 1000 << 10:
        return f"{-(-size // 1024)} KiB"
    amount, unit = (size / 2**20, "MiB") if size < 1000 << 20 else (size / 2**30, "GiB")
    return f"{amount:,.1f} {unit}"


def now() -> float:
    """The time against which ages are told."""
    return time.time()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
