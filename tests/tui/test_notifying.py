"""How an alert reaches the user: toast, bell, and the escape code that the terminal knows."""

import os
import re
import select
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App
from textual.widgets._toast import Toast

from tests.tui.panes import until
from tui import styles
from tui.notifying import announce, notification
from tui.run.alerts import Alert
from tui.settings import Settings

APP = Path(__file__).with_name("announcing_app.py")
ROOT = APP.parents[2]
KITTY, ITERM, FOOT = {"KITTY_WINDOW_ID": "1"}, {"TERM_PROGRAM": "iTerm.app"}, {"TERM": "foot"}


@pytest.mark.parametrize(
    ("environment", "begins"),
    [
        (ITERM, "\x1b]9;"),
        ({"TERM_PROGRAM": "WezTerm"}, "\x1b]9;"),
        ({"TERM_PROGRAM": "ghostty", "TERM": "xterm-ghostty"}, "\x1b]9;"),
        ({"LC_TERMINAL": "iTerm2", "TERM": "xterm-256color"}, "\x1b]9;"),
        (FOOT, "\x1b]777;notify;"),
        ({"TERM": "rxvt-unicode-256color"}, "\x1b]777;notify;"),
        ({"VTE_VERSION": "7600", "TERM": "xterm-256color"}, "\x1b]777;notify;"),
        ({"WT_SESSION": "guid"}, "\x1b]777;notify;"),
        ({"TERM": "xterm-kitty"}, "\x1b]99;"),
        (KITTY, "\x1b]99;"),
        ({**KITTY, "TMUX": "/tmp/t,1,0", "TERM": "tmux-256color", "TERM_PROGRAM": "tmux"}, "\x1bPtmux;\x1b\x1b]99;"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "linux"}, ""),
        ({"TERM": "footsteps"}, ""),
        ({**FOOT, "STY": "123.pts-0"}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_the_code_that_the_terminal_knows(environment: dict[str, str], begins: str) -> None:
    """Guards a code for a terminal that would show it as letters, and silence on one that knows it."""
    sequence = notification("minigpt: spike", "it leapt", environment)
    assert sequence.startswith(begins) and bool(sequence) == bool(begins)


@given(st.text(), st.text(), st.sampled_from([KITTY, ITERM, FOOT]), st.booleans())
def test_no_text_gets_out_of_its_code(title: str, body: str, environment: dict[str, str], tmux: bool) -> None:
    """Guards escape codes in a run's name or message: whatever they hold, it stays within one code, in its field."""
    sequence = notification(title, body, environment | ({"TMUX": "1"} if tmux else {}))
    if tmux:
        inner = re.fullmatch(r"\x1bPtmux;((?:[^\x1b]|\x1b\x1b)*)\x1b\\", sequence, re.DOTALL)
        assert inner is not None
        sequence = inner[1].replace("\x1b\x1b", "\x1b")
    code = re.compile(r"\x1b\](9|777;notify|99;[a-z0-9:=]+);([^\x00-\x1f\x7f-\x9f]*)\x1b\\")
    codes = list(code.finditer(sequence))
    assert "".join(match[0] for match in codes) == sequence
    texts = [match[2] for match in codes]
    if environment is KITTY:
        assert len(codes) == 2
        assert all(b64decode(text, validate=True).decode().isprintable() for text in texts)
        assert max(map(len, texts)) <= 2048
    else:
        assert len(codes) == 1 and texts[0].count(";") == (1 if environment is FOOT else 0)


@pytest.mark.parametrize("allowed", [False, True])
async def test_the_toast_takes_no_markup_and_the_bell_obeys_the_settings(allowed: bool) -> None:
    """Guards a message in brackets that would vanish or raise, and a bell for those who have switched it off."""
    rung = []

    class Ringing(App[None]):
        settings = Settings(bell=allowed)

        def bell(self) -> None:
            rung.append(True)

    app = Ringing()
    async with app.run_test() as pilot:
        announce(app, Alert("spike", "loss spike", "[b] leapt [/]", "warning", "a-run", 600, 1.0))
        await pilot.pause()
        (toast,) = app._notifications
        assert (toast.message, toast.markup, toast.severity) == ("[b] leapt [/]", False, "warning")
        assert toast.title == "a-run · loss spike · step 600"
    assert bool(rung) == allowed


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_toasts_cover_neither_the_tabs_nor_the_prompt(size: tuple[int, int]) -> None:
    """At the top they stood over the tabs and the charts' titles, at the bottom right over the chat's prompt."""

    class Styled(App[None]):
        CSS_PATH = styles.ALL

    app = Styled()
    async with app.run_test(size=size, notifications=True) as pilot:
        for step in (600, 700):
            announce(app, Alert("spike", "loss spike", "it leapt " * 9, "warning", "r" * 80, step, 1.0))
        await until(pilot, lambda: len(app.screen.query(Toast)) == 2 and app.screen.query(Toast).last().region.height)
        regions = [toast.region for toast in app.screen.query(Toast)]
        assert all(region.x == 0 and region.right <= size[0] // 2 for region in regions)
        assert min(region.y for region in regions) > size[1] // 3
        assert max(region.bottom for region in regions) == size[1] - 4


class Terminal:
    """announcing_app.py in a pseudoterminal."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.output = b""
        self.master, slave = os.openpty()
        kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, APP, *arguments], stdin=slave, stdout=slave, stderr=slave, env=kept | environment
        )
        os.close(slave)

    def read_until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.output[-2000:]
            if select.select([self.master], [], [], 0.05)[0]:
                self.output += os.read(self.master, 1 << 16)

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_the_real_terminal_gets_bell_and_code_once() -> None:
    """Guards the way from the app to the terminal: through Textual's driver and our output, whole, in one piece."""
    terminal = Terminal({"TERM_PROGRAM": "iTerm.app"}, "it leapt; \x1b]0;evil\x07 50%")
    try:
        terminal.read_until(lambda: b"\x1b[?1049h" in terminal.output)
        terminal.press("a")
        terminal.read_until(lambda: b"leapt; " in terminal.output and b"\x07" in terminal.output)
        terminal.press("q")
        terminal.read_until(lambda: terminal.process.poll() is not None or b"\x1b[?1049l" in terminal.output)
        code = "\x1b]9;minigpt: loss spike - a-run: it leapt, ␛]0,evil␇ 50%\x1b\\".encode()
        assert terminal.output.count(code) == 1 and terminal.output.count(b"\x1b]9;") == 1
        others = re.sub(rb"\x1b\]22;[a-z-]*\x07", b"", terminal.output.replace(code, b""))  # Textual's mouse pointer
        assert others.count(b"\x07") == 1
        screen = pyte.Screen(80, 24)
        pyte.ByteStream(screen).feed(terminal.output)
        assert "evil" not in screen.title
    finally:
        terminal.close()
