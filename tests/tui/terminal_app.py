"""A small app in a terminal, with a thread that counts as a stand-in for the training.

What happens is written into files in the directory given. Options: `session` makes standard input the controlling
terminal, whose hangup then comes with SIGHUP; `log` sends the console to console.log; `slow` takes long to save.
"""

import fcntl
import os
import sys
import termios
import threading
import time
from pathlib import Path

from textual import events
from textual.app import App, ComposeResult
from textual.widgets import Static

from tui.terminal.connection import Terminal


class Counting(App[str]):
    """Redraws the whole screen ten times a second; f freezes it, b blocks the event loop, c crashes, q quits."""

    frames = 0

    def compose(self) -> ComposeResult:
        yield Static(id="text")

    def on_mount(self) -> None:
        self.timer = self.set_interval(0.1, self.draw)

    def draw(self) -> None:
        self.frames += 1
        self.show("ab"[self.frames % 2])

    def show(self, letter: str) -> None:
        rows = (f"{row:2} {letter * 70} [b]{letter}[/b]" for row in range(self.size.height))
        self.query_one("#text", Static).update("\n".join(rows))

    def on_key(self, event: events.Key) -> None:
        if event.key == "f":
            self.timer.stop()
            self.show("f")
            record("frozen")
        elif event.key == "b":
            record("blocked")
            time.sleep(6)
        elif event.key == "c":
            raise ValueError("the app has crashed")
        elif event.key == "q":
            self.exit("quit")


directory = Path(sys.argv[1])
options = sys.argv[2:]
stop = threading.Event()


def record(name: str, text: str = "") -> None:
    part = directory / f".{name}"
    part.write_text(text)
    part.rename(directory / name)


def train() -> None:
    count = 0
    while not stop.is_set():
        count += 1
        record("count", str(count))
        if (directory / "print").exists():
            (directory / "print").unlink()
            os.write(1, b"native on 1\n")
            os.write(2, b"native on 2\n")
            print("python on stdout")
            print("python on stderr", file=sys.stderr)
            record("printed")
        time.sleep(0.02)
    record("stopping")
    if "slow" in options:
        time.sleep(30)
    record("saved")


if "session" in options:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
trainer = threading.Thread(target=train)
with Terminal(on_stop=stop.set) as terminal:
    os.write(1, b"before the run\n")
    if "log" in options:
        terminal.send_console_to(directory / "console.log")
    trainer.start()
    result = terminal.run(Counting())
    record("returned", f"{result}")
    if result == "quit":
        stop.set()
    trainer.join()
    record("dead", str(terminal.dead))
print("after the app")
