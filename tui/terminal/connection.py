"""The terminal under the app: it may stall, close or be printed over, and the training must not notice.

Textual alone fails in each of these cases (measured, see docs/development.md). A hangup kills the process, or leaves
its input thread spinning; a terminal that takes no more output blocks the event loop; a signal kills the training;
whatever a native library prints lands on the screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any, TextIO, TypeVar, cast

from rich.console import Console
from textual.app import App

from minigpt.signals import AGAIN_AFTER
from tui.terminal.output import LEAVE_ALTERNATE, TerminalOutput

Result = TypeVar("Result")


# All that Textual's driver sets, for the cases in which it doesn't come to reset it.
_RESET = [
    *(f"\x1b[?{mode}l" for mode in (2026, 1000, 1003, 1006, 1015, 1016, 1004, 2004, 2048)),
    "\x1b[?7h",
    "\x1b[<u",
    LEAVE_ALTERNATE,
    "\x1b[?25h",
]


class Terminal:
    """Takes the terminal over from the process and gives it back; in between, runs the app on it.

    Descriptors 1 and 2, and with them everything that is printed, go to a file. SIGTERM and SIGINT call `on_stop`
    at once, in a thread of their own, whatever the event loop does, and end the screen; a second one ends the process.
    SIGHUP or the loss of the terminal ends the screen only: `run` returns, and what trains goes on.
    """

    def __init__(self, *, on_stop: Callable[[], None]) -> None:
        self._on_stop = on_stop
        self._ending = False
        self._stop_requested_at: float | None = None
        self.stop_signal: int | None = None
        """The signal that asked for the end, once one has."""
        self._app: App[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def dead(self) -> bool:
        """The terminal is gone for good."""
        return self._output.dead

    @property
    def sent(self) -> int:
        """How many bytes the terminal has taken so far."""
        return self._output.sent

    def __enter__(self) -> Terminal:
        sys.stdout.flush()
        sys.stderr.flush()
        self._tty = os.dup(1)
        self._modes = termios.tcgetattr(self._tty)
        # Where the user has sent stderr to a file, it stays there.
        self._originals = {descriptor: os.dup(descriptor) for descriptor in (1, 2) if os.isatty(descriptor)}
        self._early: IO[bytes] | None = tempfile.TemporaryFile()
        for descriptor in self._originals:
            os.dup2(self._early.fileno(), descriptor)

        self._output = TerminalOutput(self._tty, sys.stdout.encoding, self._repaint)
        self._streams = sys.__stdout__, sys.__stderr__
        # Textual draws on __stderr__, and takes the size of the screen from __stdout__.
        sys.__stdout__ = sys.__stderr__ = self._output  # type: ignore[misc, assignment]

        # The C part of Python's signal handling writes the number to this pipe even when the main thread is busy.
        # loop.add_signal_handler would take the pipe away: nobody else may use it.
        self._wakeup, signalled = os.pipe()
        os.set_blocking(signalled, False)
        self._signalled = signalled
        self._wakeup_before = signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        self._handlers = {
            signum: signal.signal(signum, _nothing)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            if signal.getsignal(signum) is not signal.SIG_IGN  # as nohup leaves SIGHUP
        }
        self._watcher = threading.Thread(target=self._watch, name="terminal-watch", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._output.in_alternate_screen:
            self._reset_screen()
        usable = self._output.wait_until_written(1.0) and not self.dead
        signal.set_wakeup_fd(self._wakeup_before)
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        os.write(self._signalled, b"\0")
        self._watcher.join()
        os.close(self._signalled)
        os.close(self._wakeup)

        sys.stdout.flush()
        sys.stderr.flush()
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]
        for descriptor, original in self._originals.items():
            if usable:  # otherwise the next print would raise, or never return
                os.dup2(original, descriptor)
            os.close(original)
        if usable:
            sys.stderr.write(self._printed_early(0).decode(errors="replace"))
            sys.stderr.flush()
        if self._early is not None:
            self._early.close()
        if self._output.end():
            os.close(self._tty)

    def run(
        self, app: App[Result], *, mouse: bool = True, on_painted: Callable[[], object] = lambda: None
    ) -> Result | None:
        """Run the app on this terminal until it ends, or the terminal does; `on_painted` follows the first frame."""

        async def run() -> Result | None:
            self._app, self._loop = app, asyncio.get_running_loop()
            # stderr belongs to the log, but whoever sees the screen end must see why.
            app.error_console = Console(file=cast(IO[str], self._output), markup=False, highlight=False)
            app.call_later(self._app_started, sys.stdout, sys.stderr)
            app.call_later(app.call_after_refresh, on_painted)
            if self._ending:
                return None
            try:
                return await app.run_async(mouse=mouse)
            finally:
                self._app = self._loop = None

        job_control = {signum: signal.getsignal(signum) for signum in (signal.SIGTSTP, signal.SIGCONT)}
        try:
            return asyncio.run(run())
        finally:
            # Textual leaves its handlers behind; after Ctrl+Z and fg they'd start a driver without an event loop.
            for signum, handler in job_control.items():
                signal.signal(signum, handler)

    def send_console_to(self, path: Path) -> None:
        """Append all that is printed to this file from now on, after what was printed before there was one."""
        with path.open("ab", buffering=0) as log:
            earlier = self._printed_early(0)
            log.write(earlier)
            for descriptor in self._originals:
                os.dup2(log.fileno(), descriptor)
            log.write(self._printed_early(len(earlier)))  # printed meanwhile
            if self._early is not None:
                self._early.close()
                self._early = None

    def _printed_early(self, offset: int) -> bytes:
        if self._early is None:
            return b""
        # pread, since descriptors 1 and 2 share this file's position.
        descriptor = self._early.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, offset)

    def _app_started(self, stdout: TextIO, stderr: TextIO) -> None:
        # Textual takes what Python prints and drops it.
        sys.stdout, sys.stderr = stdout, stderr

        suspend, resume = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)
        suspended = False

        def on_suspend(signum: int, frame: FrameType | None) -> None:
            nonlocal suspended
            suspended = True
            if callable(suspend):
                suspend(signum, frame)

        def on_continue(signum: int, frame: FrameType | None) -> None:
            # After a SIGSTOP, which it couldn't see, Textual would start a second input thread, and never end again.
            nonlocal suspended
            if suspended and callable(resume):
                suspended = False
                resume(signum, frame)
            else:
                self._call(self._enter_again)

        signal.signal(signal.SIGTSTP, on_suspend)
        signal.signal(signal.SIGCONT, on_continue)

    def _enter_again(self) -> None:
        # On a hangup the kernel sends SIGCONT along with SIGHUP.
        if self._app is not None and not self._ending and self._alive():
            with self._app.suspend():
                pass

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._wakeup], [], [], 1)
            for signum in os.read(self._wakeup, 64) if ready else b"":
                if signum == 0:
                    return
                if signum == signal.SIGHUP:
                    self._end_screen()
                elif signum in (signal.SIGTERM, signal.SIGINT):
                    self._stop(signum)
            # The hangup of a terminal that isn't the session's own comes without a signal, and so under nohup.
            if not self.dead and not self._alive():
                self._output.mark_dead()
            if self.dead:
                self._end_screen()

    def _stop(self, signum: int) -> None:
        if self._stop_requested_at is None:
            self._stop_requested_at = time.monotonic()
            self.stop_signal = signum
            self._on_stop()
            self._end_screen()
        elif time.monotonic() - self._stop_requested_at > AGAIN_AFTER:
            if self._output.in_alternate_screen:
                self._reset_screen()
                self._output.wait_until_written(0.3)
            os._exit(128 + signum)

    def _alive(self) -> bool:
        try:
            termios.tcgetattr(self._tty)
        except termios.error:
            return False
        return True

    def _reset_screen(self) -> None:
        # Only where Textual hasn't done it: tcsetattr would stop a process that is now in the background.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._tty, termios.TCSANOW, self._modes)
        for sequence in _RESET:
            self._output.write(sequence)

    def _end_screen(self) -> None:
        if not self._ending:
            self._ending = True
            if self._app is not None:
                self._call(self._app.exit)

    def _repaint(self) -> None:
        if self._app is not None:
            self._call(self._app.refresh)

    def _call(self, callback: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(callback)


def _nothing(_signum: int, _frame: FrameType | None) -> None:
    """Python needs a handler to tell the wakeup descriptor."""
