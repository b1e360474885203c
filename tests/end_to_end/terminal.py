"""The real program on a pseudoterminal of its own, seen through a terminal emulator."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from resource import struct_rusage
from types import MappingProxyType
from typing import IO, Self

import pyte

from tui.screens.dialogs import GRACE

PATIENCE = 60.0  # seconds; more than anything here takes, also on a slow machine
ESCAPE = "\x1b"
CTRL_C = "\x03"

# Makes the pseudoterminal the controlling one, as it is under a shell: so that hanging up and resizing send signals.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(2, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
# Without that, whatever has a terminal only by its descriptors is told by the end of the file alone.
_BESIDE_TERMINAL = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?<=>]*\$?[a-zA-Z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()=>78c].?")


def script(name: str = "minigpt-tui") -> str:
    """The installed script, as a user starts it; another program's absolute path as it is."""
    return str(Path(sys.executable).parent / name)


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something outside of any terminal holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def environment(changes: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """This process's environment with changes, and without what tells the program a size or takes its colours away."""
    dropped = ("COLUMNS", "LINES", "NO_COLOR", "ACCESSIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", **changes}


class Program:
    """A `command` with these arguments in a terminal; `variables` change its environment. A thread reads what it draws.

    If the terminal is not `controlling`, its loss sends no signal. The slave side stays open here, so that the
    terminal's modes can be looked at after the program has ended.
    """

    def __init__(
        self,
        *arguments: str | Path,
        columns: int = 120,
        rows: int = 36,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
        command: str = "minigpt-tui",
        controlling: bool = True,
    ) -> None:
        self.output = b""
        self.usage: struct_rusage | None = None
        """What the program used altogether, once it has ended."""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.master, self.slave = os.openpty()
        self._set_size(columns, rows)
        self.modes = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _ON_TERMINAL if controlling else _BESIDE_TERMINAL),
                *(script(command), *map(str, arguments)),
            ],
            stdin=self.slave if stdin is None else stdin,
            stdout=self.slave if stdout is None else stdout,
            stderr=self.slave,
            start_new_session=True,
            env=environment(variables),
        )
        self._last_read = threading.Event()
        self._stalled = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            last = self._last_read.is_set()  # asked first: then nothing comes after what is read now
            if self._stalled:
                if last:
                    return
                time.sleep(0.02)
            elif select.select([self.master], [], [], 0 if last else 0.02)[0]:
                data = os.read(self.master, 1 << 16)
                with self._lock:
                    self.output += data
                    self._stream.feed(data)
            elif last:
                return

    # ── what is seen ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def lines(self) -> list[str]:
        """The screen, line by line."""
        with self._lock:
            return list(self._screen.display)

    @property
    def text(self) -> str:
        """The screen, without the blanks at the ends of its lines."""
        return "\n".join(line.rstrip() for line in self.lines)

    def cells(self, top: int, left: int, bottom: int, right: int) -> list[list[pyte.screens.Char]]:
        """A rectangle of cells with their colours; `bottom` and `right` are outside of it."""
        with self._lock:
            return [[self._screen.buffer[row][column] for column in range(left, right)] for row in range(top, bottom)]

    def find(self, text: str) -> tuple[int, int] | None:
        """Row and column of a text on the screen."""
        found = ((row, line.find(text)) for row, line in enumerate(self.lines))
        return next(((row, column) for row, column in found if column >= 0), None)

    @property
    def after_the_screen(self) -> str:
        """What was printed on the normal screen after the program had left its own, without control sequences."""
        printed = self.output[max(0, self.output.rfind(b"\x1b[?1049l")) :].decode()
        return _CONTROL_SEQUENCE.sub("", printed).replace("\r\n", "\n").strip()

    def wait_until(self, seen: str | Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait for a text on the screen, or until a condition holds."""
        deadline = time.monotonic() + seconds
        while not (seen in self.text if isinstance(seen, str) else seen()):
            what = repr(seen) if isinstance(seen, str) else "a condition"
            assert self.running, f"ended while waiting for {what}:\n{self.after_the_screen}"
            assert time.monotonic() < deadline, f"waited for {what} in vain:\n{self.text}"
            time.sleep(0.03)

    def wait_until_still(self, seconds: float = 1.0) -> None:
        """Wait until nothing has been drawn for so long: for a screen on which nothing goes on."""
        deadline = time.monotonic() + PATIENCE
        while True:
            drawn = len(self.output)
            time.sleep(seconds)
            if len(self.output) == drawn:
                return
            assert time.monotonic() < deadline, f"never still:\n{self.text}"

    # ── what is done to it ────────────────────────────────────────────────────────────────────────────────────

    def press(self, keys: str) -> None:
        """Type keys, as the terminal sends them."""
        os.write(self.master, keys.encode())

    def answer(self, key: str) -> None:
        """Answer a question as a hand does: what comes as it comes up was typed for the screen below."""
        time.sleep(GRACE + 0.1)
        self.press(key)

    def point(self, row: int, column: int, button: int = 0, *, released: bool = False) -> None:
        """What the mouse does at a cell, as a terminal reports it: 0 left, 32 left and moved, 64 wheel up, 65 down."""
        self.press(f"{ESCAPE}[<{button};{column + 1};{row + 1}{'m' if released else 'M'}")

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size, of which the kernel tells the program by a signal."""
        with self._lock:
            self._screen.resize(rows, columns)
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stall(self) -> None:
        """Read no more, as a dead connection does that nobody has noticed, and let it draw until nothing more goes in."""
        self._stalled = True
        size = fcntl.ioctl(self.master, termios.TIOCGWINSZ, bytes(8))
        rows, columns, _, _ = struct.unpack("HHHH", size)
        deadline = time.monotonic() + PATIENCE
        while select.select([], [self.slave], [], 0)[1]:
            assert time.monotonic() < deadline, "the terminal takes everything"
            # A new size has everything drawn anew.
            columns ^= 1
            self._set_size(columns, rows)
            time.sleep(0.2)

    def go_on_reading(self) -> None:
        """Take what has come meanwhile, and what comes."""
        self._stalled = False

    def hang_up(self) -> None:
        """Take the terminal away, as a closed window or a lost connection does."""
        self._stop_reading()
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    # ── its end ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> bool:
        if self.process.returncode is None:
            # Not `Popen.poll`, which would throw away what the process used.
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.usage = usage
        return self.process.returncode is None

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait until the program has ended and all that it wrote was read; return its exit status."""
        deadline = time.monotonic() + seconds
        while self.running:
            assert time.monotonic() < deadline, f"has not ended:\n{self.text}"
            time.sleep(0.02)
        if self.master >= 0:
            self._stop_reading()
        return self.process.returncode

    def assert_restored(self) -> None:
        """The terminal is as it was before: its modes, its screen and its cursor."""
        assert termios.tcgetattr(self.slave) == self.modes, "the terminal's modes have changed"
        for on, off in (
            ("\x1b[?1049h", "\x1b[?1049l"),  # the alternate screen
            ("\x1b[?25l", "\x1b[?25h"),  # the cursor
            ("\x1b[?1003h", "\x1b[?1003l"),  # reports of the mouse
            ("\x1b[?2004h", "\x1b[?2004l"),  # marks around what is pasted
        ):
            set_at, reset_at = self.output.rfind(on.encode()), self.output.rfind(off.encode())
            assert reset_at > set_at >= 0, f"{on!r} was not followed by {off!r}"

    def _stop_reading(self) -> None:
        self._last_read.set()
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.wait()
        if self.master >= 0:
            self.hang_up()
