"""The console output: the file's end, as a terminal would show it, whatever was printed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Static

from minigpt.inert import inert_pane
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled, until
from tui.widgets.console import LIMIT, ConsolePane, printed_lines
from tui.widgets.lines import Lines

PRINTED = (
    "loading the corpus\n"
    "\x1b[33mUserWarning\x1b[0m: this library has something to say, and it says so in a line that is longer than most "
    "terminals are wide, as they do\n"
    "  0%|    | 0/100\r 50%|##  | 50/100\r100%|####| 100/100\n"
    "Traceback (most recent call last):\n"
    + "".join(f'  File "model.py", line {line}, in forward\n    x = block(x)\n' for line in range(10, 30))
    + "RuntimeError: out of words"
)


def texts(app: PaneApp) -> list[str]:
    return [line.text for line in app.pane.query_one(Lines).lines]


def title(app: PaneApp) -> str:
    return str(app.pane.border_title).strip()


def message(app: PaneApp) -> str:
    empty = app.pane.query_one(".empty", Static)
    return str(empty.content) if empty.display else ""


def printing_run(tmp_path: Path, content: bytes) -> RunDirectory:
    run = recorded_run(tmp_path, ended="", steps=0)
    run.console_file.write_bytes(content)
    return run


@pytest.mark.parametrize(
    ("size", "keys"), [((80, 24), ["slash", *"block"]), ((120, 36), ["home"])], ids=["80x24", "120x36"]
)
def test_picture(snap_compare, tmp_path, size, keys):
    run = printing_run(tmp_path, PRINTED.encode())
    assert snap_compare(PaneApp(lambda: ConsolePane(run)), terminal_size=size, press=keys)


def test_it_shows_what_a_terminal_would() -> None:
    """Guards colours shown as letters, a progress bar as a hundred lines, and characters that steer."""
    lines = [line.text for line in printed_lines(PRINTED.encode())]
    assert lines[0] == "loading the corpus" and lines[1].startswith("UserWarning: ")
    assert lines[2:4] == ["100%|####| 100/100", "Traceback (most recent call last):"]
    assert [line.text for line in printed_lines(b"a\x1b]0;title\x07b\x1b(Bc\r\n\x1bM\tz\xff\x00")] == [
        "abc",
        "␛M    z�␀",
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_inert(data: bytes) -> None:
    """Guards the terminal against whatever a library prints."""
    for line in printed_lines(data):
        assert inert_pane(line.text) == line.text and "\n" not in line.text


async def test_it_follows_a_line_that_grows_and_a_file_that_is_cut(tmp_path: Path) -> None:
    """Guards half a character at the end of a bite, the line without its end, and a file that begins again."""
    run = printing_run(tmp_path, b"one\ntw\xc3")
    app = PaneApp(lambda: ConsolePane(run))
    async with app.run_test(size=(60, 10)) as pilot:
        await settled(pilot)
        assert texts(app) == ["one", "tw�"]
        with run.console_file.open("ab") as file:
            file.write(b"\xb6\nthree\n")
        app.pane.look()
        assert texts(app) == ["one", "twö", "three"]
        await pilot.press("slash", *"t")
        await until(pilot, lambda: "of 2 lines" in str(app.pane.query_one("#search-count", Static).content))
        with run.console_file.open("ab") as file:
            file.write(b"fort")
        app.pane.look()
        with run.console_file.open("ab") as file:
            file.write(b"h\n")
        app.pane.look()
        assert texts(app)[3:] == ["forth"] and title(app) == "console · 4 lines"
        await until(pilot, lambda: "of 3 lines" in str(app.pane.query_one("#search-count", Static).content))
        run.console_file.write_bytes(b"anew\n")
        app.pane.look()
        assert texts(app) == ["anew"]
        run.console_file.unlink()
        app.pane.look()
        assert texts(app) == [] and message(app).startswith("Nothing was printed.")


async def test_of_a_huge_file_the_end_is_shown(tmp_path: Path) -> None:
    """Guards memory and the event loop: a file with a hole of a terabyte, and one that grows by megabytes."""
    run = printing_run(tmp_path, b"")
    with run.console_file.open("r+b") as file:
        file.seek(1 << 40)
        file.write(b"".join(b"line %07d %s\n" % (number, b"." * 60) for number in range(70_000)))
    app = PaneApp(lambda: ConsolePane(run))
    async with app.run_test(size=(60, 10)) as pilot:
        await until(pilot, lambda: texts(app)[-1:] == ["line 0069999 " + "." * 60])
        assert len(texts(app)) < LIMIT // 74 + 3
        assert title(app) == "console · the last 4.0 of 1,048,580.9 MiB"
        with run.console_file.open("ab") as file:
            file.write(b"another and another and another and another and another\n" * (LIMIT // 56 + 1000))
        app.pane.look()
        await until(
            pilot, lambda: texts(app)[0].startswith("another") and app.pane._offset == run.console_file.stat().st_size
        )


async def test_what_is_no_text_file_is_said_or_shown_harmlessly(tmp_path: Path) -> None:
    """Guards a link to somebody's own file, a pipe that would wait for ever, and bytes without a line's end."""
    secret = tmp_path / "secret"
    secret.write_text("a key of mine")
    run = printing_run(tmp_path, b"\x00\xff\x1b[" * 100_000)
    app = PaneApp(lambda: ConsolePane(run))
    async with app.run_test(size=(60, 10)) as pilot:
        await until(pilot, lambda: app.pane._offset == 400_000)
        assert max(map(len, texts(app))) <= 2000
        run.console_file.unlink()
        run.console_file.symlink_to(secret)
        app.pane.look()
        assert texts(app) == [] and message(app) == "console.log: is a link that leads out of its directory"
        run.console_file.unlink()
        os.mkfifo(run.console_file)
        app.pane.look()
        assert message(app) == "console.log: is no regular file"
