"""The screen on which a text of one's own is chosen: a file, or a folder with all texts in it."""

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path
from threading import Event

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from minigpt.inert import inert_line, inert_pane
from minigpt.paths import expand_home
from tui.launch.folder import Entry, Folder, Preview, count_file, preview_file, preview_folder, read_folder
from tui.widgets.key_line import KeyLine
from tui.widgets.row_list import Cell, Look, Row, RowList

PREVIEW_DELAY = 0.1  # seconds that the cursor rests on an entry before it is looked at
LOOKING_TIME = 3.0  # seconds after which no more is looked for in a folder and those below it
_SHOWN = 6000  # characters of a preview that are drawn; a screen has no room for more

_ABOVE = ".."
_WHOLE = "."


class FilesScreen(Screen[str | None]):
    """Asks for a text file or a folder of them, and returns its path; None for none."""

    BINDING_GROUP_TITLE = "A text of your own"
    AUTO_FOCUS = "FileRows"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    BINDINGS = [
        Binding("f2", "toggle_hidden", "hidden", tooltip="show hidden files too, or no more; typing a dot does so too"),
        Binding("f3", "go_home", "home folder", tooltip="to your home folder; typing ~ does so too"),
        Binding("escape", "dismiss(None)", "back", tooltip="back without choosing"),
    ]

    class FolderRead(Message):
        """A folder was read."""

        def __init__(self, folder: Folder, rows: list[Row], cursor: str) -> None:
            super().__init__()
            self.folder = folder
            self.rows = rows
            self.cursor = cursor

    def __init__(self, start: Path) -> None:
        super().__init__()
        self._path = start
        self._cursor = ""
        self._folder: Folder | None = None
        self._entries: dict[str, Entry] = {}
        self._rows: list[Row] = []
        """Those of the entries, made in a thread: there may be a hundred thousand."""
        self._hidden = False
        self._came_by_tilde = False
        """Whether nothing was typed since the `~` that led here: a `/` behind it belongs to it."""
        self._choose_when_read = False
        self._preview: Preview | None = None
        self._abandoned = Event()

    def compose(self) -> ComposeResult:
        with Vertical(id="files"):
            yield Static(id="files-path", markup=False)
            yield Static(id="files-search", markup=False)
            with Container(id="files-body"):
                yield FileRows(id="files-rows", searched=self._search)
                with Vertical(id="files-preview"):
                    yield Static(id="files-facts", markup=False)
                    yield Static(id="files-text", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        start = self._path
        if start.is_dir():
            self._go_to(start)
        else:
            self._go_to(start.parent, start.name)

    def on_unmount(self) -> None:
        self._abandoned.set()

    @property
    def _is_left(self) -> bool:
        # A thread may come back after the screen was left, when there is nothing of it any more.
        return not self.query(FileRows)

    # ── folders ───────────────────────────────────────────────────────────────────────────────────────────────

    def _go_to(self, path: Path, cursor: str = "") -> None:
        """Read a folder and show it, with the cursor on that name."""
        self._path = path
        self._folder = None
        self._came_by_tilde = self._choose_when_read = False
        rows = self.query_one(FileRows)
        rows.search = ""
        rows.show([Row(_ABOVE, _cells("../")), Row("", _cells("reading …", "muted"))])
        self._show_path()
        self._read(path, cursor)

    @work(exclusive=True, group="folder")
    async def _read(self, path: Path, cursor: str) -> None:
        # A message, as whatever is typed meanwhile comes first; and a thread, as a network may not answer.
        folder, rows = await asyncio.to_thread(_folder_rows, path)
        self.post_message(self.FolderRead(folder, rows, cursor))

    def on_files_screen_folder_read(self, message: FolderRead) -> None:
        if message.folder.path != self._path or self._is_left:
            return
        self._folder = message.folder
        self._entries = {entry.name: entry for entry in message.folder.entries}
        self._rows = message.rows
        if message.cursor.startswith("."):
            self._hidden = True
        files = [entry.name for entry in message.folder.entries if entry.kind == "file" and not entry.is_hidden]
        search = self.query_one(FileRows).search  # typed while it was read
        cursor = search if search in self._entries else message.cursor
        self._show_rows(cursor or (files[0] if len(files) == len(self._entries) > 0 else _WHOLE))
        self._show_path()
        if self._choose_when_read:
            self._choose_when_read = False
            self.query_one(FileRows).action_choose()

    def _show_path(self) -> None:
        problem = f"  ✗ {self._folder.problem}" if self._folder and self._folder.problem else ""
        self.query_one("#files-path", Static).update(
            Text.assemble(("a text of your own  ", "bold"), inert_line(shown_path(self._path)), inert_line(problem))
        )

    def _show_rows(self, cursor: str | None = None) -> None:
        folder = self._folder
        if folder is None:
            return
        listing = self.query_one(FileRows)
        search = listing.search.casefold()
        hidden = self._hidden or search.startswith(".")
        rows = []
        if search in {"", _ABOVE}:
            rows.append(Row(_ABOVE, _cells("../", "title")))
        if not search and (not folder.problem or folder.entries):
            rows.append(Row(_WHOLE, _cells("all texts here and below")))
        rows += [row for row in self._rows if search in row.key.casefold() and (hidden or not row.key.startswith("."))]
        if not rows:
            rows.append(Row("", _cells("nothing here has that in its name", "muted")))
        listing.show(rows, cursor=cursor)
        self._show_search()
        self._look()

    def _show_search(self) -> None:
        search = self.query_one(FileRows).search
        self.query_one("#files-search", Static).update(
            f"search: {inert_line(search, 60)}"
            if search
            else "Type to search, or a path. Enter opens a folder and takes a text."
        )

    # ── what is typed ─────────────────────────────────────────────────────────────────────────────────────────

    def _search(self) -> None:
        search = self.query_one(FileRows).search
        by_tilde, self._came_by_tilde = self._came_by_tilde, False
        if search == "~":
            self.action_go_home()
            self._came_by_tilde = True
        elif search == "/" and by_tilde:
            self.query_one(FileRows).search_for("")
        elif search == "/":
            self._show_search()
        elif search.endswith("/"):
            self._go_to_path(Path(search), search)
        else:
            self._show_rows(search if search in self._entries else None)

    def _go_to_path(self, path: Path, typed: str) -> None:
        """Go to a path, from here if it is none from the root, if it is there."""
        # By its names, as the key that leads up does it: from a linked folder back to where the link is.
        path = Path(os.path.normpath(self._path / path))
        try:
            is_folder, is_there = path.is_dir(), path.exists()
        except (OSError, ValueError):
            is_folder = is_there = False
        if is_folder:
            self._go_to(path, self._path.name if path == self._path.parent else "")
        elif is_there:
            self._go_to(path.parent, path.name)
        else:
            self.query_one("#files-search", Static).update(
                f"search: {inert_line(typed, 60)}  ✗ there is no such folder"
            )

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        if lines := event.text.strip().splitlines():
            self._go_to_path(expand_home(lines[0].strip().strip("'\"")), lines[0])

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    def action_go_above(self) -> None:
        """Show the folder above."""
        if self._path.parent != self._path:
            self._go_to(self._path.parent, self._path.name)

    def action_open_folder(self) -> None:
        """Show the folder under the cursor."""
        name = self.query_one(FileRows).chosen
        entry = self._entries.get(name)
        if name == _ABOVE:
            self.action_go_above()
        elif entry is not None and entry.kind == "folder":
            self._go_to(self._path / name)

    def action_toggle_hidden(self) -> None:
        """Show hidden files too, or no more."""
        self._hidden = not self._hidden
        self._show_rows()

    def action_go_home(self) -> None:
        """Show the home folder."""
        self._go_to(Path.home())

    def on_row_list_chosen(self, message: RowList.Chosen) -> None:
        if self._folder is None and self.query_one(FileRows).search:
            self._choose_when_read = True  # what the search will find is meant, not the way up
            return
        entry = self._entries.get(message.key)
        path = self._path / message.key if message.key != _WHOLE else self._path
        if message.key == _ABOVE or (entry is not None and entry.kind == "folder"):
            self.action_open_folder()
        elif self._preview is not None and self._preview.path == path and self._preview.problem:
            self.app.bell()
        elif message.key == _WHOLE or (entry is not None and entry.kind == "file"):
            self.dismiss(str(path.absolute()))

    # ── the preview ───────────────────────────────────────────────────────────────────────────────────────────

    @on(RowList.Moved)
    def _look(self) -> None:
        self._abandoned.set()
        self._abandoned = Event()
        self._preview_later(self.query_one(FileRows).chosen, self._abandoned)

    @work(exclusive=True, group="preview")
    async def _preview_later(self, name: str, abandoned: Event) -> None:
        await asyncio.sleep(PREVIEW_DELAY)
        entry = self._entries.get(name)
        if name == _WHOLE:
            self._show_preview(Preview(self._path, "looking for texts …"))
            self._show_preview(await asyncio.to_thread(_folder_in_time, self._path, abandoned))
        elif entry is None:
            self._show_preview(None)
        elif entry.kind == "folder":
            folder = await asyncio.to_thread(read_folder, self._path / name)
            self._show_preview(_of_folder(folder))
        elif entry.kind == "broken":
            leads = "is a link that leads nowhere" if entry.is_link else "cannot be looked at"
            self._show_preview(Preview(self._path / name, problem=leads))
        else:
            preview = await asyncio.to_thread(preview_file, self._path / name)
            self._show_preview(preview)
            self._show_preview(await asyncio.to_thread(count_file, preview))

    def _show_preview(self, preview: Preview | None) -> None:
        # Looked for first: the parts of a screen that is left go one by one.
        parts = [*self.query("#files-facts, #files-text").results(Static)]
        if preview == self._preview or len(parts) < 2:
            return
        self._preview = preview
        facts, text = parts
        words = "" if preview is None else f"✗ {preview.problem}" if preview.problem else preview.facts
        facts.update(inert_line(words))
        facts.set_class(preview is not None and bool(preview.problem), "-refused")
        text.update("" if preview is None else inert_pane(preview.text[:_SHOWN]))


class FileRows(RowList):
    """The entries of a folder."""

    BINDING_GROUP_TITLE = "Folder"
    BINDINGS = [
        Binding("enter", "choose", "open or take"),
        Binding("left", "screen.go_above", "up", key_display="←", tooltip="to the folder above"),
        Binding("right", "screen.open_folder", "into the folder", show=False),
    ]

    def columns(self, width: int) -> tuple[int, ...]:
        size, date = 11, 16
        if width < 50:
            return max(1, width - size - 2), size, 0
        return max(1, width - size - date - 4), size, date


def shown_path(path: Path) -> str:
    """A path as people write it."""
    text, home = str(path), str(Path.home())
    return "~" + text[len(home) :] if text == home or text.startswith(home + os.sep) else text


class _EnoughError(Exception):
    """Looking for the texts of a folder takes too long, or nobody waits for it any more."""


def _folder_in_time(path: Path, abandoned: Event) -> Preview:
    end = time.monotonic() + LOOKING_TIME
    said = ""

    def progress(words: str) -> None:
        nonlocal said
        said = words
        if abandoned.is_set() or time.monotonic() > end:
            raise _EnoughError

    try:
        return preview_folder(path, progress)
    except _EnoughError:
        return Preview(path, f"a large folder: {said} so far; all of it would be read")


def _of_folder(folder: Folder) -> Preview:
    if folder.problem and not folder.entries:
        return Preview(folder.path, problem=folder.problem)
    names = [entry.name + ("/" if entry.kind == "folder" else "") for entry in folder.entries if not entry.is_hidden]
    count = len(names)
    return Preview(folder.path, f"a folder with {count:,} entr{'y' if count == 1 else 'ies'}", "\n".join(names[:200]))


def _folder_rows(path: Path) -> tuple[Folder, list[Row]]:
    folder = read_folder(path)
    return folder, [Row(entry.name, _entry_cells(entry)) for entry in folder.entries]


def _cells(text: str, look: Look = "") -> tuple[Cell, ...]:
    return (Cell(text, look), Cell(""), Cell(""))


def _entry_cells(entry: Entry) -> tuple[Cell, ...]:
    look: Look = {"folder": "title", "file": ""}.get(entry.kind, "muted")  # type: ignore[assignment]
    name = entry.name + ("/" if entry.kind == "folder" else "") + (" →" if entry.is_link else "")
    what = {"file": _size(entry.size), "folder": "", "broken": "broken", "other": "no file"}[entry.kind]
    return (
        Cell(name, look, both_ends=True),
        Cell(what, "muted", "right"),
        Cell(_date(entry.modified) if entry.modified else "", "muted"),
    )


def _size(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} B"


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return ""
