"""Which of what happens to a run deserves an alert, told from its events and from how it goes on. Without a screen."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Literal

from minigpt.inert import inert_line, inert_pane
from minigpt.journal import Row, count_in, number_in, text_in
from minigpt.run_list import age
from minigpt.rundir import RunState, last_written
from minigpt.stalls import SHORTEST_STALL, STALL_INTERVALS
from tui.figures import duration, loss_figure
from tui.run.ended import lost_trainer
from tui.run.following import LONGEST_MESSAGE, Following

Severity = Literal["information", "warning", "error"]

QUIET = 60.0  # seconds after an alert in which others of its kind are only counted
STALL_GRACE = 10.0  # seconds in which a run that stands still may say so itself before its viewer does
_ROWS = 20  # from which the usual interval is told
LONGEST_LOOK = 10.0  # seconds between two looks that count as watching: a laptop may have slept
_MOST_KNOWN = 20_000  # events

NOTICES: dict[str, tuple[str, Severity]] = {
    "spike": ("loss spike", "warning"),
    "nonfinite": ("loss not finite", "error"),
    "overfitting": ("overfitting", "warning"),
    "disk": ("disk", "error"),
    "memory": ("out of memory", "warning"),
    "stall": ("stalled", "warning"),
}
"""The kinds of notice that are alerts, with their titles."""
_LASTING = frozenset({"finished", "stopped", "failed", "crashed"})  # never left out


@dataclass(frozen=True)
class Alert:
    """Something that the user should know of at once."""

    kind: str
    """"finished", "stopped", "failed", "crashed", "recovered", "went_on", or the kind of a notice."""
    title: str
    """What it is, in a few words."""
    message: str
    """One or two sentences, printable."""
    severity: Severity
    run: str
    """The run's name, printable."""
    step: int
    time: float
    """When it happened, as seconds since the epoch."""
    from_viewer: bool = False
    """Whether no file of the run tells it yet: a process that was killed or stopped cannot."""


class Alerts:
    """Takes in what each look at a run has brought, and says what of it deserves an alert; each event once.

    What the run's files told already when they were opened is history and raises none. `following` must have been
    polled, and be the same one each time. `told_stalls` is shared by all that watch runs, so that a hang is told
    once: the runs of which one of them has told it, with when they had last written something.
    """

    def __init__(self, told_stalls: dict[Path, float]) -> None:
        self._told_stalls = told_stalls
        self._known: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._opened = False
        self._was_live = False
        self._end_told = False
        self._crash_known = False
        """Whether the next event that tells of a crash tells of one before this was opened."""
        self._told_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}
        self._progress: object = None
        self._looked_at = 0.0
        self._waited = 0.0
        """Seconds that this viewer has watched without a sign of progress."""
        self._stalled = False
        """Whether it stands still, and this viewer has told that."""

    def take(self, following: Following, new_events: Sequence[Row], now: float) -> list[Alert]:
        """The alerts that are due; `now` is in seconds since the epoch."""
        fresh = [event for event in new_events if self._is_new(event)]
        if not self._opened:
            self._opened = not following.behind
            self._was_live = following.is_live
            # That it had crashed is said once more when it is taken up again, by whoever sees it crashed now.
            self._end_told = not following.is_live
            self._crash_known = following.starting
            self._progress = _progress_of(following)
            self._stalled = self._told_stalls.get(following.run.path) == last_written(following.run)
            self._looked_at = now
            return []
        found = []
        for event in fresh:
            if text_in(event, "event") == "started":
                self._end_told = self._crash_known = False
            found += self._of_event(following, event, now)
        found += self._of_crash(following, now) + self._of_stall(following, now)
        self._was_live = following.is_live
        return [told for alert in found if (told := self._unless_swarm(alert, now)) is not None]

    def words_while_stalled(self, following: Following, now: float) -> str:
        """What to say as long as the run stands still; empty while it does not."""
        if not following.is_live or not (self._stalled or _says_stalled(following)):
            return ""
        try:
            waited = now - following.run.metrics_file.stat().st_mtime
        except OSError:
            return ""
        return f"▲ stalled: nothing was logged for {age(waited)}. The process is still there."

    def _is_new(self, event: Row) -> bool:
        key = (
            number_in(event, "time"),
            *(count_in(event, name) for name in ("attempt", "step")),
            *(text_in(event, name) for name in ("event", "kind", "message")),
        )
        key = tuple(repr(part) for part in key)  # a nan is not equal to itself
        if key in self._known:
            return False
        self._known[key] = None
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return True

    # ── what there is to tell ─────────────────────────────────────────────────────────────────────────────────

    def _of_event(self, following: Following, event: Row, now: float) -> list[Alert]:
        is_crash = text_in(event, "event") == "crashed"
        if (is_crash and (self._end_told or self._crash_known)) or (is_stall(event) and self._stalled):
            return []  # a viewer has told it, or the user saw it before this was opened
        alert = alert_of(event, following.run.name, following.step, following.metrics.best, now)
        if alert is None:
            return []
        self._end_told |= alert.kind in _LASTING
        return [alert]

    def _of_crash(self, following: Following, now: float) -> list[Alert]:
        if not self._was_live or following.state is not RunState.CRASHED or self._end_told:
            return []
        self._end_told = True
        words = f"{lost_trainer(following).capitalize()}. It had come to step {following.step:,}."
        return [seen_here("crashed", words, following.run.name, following.step, now)]

    def _of_stall(self, following: Following, now: float) -> list[Alert]:
        progress = _progress_of(following)
        watched = min(max(0.0, now - self._looked_at), LONGEST_LOOK)
        self._looked_at = now
        trains = following.state is RunState.TRAINING and not (
            following.starting or following.evaluating or following.handing_over or _says_stalled(following)
        )
        if not trains or progress != self._progress or not _has_begun(following):
            self._progress = progress
            self._waited, self._stalled = 0.0, False
            return []
        self._waited += watched
        elapsed = following.series("elapsed")[1][-_ROWS:].tolist()
        if self._stalled or (words := stall_words(self._waited, elapsed)) is None:
            return []
        self._stalled = True
        self._told_stalls[following.run.path] = last_written(following.run)
        return [seen_here("stall", words, following.run.name, following.step, now)]

    def _unless_swarm(self, alert: Alert, now: float) -> Alert | None:
        if alert.kind in _LASTING:
            return alert
        # A clock that was set back must not silence it.
        if 0 <= now - self._told_at.get(alert.kind, -QUIET) < QUIET:
            self._left_out[alert.kind] = self._left_out.get(alert.kind, 0) + 1
            return None
        self._told_at[alert.kind] = now
        if left_out := self._left_out.pop(alert.kind, 0):
            return replace(alert, message=f"{alert.message} ({left_out:,} more since the last one told.)")
        return alert


def alert_of(event: Row, run: str, step: int, best: tuple[int, float] | None, now: float) -> Alert | None:
    """The alert that an event of a run deserves; None for most.

    The rest is what is known of the run: its name, how far it is, step and value of its best validation loss.
    """
    name = text_in(event, "event")
    message = inert_pane(text_in(event, "message")[:LONGEST_MESSAGE])
    severity: Severity = "information"
    if name == "notice" and text_in(event, "kind") in NOTICES:
        name = text_in(event, "kind")
        title, severity = NOTICES[name]
    elif name == "recovered":
        title, severity = "went back", "warning"
    elif name in {"finished", "stopped"}:
        title, message = name, f"It has come to step {step:,}."
        if best is not None:
            message += f" Best validation loss {loss_figure(best[1])} at step {best[0]:,}."
    elif name == "went_on":
        title = "goes on"
    elif name in {"failed", "crashed"}:
        title, severity = name, "error"
    else:
        return None
    at, time = count_in(event, "step"), number_in(event, "time")
    return Alert(
        kind=name,
        title=title,
        message=message or title,
        severity=severity,
        run=inert_line(run),
        step=step if at is None else at,
        time=now if time is None or not isfinite(time) else time,
    )


def seen_here(kind: Literal["crashed", "stall"], message: str, run: str, step: int, now: float) -> Alert:
    """The alert of what a viewer has seen, and the run's files do not tell yet."""
    title, severity = NOTICES.get(kind, (kind, "error"))
    return Alert(kind, title, message, severity, inert_line(run), step, now, from_viewer=True)


def stall_words(waited: float, elapsed: Sequence[float]) -> str | None:
    """What to say of a run that has logged nothing for `waited` seconds of watching; None while that is no stall.

    `elapsed` are the seconds of training at which its rows came, or its last ones.
    """
    gaps = [after - before for before, after in pairwise(elapsed[-_ROWS:]) if isfinite(after - before)]
    usual = max(0.0, median(gaps)) if gaps else 0.0
    if waited < max(SHORTEST_STALL, STALL_INTERVALS * usual) + usual + STALL_GRACE:
        return None
    often = f"; usually a row comes every {_seconds(usual)}" if usual else ""
    return f"Nothing was logged for {duration(waited)}{often}. The process is still there."


def is_stall(event: Row) -> bool:
    """Whether the run says that it stands still."""
    return text_in(event, "event") == "notice" and text_in(event, "kind") == "stall"


def _progress_of(following: Following) -> object:
    return following.metrics.offset, following.events_read, len(following.samples)


def _says_stalled(following: Following) -> bool:
    """Whether the run says itself that it stands still."""
    number, event = following.remembered[-1] if following.remembered else (-1, {})
    return number == following.events_read - 1 and is_stall(event)


def _has_begun(following: Following) -> bool:
    """Whether the last attempt has written a row of steps: the first one may be compiled for minutes."""
    return following.latest("tokens_per_second") is not None


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 100 else duration(seconds)
