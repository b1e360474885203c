"""The terminal as something to write to that never waits and never raises."""

import io
import os
import re
import select
import threading
import time
from collections.abc import Callable

STALLED_AFTER = 2.0  # seconds without progress
MOST_PENDING = 1 << 16  # characters; a reader at 10 kB/s then sees a screen at most some seconds old

# What switches the terminal's modes, as opposed to what draws. Synchronized output (2026) belongs to a frame.
_MODE = re.compile(r"\x1b\[(?!\?2026[hl])[?<>][\d;]*\$?[a-z]")
ENTER_ALTERNATE, LEAVE_ALTERNATE = "\x1b[?1049h", "\x1b[?1049l"


class TerminalOutput(io.TextIOBase):
    """The terminal as a file whose `write` never waits and never raises.

    A thread of its own does the blocking writes. It needs no O_NONBLOCK, which would apply to the shell's descriptor
    too. While the terminal takes nothing, whole frames are dropped, but never the rest of one that has been started,
    which could be half an escape sequence, nor a change of mode, which no later frame repeats.
    """

    def __init__(self, descriptor: int, encoding: str, on_caught_up: Callable[[], None]) -> None:
        self.dead = False
        self.in_alternate_screen = False
        self.sent = 0
        """How many bytes the terminal has taken."""
        self._descriptor = descriptor
        self._encoding = encoding
        self._on_caught_up = on_caught_up
        self._changed = threading.Condition()
        self._pending: list[str] = []
        self._writing = False
        self._dropped = False
        self._closing = False
        self._progress_at = time.monotonic()
        # A daemon, since it may be blocked in write() for ever.
        self._thread = threading.Thread(target=self._drain, name="terminal-output", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def stalled(self) -> bool:
        """The terminal is there, but hasn't taken any output for a while."""
        return (self._writing or bool(self._pending)) and time.monotonic() - self._progress_at > STALLED_AFTER

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._changed:
            if self.dead:
                return len(text)
            if not (self._writing or self._pending):
                self._progress_at = time.monotonic()
            if _MODE.fullmatch(text):
                self._pending.append(text)
                if text in (ENTER_ALTERNATE, LEAVE_ALTERNATE):
                    self.in_alternate_screen = text == ENTER_ALTERNATE
            elif self.stalled or sum(map(len, self._pending)) > MOST_PENDING:
                self._pending = [chunk for chunk in self._pending if _MODE.fullmatch(chunk)]
                self._dropped = True
            else:
                self._pending.append(text)
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        # Frames needn't wait. What is printed after the app has left its screen must: Textual stops the process
        # with SIGSTOP, and with it the writing thread, straight after it has left the screen.
        if not self.in_alternate_screen:
            self.wait_until_written(0.2)

    def wait_until_written(self, timeout: float) -> bool:
        """Wait for what has been written so far, but for nothing where the terminal has already stalled."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.dead or not (self._pending or self._writing), 0 if self.stalled else timeout
            )

    def mark_dead(self) -> None:
        """Give the terminal up: nothing more is written."""
        with self._changed:
            self.dead = True
            self._pending.clear()
            self._changed.notify_all()

    def end(self) -> bool:
        """End the writing thread; False if it still hangs in a write, and with it the descriptor."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(0.1)
        return not self._thread.is_alive()

    def _drain(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing)
                if not self._pending:
                    return
                data = "".join(self._pending).encode(self._encoding, "replace")
                self._pending.clear()
                self._writing = True
            try:
                self._write_all(data)
            except OSError:
                self.mark_dead()
            with self._changed:
                self._writing = False
                caught_up = self._dropped and not self._pending
                self._dropped = self._dropped and not caught_up
                self._changed.notify_all()
            if caught_up and not self.dead:
                self._on_caught_up()

    def _write_all(self, data: bytes) -> None:
        while data and not self.dead:
            try:
                written = os.write(self._descriptor, data[:16384])
                self.sent += written
                data = data[written:]
                self._progress_at = time.monotonic()
            except BlockingIOError:  # an earlier program left O_NONBLOCK set
                select.select([], [self._descriptor], [], 1)
