"""Choosing a text of one's own: folders with anything in them, previews, and what is taken."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from tests.tui.panes import settled, until
from tui import styles
from tui.app import MiniGPTApp
from tui.launch.folder import Preview, count_file, preview_file, preview_folder, read_folder
from tui.screens.files import FileRows, FilesScreen

VERSE = "The tide is out, and yet the boats are in;\nWhat hand has drawn the water from the wall?\n\n"
BEGAN = 1_795_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts, what is no text, and what only looks like a file."""
    path = tmp_path / "texts"
    (path / "letters").mkdir(parents=True)
    (path / ".git").mkdir()
    (path / "verse.txt").write_text(VERSE * 20)
    (path / "Prose.txt").write_text("Es war einmal ein Müller.\n" * 300)
    (path / "letters" / "one.txt").write_text(VERSE)
    (path / "letters" / "two.txt").write_text(VERSE)
    (path / "picture.png").write_bytes(b"\x89PNG\0\0" * 100)
    (path / "latin.txt").write_bytes("Müller".encode("latin1"))
    (path / "empty.txt").touch()
    (path / "[bold]red \x1b[31m.txt").write_text("\x1b]0;title\x07 [bold] \u202e evil\n")
    (path / "nowhere").symlink_to("there is no such file")
    (path / "circle").symlink_to("circle")
    (path / "to verse").symlink_to("verse.txt")
    os.mkfifo(path / "pipe")
    for entry in [*path.iterdir(), path]:
        if entry.exists():
            os.utime(entry, (BEGAN, BEGAN))
    return path


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same time of day everywhere."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


class Picking(MiniGPTApp):
    """Opens the screen at once and notes how it was left."""

    CSS_PATH = styles.ALL

    def __init__(self, start: Path) -> None:
        super().__init__()
        self.start = start
        self.answers: list[object] = []

    def get_default_screen(self) -> Screen[None]:
        return Screen()

    def on_mount(self) -> None:
        self.push_screen(FilesScreen(self.start), self.answers.append)


def files(app: MiniGPTApp) -> FilesScreen:
    assert isinstance(app.screen, FilesScreen)
    return app.screen


def names(app: MiniGPTApp) -> list[str]:
    return [row.key for row in files(app).query_one(FileRows).rows if row.key]


def chosen(app: MiniGPTApp) -> str:
    return files(app).query_one(FileRows).chosen


def said(app: MiniGPTApp, part: str) -> str:
    return str(files(app).query_one(f"#files-{part}", Static).content)


async def read(pilot: Pilot[Any], path: Path) -> None:
    """Wait until the folder is shown."""
    app = pilot.app
    assert isinstance(app, MiniGPTApp)
    await until(pilot, lambda: files(app)._folder is not None and files(app)._folder.path == path)


# ── what lies in a folder ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_lies_in_a_folder(folder: Path) -> None:
    """Folders first, then by name whatever its case; links are followed, and broken ones are no fault."""
    entries = {entry.name: entry for entry in read_folder(folder).entries}
    assert list(entries)[:2] == [".git", "letters"] and list(entries)[-2:] == ["to verse", "verse.txt"]
    kinds = {name: entries[name].kind for name in ("letters", "verse.txt", "pipe", "nowhere", "circle", "to verse")}
    assert kinds == {
        "letters": "folder",
        "verse.txt": "file",
        "pipe": "other",
        "nowhere": "broken",
        "circle": "broken",
        "to verse": "file",
    }
    assert entries["to verse"].is_link and entries["to verse"].size == len(VERSE) * 20
    assert read_folder(folder / "none").problem == "cannot be read: No such file or directory"
    assert read_folder(folder / "verse.txt").problem == "cannot be read: Not a directory"


def test_a_folder_with_thousands_of_entries(tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / f"{number:05}.txt").touch()
    began = time.process_time()
    assert len(read_folder(tmp_path).entries) == 5000
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("picture.png", "is no text: it has bytes in it that no text has"),
        ("latin.txt", "is not UTF-8 text (byte 0xfc at 1)"),
        ("empty.txt", "is empty"),
        ("pipe", "is no regular file"),
        ("nowhere", "cannot be read: No such file or directory"),
        ("letters", "cannot be read: Is a directory"),
    ],
)
def test_what_is_no_text(folder: Path, name: str, problem: str) -> None:
    """Refused with its reason, and without waiting for a pipe's writer."""
    assert preview_file(folder / name).problem == problem


def test_only_the_beginning_of_a_huge_file_is_read(tmp_path: Path) -> None:
    """A hole of 3 GB behind a verse: previewed at once, not counted. A character split at 64 kB is no fault."""
    path = tmp_path / "huge.txt"
    path.write_text("ä" * 40_000 + "x")
    whole = preview_file(path)
    assert not whole.problem and len(whole.text) == 32_768
    assert count_file(whole).facts == "40,001 characters, 2 distinct, 80,001 bytes"
    path.write_text("x" + "ä" * 40_000)
    assert not preview_file(path).problem, "cut in the middle of a character"
    os.truncate(path, 3 << 30)
    began = time.process_time()
    huge = preview_file(path)
    assert count_file(huge) is huge and huge.facts == "3,221,225,472 bytes"
    assert time.process_time() - began < 1


def test_what_is_wrong_behind_the_beginning_is_found(tmp_path: Path) -> None:
    path = tmp_path / "late.txt"
    path.write_bytes(b"x" * 70_000 + b"\xff")
    preview = preview_file(path)
    assert not preview.problem and "byte 0xff at position 70000" in count_file(preview).problem


def test_a_folder_as_a_corpus(folder: Path) -> None:
    """What a run would learn from: all texts in and below it, hidden ones aside, and what is left out."""
    assert preview_folder(folder / "letters", lambda _: None) == Preview(
        folder / "letters", f"2 text files in and below it, {2 * len(VERSE)} bytes", "one.txt\ntwo.txt"
    )
    assert "left out of texts: picture.png: no text" in preview_folder(folder, lambda _: None).text
    assert preview_folder(folder / ".git", lambda _: None).problem == "has no text file in it"


# ── the screen ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_is_found_and_taken(folder: Path) -> None:
    """Up and down the folders by keyboard, with the cursor on where one came from, and a preview before it is taken."""
    app = Picking(folder / "letters")
    async with app.run_test(size=(120, 36)) as pilot:
        await read(pilot, folder / "letters")
        await until(pilot, lambda: VERSE in said(app, "text"))
        await pilot.press("left")
        await read(pilot, folder)
        assert chosen(app) == "letters" and ".git" not in names(app)
        await until(pilot, lambda: "a folder with 2 entries" in said(app, "facts"))
        await pilot.press("right")
        await read(pilot, folder / "letters")
        await pilot.press("home", "enter")
        await read(pilot, folder)
        await pilot.press(*"ver", "down")
        assert names(app) == ["to verse", "verse.txt"] and chosen(app) == "verse.txt"
        await until(pilot, lambda: f"{len(VERSE) * 20:,} characters" in said(app, "facts"))
        await pilot.press("enter")
        await until(pilot, lambda: app.answers)
        assert app.answers == [str(folder / "verse.txt")]


async def test_a_folder_of_texts_is_taken(folder: Path) -> None:
    app = Picking(folder / "letters")
    async with app.run_test() as pilot:
        await read(pilot, folder / "letters")
        await pilot.press("home", "down")
        await until(pilot, lambda: "2 text files in and below it" in said(app, "facts"))
        await pilot.press("enter")
        await until(pilot, lambda: app.answers)
        assert app.answers == [str(folder / "letters")]


async def test_what_is_no_text_is_not_taken(folder: Path) -> None:
    """The reason stands in the preview, and Enter does not leave the screen."""
    app = Picking(folder / "picture.png")
    async with app.run_test() as pilot:
        await read(pilot, folder)
        for name, problem in (("picture.png", "is no text"), ("pipe", "no regular file"), ("circle", "leads nowhere")):
            await pilot.press(*name)
            await until(pilot, lambda problem=problem: problem in said(app, "facts"))  # type: ignore[misc]
            await pilot.press("enter", "escape")
        await pilot.pause()
        assert not app.answers and chosen(app) == "circle"
        await pilot.press("escape")
        await until(pilot, lambda: app.answers == [None])


async def test_hidden_files_on_demand(folder: Path) -> None:
    """By F2, or by typing a dot, as in a shell."""
    app = Picking(folder)
    async with app.run_test() as pilot:
        await read(pilot, folder)
        await pilot.press("f2")
        assert ".git" in names(app)
        await pilot.press("f2", ".", "g")
        assert names(app) == [".git"]
        await pilot.press("backspace", "backspace")
        assert ".git" not in names(app)


async def test_a_path_is_typed_or_pasted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    app = Picking(folder.parent)
    async with app.run_test() as pilot:
        await read(pilot, folder.parent)
        await pilot.press("~")
        await read(pilot, folder)
        files(app).query_one(FileRows).post_message(events.Paste(f"'{folder / 'letters' / 'two.txt'}'\n"))
        await read(pilot, folder / "letters")
        assert chosen(app) == "two.txt"
        await pilot.press(*"/dev/")
        await read(pilot, Path("/dev"))
        await pilot.press(*"/no/")
        assert "there is no such folder" in said(app, "search")


@pytest.mark.parametrize(
    ("typed", "path", "cursor"),
    [
        ("{top}/lib/", "lib", "."),
        ("lib/", "lib", "."),
        ("lib/deep/lib/", "lib/deep/lib", "."),
        ("lib/deep/../", "lib", "deep"),
        ("lib/../lib64/", "lib64", "."),
        ("{top}/lib/../../{name}/lib64/", "lib64", "."),
        ("~/lib/", "lib", "."),
        ("~/lib/deep/", "lib/deep", "."),
        ("~", "", "."),
        ("~/", "", "."),
        ("~lib", "", "lib"),
        ("{top}/lib", "", "lib"),
        ("lib/..", "lib", ".."),
        ("'90s/", "'90s", "."),
    ],
)
@pytest.mark.parametrize("in_one_burst", [False, True])
async def test_a_slash_enters_the_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, path: str, cursor: str, in_one_burst: bool
) -> None:
    """Only the first folder of a typed path was entered: `lib/` behind it was a search, and `~/lib/` meant `/lib/`."""
    top = tmp_path / "top"
    for name in ("alib", "lib/deep/lib/end", "lib64/end", "'90s/end"):
        (top / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(top))
    keys = typed.format(top=top, name=top.name)
    app = Picking(top)
    async with app.run_test() as pilot:
        await read(pilot, top)
        for key in keys:
            app.post_message(events.Key(key, key))
            if not in_one_burst:
                await pilot.pause()
        rest = keys.rpartition("/")[2].replace("~", "")
        await until(pilot, lambda: files(app)._path == top / path and files(app).query_one(FileRows).search == rest)
        await read(pilot, top / path)
        await pilot.pause()
        assert chosen(app) == cursor


async def test_an_enter_behind_a_path_in_one_burst(folder: Path) -> None:
    """The folder was still being read: the Enter took the only row there was, the way up."""
    app = Picking(Path("/"))
    async with app.run_test() as pilot:
        await read(pilot, Path("/"))
        for key in [*f"{folder}/verse.txt", "enter"]:
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: app.answers)
        assert app.answers == [str(folder / "verse.txt")]


async def test_a_preview_that_comes_while_the_screen_is_taken_down(folder: Path) -> None:
    """Its parts go one by one: with the list still there, the preview's were not, and the program ended with a trace."""
    app = Picking(folder)
    async with app.run_test() as pilot:
        await read(pilot, folder)
        await files(app).query_one("#files-facts").remove()
        files(app)._show_preview(Preview(folder / "letters.txt", "41 characters"))


async def test_a_slash_behind_what_is_no_folder(folder: Path) -> None:
    """It says so and stays; a path from the root can be typed next."""
    app = Picking(folder)
    async with app.run_test() as pilot:
        await read(pilot, folder)
        await pilot.press(*"lett/")
        assert "there is no such folder" in said(app, "search") and files(app)._path == folder
        await pilot.press("escape", *"/dev/")
        await read(pilot, Path("/dev"))


async def test_an_enter_behind_a_search_in_one_burst(folder: Path) -> None:
    """The row that the search finds is meant, not the one on which the cursor stood before."""
    app = Picking(folder)
    async with app.run_test() as pilot:
        await read(pilot, folder)
        for key in [*"prose", "enter"]:
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: app.answers)
        assert app.answers == [str(folder / "Prose.txt")]


async def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and the way up stays."""

    def refused(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    app = Picking(folder)
    async with app.run_test() as pilot:
        await read(pilot, folder)
        monkeypatch.setattr("tui.launch.folder.os.scandir", refused)
        await pilot.press(*"letters", "enter")
        await read(pilot, folder / "letters")
        assert "cannot be read: Permission denied" in said(app, "path") and names(app) == [".."]


async def test_names_and_texts_are_shown_inert(folder: Path) -> None:
    """A stranger's file must not steer the terminal, nor be taken for markup."""
    app = Picking(folder / "[bold]red \x1b[31m.txt")
    async with app.run_test(size=(120, 36)) as pilot:
        await read(pilot, folder)
        await until(pilot, lambda: "[bold]" in said(app, "text"))
        await settled(pilot)
        text = "".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "[bold]red ␛[31m.txt" in text and "\x1b" not in text and "\u202e" not in text


async def test_thousands_of_entries_are_scrolled(tmp_path: Path) -> None:
    """Only the rows in view are drawn: the last of 2,000 is one key away."""
    for number in range(2000):
        (tmp_path / f"{number:05}.txt").touch()
    app = Picking(tmp_path)
    async with app.run_test() as pilot:
        await read(pilot, tmp_path)
        began = time.process_time()
        await pilot.press("end")
        assert chosen(app) == "01999.txt"
        await pilot.press(*"1242")
        assert names(app) == ["01242.txt"]
        assert time.process_time() - began < 5


async def test_a_socket_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        assert [entry.kind for entry in read_folder(tmp_path).entries] == ["other"]
        assert preview_file(tmp_path / "s").problem.startswith("cannot be read")


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: "x".join(map(str, size)))
def test_looks(
    snap_compare: Callable[..., bool], folder: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Guards the layout: the list, sizes and dates, and the preview beside or below it."""
    monkeypatch.setattr("tui.screens.files.shown_path", lambda path: "~/texts")

    async def look(pilot: Pilot[Any]) -> None:
        await read(pilot, folder)
        await pilot.press("end")
        await until(pilot, lambda: "characters" in said(pilot.app, "facts"))  # type: ignore[arg-type]
        await settled(pilot)

    assert snap_compare(Picking(folder), terminal_size=size, run_before=look)
