"""Training without a screen: rich progress on a terminal, one plain line per row elsewhere.

Like the dashboard it reads the run directory, and the trainer neither knows nor waits for it.
"""

import contextlib
import os
import select
import signal
import sys
import time
from types import FrameType

from minigpt.display import Display, PlainDisplay, ProgressDisplay
from minigpt.epilogue import closing_words, print_curves, print_epochs, print_sample
from minigpt.errors import UserError
from minigpt.journal import JournalTail, Row, count_in
from minigpt.session import TrainingSession
from minigpt.signals import AGAIN_AFTER

_REFRESH = 0.25  # seconds


def run_headless(session: TrainingSession, display: Display | None = None) -> int:
    """Train in a session to its end and return the exit code; `display` shows it, or else what suits standard output.

    The first Ctrl+C or SIGTERM saves and ends, the second ends at once. A terminal that goes away only ends the
    display: the training goes on.
    """
    if display is None:
        draws = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        display = ProgressDisplay() if draws else PlainDisplay()
    received: list[int] = []
    first_at = 0.0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        if received and number != signal.SIGHUP:
            if number == signal.SIGTERM and time.monotonic() - first_at < AGAIN_AFTER:
                return
            if isinstance(display, ProgressDisplay):
                _show_cursor()
            os._exit(128 + number)
        if number != signal.SIGHUP:
            received.append(number)
            first_at = time.monotonic()
            session.request_stop()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    session.start()
    follower = _Follower(session)
    told = False
    try:
        while True:
            alive = session.is_alive()
            try:
                if display and received and not told:
                    told = True
                    display.phase("stopping after this step (once more to end at once)")
                if display:
                    follower.show(display)
                    display.refresh()
            except OSError:
                # The terminal or the pipe is gone: train on in silence.
                _silence()
                if display:
                    with contextlib.suppress(OSError):
                        display.close()
                display = None
            if not alive:
                break
            session.join(_REFRESH)
    finally:
        try:
            if display:
                display.close()
        except OSError:
            _silence()
        for number, handler in previous.items():
            # The second half of a doubled SIGTERM may come only now; the process is ending as it was asked to.
            signal.signal(number, signal.SIG_IGN if received and number == signal.SIGTERM else handler)
    return _report(session, received, curves=isinstance(display, ProgressDisplay))


class _Follower:
    """Hands what is new in a session and its run directory to a display."""

    def __init__(self, session: TrainingSession) -> None:
        self._session = session
        self._phase = ""
        self._trouble = ""
        self._tails: tuple[JournalTail, JournalTail] | None = None

    def show(self, display: Display) -> None:
        session = self._session
        if self._tails is None and session.run_directory is not None:
            # A resumed run's earlier attempts were shown when they happened.
            self._tails = (
                JournalTail(session.run_directory.events_file, session.offsets["events"]),
                JournalTail(session.run_directory.metrics_file, session.offsets["metrics"]),
            )
        if session.phase != self._phase and not session.stop_requested:
            self._phase = session.phase
            if self._phase not in {"training", "ended"}:
                display.phase(self._phase)
        if session.trouble != self._trouble:
            self._trouble = session.trouble
            display.trouble(self._trouble)
        if self._tails is not None:
            events, metrics = (tail.poll() for tail in self._tails)
            entries = [*((entry, display.event) for entry in events), *((entry, display.row) for entry in metrics)]
            entries = [(entry, shown) for entry, shown in entries if isinstance(entry.get("step"), int)]
            for entry, shown in sorted(entries, key=lambda pair: _place_in_log(pair[0])):
                shown(entry)


def _place_in_log(entry: Row) -> tuple[int, int, int]:
    # Two files in the order in which things happened: by attempt, since one may have gone back, and by step, and there
    # the row before what followed from it.
    begins = entry.get("event") in {"started", "recovered"}
    return count_in(entry, "attempt") or 0, entry["step"], 1 if "event" not in entry else 0 if begins else 2


def _report(session: TrainingSession, received: list[int], *, curves: bool) -> int:
    run = session.run_directory
    if isinstance(session.error, UserError):
        raise session.error
    code = 0 if session.error is None else 1
    if received and session.error is None and session.outcome == "stopped":
        code = 128 + received[0]
    try:
        for line in closing_words(session):
            print(line, file=sys.stderr if session.error else sys.stdout)
        if session.outcome == "finished" and run is not None:
            if curves:
                print_curves(run)
            print_epochs(run)
            print_sample(run)
        sys.stdout.flush()
    except OSError:
        _silence()
    return code


def _silence() -> None:
    # What Python still has in its buffers for a terminal that is gone must not raise at exit. Errors may go elsewhere,
    # into a file or past a pipe to the terminal, and are still wanted there.
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        if os.path.sameopenfile(1, 2):
            os.dup2(null, 2)
    os.dup2(null, 1)
    os.close(null)


def _show_cursor() -> None:
    # Past rich, which may be in the middle of a write; and never waiting for a terminal that has stalled.
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [1], [], 0)[1]:
            os.write(1, b"\x1b[?25h\r\n")
