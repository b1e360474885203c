"""Notes are never lost: not when the disk is full, nor when somebody else writes them too."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled, until
from tui.run import notes
from tui.run.notes import LONGEST, unsaved_notes
from tui.widgets.notes import NotesField, NotesPane

TEXT = "A lower rate next time.\n\n- the spike at 600 came with the long lines of the corpus\n- ask Anna\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path, ended="", steps=0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again every few seconds is tried at once."""
    monkeypatch.setattr(notes, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(notes, "_WRITERS", {})


def field(pilot: Pilot[Any]) -> NotesField:
    return pilot.app.query_one(NotesField)


def said(pilot: Pilot[Any]) -> str:
    problem = pilot.app.query_one("#notes-problem", Static)
    return str(problem.content) if problem.display else ""


def title(pilot: Pilot[Any]) -> str:
    return str(pilot.app.query_one(NotesPane).border_title).strip()


def shown(run: RunDirectory, *, read_only: bool = False) -> PaneApp:
    return PaneApp(lambda: NotesPane(run, read_only=read_only))


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
def test_picture(snap_compare, run, size):
    run.notes_file.write_text(TEXT)
    assert snap_compare(shown(run), terminal_size=size)


def test_picture_of_a_conflict(snap_compare, run):
    async def conflict(pilot: Pilot[Any]) -> None:
        await pilot.press(*"mine")
        run.notes_file.write_text("theirs\n")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: said(pilot))

    assert snap_compare(shown(run), terminal_size=(80, 24), run_before=conflict)


async def test_typed_text_is_saved_by_itself_privately_and_whole(run: RunDirectory) -> None:
    """Guards a text that waits for a key nobody presses, and one that other users could read."""
    os.umask(0o022)
    async with shown(run).run_test(size=(60, 10)) as pilot:
        await pilot.press(*"héllo", "enter", "x")
        assert title(pilot) == "notes · …"
        await until(pilot, run.notes_file.exists)
        await until(pilot, lambda: title(pilot) == "notes")
        assert run.notes_file.read_text() == "héllo\nx"
        assert stat.S_IMODE(run.notes_file.stat().st_mode) == 0o600
        assert [path.name for path in run.path.glob(".notes*")] == []


async def test_what_is_typed_comes_after_what_stands_there(run: RunDirectory) -> None:
    """The cursor stood at the beginning, and a new note began before the old ones."""
    run.notes_file.write_text("first\nlower the rate ")
    app = shown(run)
    async with app.run_test() as pilot:
        await pilot.press(*"next")
        assert field(pilot).text == "first\nlower the rate next"
        assert any(
            active.binding.show and active.binding.description == "leave" and key == "escape"
            for key, active in app.screen.active_bindings.items()
        )


@pytest.mark.parametrize("leaving", ["escape", "closing"])
async def test_leaving_saves_at_once(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, leaving: str) -> None:
    """Guards the last words before the pane is left or the program ends."""
    monkeypatch.setattr("tui.widgets.notes.SAVE_AFTER", 1000.0)
    async with shown(run).run_test(size=(60, 10)) as pilot:
        await pilot.press(*"last words")
        if leaving == "escape":
            await pilot.press("escape")
            await until(pilot, run.notes_file.exists)
            assert pilot.app.focused is None
    assert run.notes_file.read_text() == "last words"


async def test_a_full_disk_is_said_and_tried_again(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards notes that would be gone with the pane, or never written once there is room."""
    full = True
    write = notes.write_atomically

    def write_if_there_is_room(path: Path, data: bytes, *, mode: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, data, mode=mode)

    monkeypatch.setattr(notes, "write_atomically", write_if_there_is_room)
    async with shown(run).run_test(size=(60, 10)) as pilot:
        await pilot.press(*"kept", "ctrl+s")
        await until(pilot, lambda: "No space left on device" in said(pilot))
        assert title(pilot) == "notes · not saved"
    assert [(path, text) for path, text, _ in unsaved_notes()] == [(run.notes_file, "kept")]
    async with shown(run).run_test(size=(60, 10)) as pilot:
        await settled(pilot)
        assert field(pilot).text == "kept" and "No space left" in said(pilot)
        full = False
        await until(pilot, lambda: said(pilot) == "" and title(pilot) == "notes")
        assert run.notes_file.read_text() == "kept"
    assert unsaved_notes() == []


async def test_what_others_write_is_shown_and_can_be_undone(run: RunDirectory) -> None:
    """Guards two viewers of one run: the one who only reads must see what the other writes."""
    run.notes_file.write_text("mine\n")
    app = shown(run)
    async with app.run_test(size=(60, 10)) as pilot:
        await settled(pilot)
        run.notes_file.write_text("theirs\nlonger\n")
        app.pane.look()
        assert field(pilot).text == "theirs\nlonger\n" and "Somebody else" in said(pilot)
        await pilot.press("ctrl+z", "ctrl+s")
        await until(pilot, lambda: run.notes_file.read_text() == "mine\n")
        assert said(pilot) == ""
        run.notes_file.unlink()  # gone is not changed: the text stays, and comes back with the next change
        app.pane.look()
        assert field(pilot).text == "mine\n"
        await pilot.press("a", "ctrl+s")
        await until(pilot, run.notes_file.exists)


@pytest.mark.parametrize(("key", "text"), [("ctrl+k", "mine"), ("ctrl+l", "theirs")])
async def test_what_others_have_written_is_not_overwritten(run: RunDirectory, key: str, text: str) -> None:
    """Guards somebody else's notes: only a key decides, and either way the own text is still there."""
    app = shown(run)
    async with app.run_test(size=(60, 10)) as pilot:
        await pilot.press(*"mine")
        run.notes_file.write_text("theirs")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "^k keeps yours" in said(pilot))
        app.pane.look()
        assert run.notes_file.read_text() == "theirs" and field(pilot).text == "mine"
        await pilot.press(key)
        await until(pilot, lambda: title(pilot) == "notes")
        assert run.notes_file.read_text() == field(pilot).text == text
        await pilot.press("ctrl+z")
        assert key == "ctrl+k" or field(pilot).text == "mine"


async def test_read_only_writes_nothing(run: RunDirectory) -> None:
    """Guards --read-only, which promises that nothing is written into a run."""
    app = shown(run, read_only=True)
    async with app.run_test(size=(60, 10)) as pilot:
        await pilot.press(*"no", "ctrl+s")
        app.pane.query_one(NotesField).post_message(Paste("no"))
        await settled(pilot)
        assert field(pilot).text == "" and title(pilot) == "notes · read-only"
        run.notes_file.write_text("theirs")
        app.pane.look()
        assert field(pilot).text == "theirs"
    assert run.notes_file.read_text() == "theirs"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00 binary", "is not UTF-8 text (byte 0)"),
        (b"steering \x1b[2J", "has control characters in it"),
        (b"x" * 150_000, "has 150,000 characters, more than 100,000"),
        (b"x" * 2_000_000, "is larger than 400,000 bytes"),
        (None, "is a link"),
    ],
)
async def test_what_is_no_notes_file_is_told_and_left_alone(
    run: RunDirectory, tmp_path: Path, content: bytes | None, message: str
) -> None:
    """Guards files that an edit here would damage, and a link to a file of somebody's own."""
    if content is None:
        (tmp_path / "own").write_text("my own")
        run.notes_file.symlink_to(tmp_path / "own")
    else:
        run.notes_file.write_bytes(content)
    before = run.notes_file.read_bytes()
    app = shown(run)
    async with app.run_test(size=(100, 10)) as pilot:
        await settled(pilot)
        assert message in said(pilot) and not field(pilot).display
        await pilot.press("a", "ctrl+s")
        assert run.notes_file.read_bytes() == before
        run.notes_file.unlink()
        run.notes_file.write_bytes(b"\xef\xbb\xbfgood again\r\n")
        app.pane.look()
        assert field(pilot).text == "good again\n" and said(pilot) == ""
        app.pane.focus()
        await pilot.press("a", "ctrl+s")
        await until(pilot, lambda: run.notes_file.read_bytes() == b"good again\r\na")


async def test_a_paste_over_all_of_it_takes_its_place(run: RunDirectory) -> None:
    """With notes as long as may be, what was pasted found no room beside what it was to replace: both were lost."""
    run.notes_file.write_text("x" * (LONGEST // 2))
    async with shown(run).run_test(size=(60, 10)) as pilot:
        await until(pilot, lambda: len(field(pilot).text) == LONGEST // 2)
        field(pilot).select_all()
        field(pilot).post_message(Paste("a new text"))
        await until(pilot, lambda: field(pilot).text == "a new text")


async def test_pasted_text_is_made_printable(run: RunDirectory) -> None:
    """Guards the file: what is saved must be what is shown, and be accepted when it is read again."""
    async with shown(run).run_test(size=(60, 10)) as pilot:
        field(pilot).post_message(Paste("a\x1b[2J\r\nb\tc"))
        await until(pilot, lambda: field(pilot).text == "a␛[2J\nb\tc")
        await pilot.press("ctrl+s")
        await until(pilot, run.notes_file.exists)
    assert run.notes_file.read_text() == "a␛[2J\nb\tc"
