"""Whatever becomes of the terminal, the training goes on; and the shell gets its terminal back as it was."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pyte
import pytest

APP = Path(__file__).with_name("terminal_app.py")
ROOT = APP.parents[2]
COLUMNS, ROWS = 100, 30  # not 80×24, which Textual takes where it can't find out the size


def wait_until(condition: Callable[[], object], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Session:
    """terminal_app.py in a pseudoterminal of its own; a thread reads what it draws."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.output = b""
        self.reading = threading.Event()
        self.reading.set()
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.modes = termios.tcgetattr(self.slave)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, APP, directory, *options],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env=environment | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
        )
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._closed.is_set():
            if not self.reading.is_set():
                time.sleep(0.01)
            elif select.select([self.master], [], [], 0.02)[0]:
                data = os.read(self.master, 1 << 16)
                self.output += data
                self._stream.feed(data)

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def hang_up(self) -> None:
        self._closed.set()
        self._reader.join()
        os.close(self.slave)
        os.close(self.master)

    def has(self, name: str) -> bool:
        return (self.directory / name).exists()

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    def assert_training(self) -> None:
        count = int(self.text("count"))
        wait_until(lambda: int(self.text("count")) >= count + 10, 5)

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def cpu(self, seconds: float) -> float:
        """The process's use of a core, from 0 to 1."""
        process = psutil.Process(self.process.pid)
        before = process.cpu_times()
        time.sleep(seconds)
        after = process.cpu_times()
        return (after.user + after.system - before.user - before.system) / seconds

    def __enter__(self) -> Self:
        wait_until(lambda: "aaaa" in self.screen.display[10] or "bbbb" in self.screen.display[10], 20)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if not self._closed.is_set():
            self.hang_up()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    sessions = 0

    def start(*options: str) -> Session:
        nonlocal sessions
        sessions += 1
        directory = tmp_path / str(sessions)
        directory.mkdir()
        return Session(directory, *options)

    return start


def assert_restored(session: Session) -> None:
    time.sleep(0.1)
    assert termios.tcgetattr(session.slave) == session.modes
    assert session.output.rfind(b"\x1b[?1049l") > session.output.rfind(b"\x1b[?1049h") >= 0
    assert session.output.rfind(b"\x1b[?25h") > session.output.rfind(b"\x1b[?25l") >= 0
    assert session.output.rfind(b"\x1b[?1003l") > session.output.rfind(b"\x1b[?1003h") >= 0


@pytest.mark.parametrize("options", [("log", "session"), ("log",)], ids=["with SIGHUP", "without a signal"])
def test_training_goes_on_after_a_hangup(start: Callable[..., Session], options: tuple[str, ...]) -> None:
    """SIGHUP killed the training along; ignored, it left Textual's input thread spinning at the end of the file."""
    with start(*options) as session:
        if "session" not in options:  # and without a write that would fail
            session.press("f")
            wait_until(lambda: "ffff" in session.screen.display[-1])
        session.hang_up()
        wait_until(lambda: session.has("returned"), 3)
        session.assert_training()
        assert session.cpu(1.5) < 0.15  # spinning it uses more than a whole core
        assert session.process.poll() is None

        session.signal(signal.SIGTERM)
        assert session.process.wait(3) == 0
        assert session.has("saved")
        assert session.text("dead") == "True"
        assert session.text("console.log").splitlines() == ["before the run", "after the app"]  # and no traceback


def test_sighup_ends_the_screen_only(start: Callable[..., Session]) -> None:
    """A terminal emulator that closes sends SIGHUP while the terminal is still there."""
    with start("log", "session") as session:
        session.signal(signal.SIGHUP)
        wait_until(lambda: session.has("returned"), 3)
        assert_restored(session)
        session.assert_training()


def test_a_stalled_terminal_is_repainted(start: Callable[..., Session]) -> None:
    """Writes to a terminal that takes nothing blocked the event loop; dropping them leaves the screen half drawn."""
    with start() as undisturbed:
        undisturbed.press("f")
        wait_until(lambda: "ffff" in undisturbed.screen.display[-1])
        expected = undisturbed.screen.buffer, undisturbed.screen.display

    with start("session") as session:
        session.reading.clear()
        time.sleep(3.5)
        session.assert_training()
        session.press("f")
        wait_until(lambda: session.has("frozen"), 1)  # the loop isn't blocked
        seen = len(session.output)
        session.reading.set()
        wait_until(lambda: session.screen.display == expected[1])
        assert session.screen.buffer == expected[0]
        assert len(session.output) - seen < 100_000  # no backlog of old frames

        session.hang_up()
        wait_until(lambda: session.has("returned"), 3)
        session.assert_training()


def test_a_stalled_terminal_does_not_hold_up_the_end(start: Callable[..., Session]) -> None:
    """The stop request waited for the event loop, which waited for the terminal; so did the last print."""
    with start("log", "session") as session:
        termios.tcflow(session.slave, termios.TCOOFF)
        time.sleep(1)
        session.assert_training()
        session.signal(signal.SIGTERM)
        wait_until(lambda: session.has("saved"), 0.5)
        assert session.process.wait(4) == 0


def test_what_is_printed_goes_to_the_log(start: Callable[..., Session]) -> None:
    """Native libraries printed over the screen, and Textual swallowed what Python printed."""
    with start("log") as session:
        (session.directory / "print").touch()
        wait_until(lambda: session.has("printed"))
        time.sleep(0.3)
        assert session.text("console.log").splitlines() == [
            "before the run",
            "native on 1",
            "native on 2",
            "python on stdout",
            "python on stderr",
        ]
        session.press("q")
        assert session.process.wait(3) == 0
        assert b"native" not in session.output
        assert b"python" not in session.output


def test_quitting_gives_the_terminal_back(start: Callable[..., Session]) -> None:
    """The shell after it had no echo; and what was printed before there was a run's log was lost."""
    with start("session") as session:
        # As large as the terminal, not as Textual's default.
        wait_until(lambda: f"{ROWS - 1} " in session.screen.display[-1], 5)
        session.press("q")
        assert session.process.wait(10) == 0
        assert_restored(session)
        afterwards = session.output[session.output.rfind(b"\x1b[?1049l") :]
        assert b"before the run\r\nafter the app" in afterwards


def test_a_crash_of_the_app_gives_the_terminal_back(start: Callable[..., Session]) -> None:
    """Its traceback must be seen, although descriptor 2 leads to the log; and it is no reason to stop training."""
    with start("log", "session") as session:
        session.press("c")
        wait_until(lambda: session.has("returned"), 3)
        wait_until(lambda: b"the app has crashed" in session.output)
        assert_restored(session)
        session.assert_training()
        session.press("\x03")  # now a signal again
        assert session.process.wait(3) == 0
        assert session.has("saved")


def test_stop_requests_do_not_need_the_event_loop(start: Callable[..., Session]) -> None:
    """A handler in the event loop isn't called while the loop is blocked."""
    with start("log", "slow", "session") as session:
        session.press("b")
        wait_until(lambda: session.has("blocked"))
        session.signal(signal.SIGTERM)
        time.sleep(0.01)
        session.signal(signal.SIGTERM)  # as timeout(1) sends it, which means one request
        wait_until(lambda: session.has("stopping"), 0.5)
        time.sleep(0.7)
        assert session.process.poll() is None

        session.signal(signal.SIGTERM)
        assert session.process.wait(1) == 128 + signal.SIGTERM
        assert_restored(session)


def test_a_pause_by_the_system_is_survived(start: Callable[..., Session]) -> None:
    """At a SIGCONT without SIGTSTP Textual starts a second input thread, and the process never ends."""
    with start("log", "session") as session:
        session.signal(signal.SIGSTOP)
        time.sleep(0.1)
        termios.tcsetattr(session.slave, termios.TCSANOW, session.modes)  # as a shell does meanwhile
        session.signal(signal.SIGCONT)
        wait_until(lambda: termios.tcgetattr(session.slave) != session.modes)
        session.press("f")
        wait_until(lambda: "ffff" in session.screen.display[-1])
        session.press("q")
        assert session.process.wait(3) == 0
        assert_restored(session)


def test_what_can_be_drawn_on() -> None:
    """Without a terminal on both sides Textual wrote its escape sequences into the file."""
    program = """
import os, sys
from tui.terminal.abilities import can_draw, is_interactive
terminal = int(sys.argv[1])
for standard_input, standard_output, term in [(0, 0, "xterm"), (1, 0, "xterm"), (0, 1, "xterm"), (0, 0, "dumb")]:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2((terminal, null)[standard_input], 0)
    os.dup2((terminal, null)[standard_output], 1)
    os.environ["TERM"] = term
    os.write(2, b"%d" % (is_interactive() and can_draw()))
"""
    master, slave = os.openpty()
    finished = subprocess.run(
        [sys.executable, "-c", program, str(slave)], pass_fds=[slave], stderr=subprocess.PIPE, cwd=ROOT, check=True
    )
    os.close(master)
    os.close(slave)
    assert finished.stderr == b"1000"
