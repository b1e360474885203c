"""What deserves an alert among the runs of a list: that one has ended, or stands still. Without a screen."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from minigpt.journal import JournalTail, Row, count_in, number_in, text_in
from minigpt.run_list import LIVE, RunSummary
from minigpt.rundir import RunState, last_state_event
from minigpt.stalls import SHORTEST_STALL
from tui.run.alerts import LONGEST_LOOK, Alert, alert_of, is_stall, seen_here, stall_words

_ENDS = frozenset({"finished", "stopped", "failed", "crashed"})
_TOLD = _ENDS | {"stall", "went_on"}
_LONG_BY_NATURE = frozenset({"evaluating", "handing_over"})  # events after which nothing may come for long
_TAIL = 1 << 16  # bytes of a file, in which its last rows are


@dataclass
class _Watched:
    """A run that goes on."""

    events: JournalTail
    newest: Row
    """The last event."""
    progress: object
    stalled: bool
    """Whether it stands still, and a viewer has told that."""
    ended: bool
    """Whether its end has been told, and no new attempt yet: somebody may only hold it, to rename it for example."""
    waited: float = 0.0
    """Seconds of looking without progress."""


class RunListAlerts:
    """Takes in what each look at the list has brought; tells only of runs that were going on at the look before.

    `told_stalls` is as for `Alerts`.
    """

    def __init__(self, told_stalls: dict[Path, float]) -> None:
        self._told_stalls = told_stalls
        self._watched: dict[Path, _Watched] = {}
        self._looked_at = 0.0

    def take(
        self, runs: Sequence[RunSummary], now: float, *, own: Path | None = None, just_left: Collection[Path] = ()
    ) -> list[Alert]:
        """The alerts that are due at `now`, in seconds since the epoch.

        `own` is the run that this process trains, which is told of elsewhere. Of runs whose screens were `just_left`,
        which told of them until now, what is there is history.
        """
        passed = min(max(0.0, now - self._looked_at), LONGEST_LOOK)
        self._looked_at = now
        before, self._watched = self._watched, {}
        found = []
        for run in runs:
            path = run.run.path
            if path == own:
                continue
            watched = None if path in just_left else before.get(path)
            if watched is not None:
                found += _of_run(run, watched, passed, now)
                if watched.stalled:
                    self._told_stalls[path] = run.written
            if run.state in LIVE:
                self._watched[path] = watched or _begin(run, stalled=self._told_stalls.get(path) == run.written)
        return found


def _begin(run: RunSummary, *, stalled: bool) -> _Watched:
    events = _tail_of(run.run.events_file)
    rows = events.poll()
    newest = rows[-1] if rows else {}
    return _Watched(events, newest, _progress_of(run, events), stalled, ended=last_state_event(rows) in _ENDS)


def _of_run(run: RunSummary, watched: _Watched, passed: float, now: float) -> list[Alert]:
    found = _of_events(run, watched, now)
    if run.state in LIVE:
        return found + _of_stall(run, watched, passed, now)
    if watched.ended or any(alert.kind in _ENDS for alert in found):
        return found
    end = _of_end(run, now)
    return found if end is None else [*found, end]


def _of_events(run: RunSummary, watched: _Watched, now: float) -> list[Alert]:
    restarts = watched.events.restarts
    events = watched.events.poll()
    watched.newest = events[-1] if events else watched.newest
    if watched.events.restarts != restarts:  # written anew: what it tells is history
        return []
    found = []
    for event in events:
        alert = alert_of(event, run.run.name, run.step or 0, run.best, now)
        if text_in(event, "event") == "started":
            watched.ended = False
        if alert is None or alert.kind not in _TOLD or (is_stall(event) and watched.stalled):
            continue
        if alert.kind in _ENDS:
            if watched.ended:
                continue
            watched.ended = True
        found.append(alert)
    return found


def _of_end(run: RunSummary, now: float) -> Alert | None:
    """The end of a run that its events do not tell."""
    step = run.step or 0
    if run.state is RunState.CRASHED:
        words = f"The process that trained it is gone. It had come to step {step:,}."
        return seen_here("crashed", words, run.run.name, step, now)
    return alert_of({"event": str(run.state)}, run.run.name, step, run.best, now)


def _of_stall(run: RunSummary, watched: _Watched, passed: float, now: float) -> list[Alert]:
    progress = _progress_of(run, watched.events)
    says_so = is_stall(watched.newest) or text_in(watched.newest, "event") in _LONG_BY_NATURE
    if progress != watched.progress or run.state is not RunState.TRAINING or says_so:
        watched.progress, watched.waited, watched.stalled = progress, 0.0, False
        return []
    watched.waited += passed
    if watched.stalled or watched.waited < SHORTEST_STALL:
        return []
    attempt = count_in(watched.newest, "attempt") or 0
    rows = [row for row in _tail_of(run.run.metrics_file).poll() if (count_in(row, "attempt") or 1) >= attempt]
    if all(number_in(row, "tokens_per_second") is None for row in rows):
        return []  # its first step is still being compiled
    times = [elapsed for row in rows if (elapsed := number_in(row, "elapsed")) is not None]
    if (words := stall_words(watched.waited, times)) is None:
        return []
    watched.stalled = True
    return [seen_here("stall", words, run.run.name, run.step or 0, now)]


def _progress_of(run: RunSummary, events: JournalTail) -> object:
    return run.step, run.written, events.offset


def _tail_of(path: Path) -> JournalTail:
    try:
        return JournalTail(path, max(0, path.stat().st_size - _TAIL))  # half a line at its beginning is passed over
    except OSError:
        return JournalTail(path)
