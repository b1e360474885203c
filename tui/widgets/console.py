"""The console output: what the process that trains a run, and the libraries under it, have printed."""

import os
import re

from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from minigpt.files import open_regular
from minigpt.inert import inert_line, inert_pane
from minigpt.rundir import RunDirectory
from tui.widgets.lines import Line, Lines
from tui.widgets.search import SearchedPane, SearchLine

LIMIT = 4 << 20  # bytes at the file's end that are shown
_BITE = 1 << 16
_BITE_INTERVAL = 0.02  # seconds between two, while there is more
_LONGEST_LINE = 2000  # characters; what is longer goes on in the next line
_MIB = 1 << 20

# What a terminal would have obeyed, such as colours: gone, rather than shown as letters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>])")


class ConsolePane(SearchedPane):
    """Follows console.log; shows its last megabytes as a terminal would, with nothing of it obeyed."""

    BINDING_GROUP_TITLE = "Console"

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._path = run.console_file
        self._inode = -1
        self._offset = 0
        self._left_out = 0
        """How many bytes before the first line are not shown."""
        self._cut = False
        """Whether what is read next begins in the middle of a line."""
        self._rest = b""
        """The beginning of a line whose end has not been printed yet."""
        self._rest_lines = 0
        """In how many lines it is shown."""
        self._bites: Timer | None = None
        self._title = ""

    def compose(self) -> ComposeResult:
        yield Lines()
        yield Static("", classes="empty", markup=False)
        yield SearchLine()

    def on_mount(self) -> None:
        self._bites = self.set_interval(_BITE_INTERVAL, self.look, pause=True)
        self.look()

    def look(self) -> None:
        """Read on."""
        problem, behind = "", False
        try:
            with open_regular(self._path) as file:
                status = os.fstat(file.fileno())
                if self._inode not in (-1, status.st_ino) or status.st_size < self._offset:
                    self._begin_at(0)  # it was cut, or is another one
                self._inode = status.st_ino
                if status.st_size - self._offset > LIMIT:
                    self._begin_at(status.st_size - LIMIT)
                file.seek(self._offset)
                data = file.read(_BITE)
            self._offset += len(data)
            behind = self._offset < status.st_size and bool(data)
            if data:
                self._take(data)
        except FileNotFoundError:
            self._begin_at(0)
        except OSError as error:
            self._begin_at(0)
            problem = f"{inert_line(self._path.name)}: {inert_line(error.strerror or str(error))}"
        if self._bites is not None:
            if behind:
                self._bites.resume()
            else:
                self._bites.pause()
        self._show_title(problem)

    def _begin_at(self, offset: int) -> None:
        if (offset, self._offset) != (0, 0):
            self._rest, self._rest_lines = b"", 0
            self._offset = self._left_out = offset
            self._cut = offset > 0
            self.query_one(Lines).show([])
            self.search_again()

    def _take(self, data: bytes) -> None:
        if self._cut:  # somewhere in a line, which is left out then
            self._cut = False
            data = data[data.find(b"\n") + 1 :]
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        whole = printed_lines(data[:end]) if end else []
        rest = printed_lines(self._rest) if self._rest else []
        lines = self.query_one(Lines)
        first = len(lines.lines) - self._rest_lines
        lines.extend([*whole, *rest], replacing=self._rest_lines)
        self._rest_lines = len(rest)
        if len(self._rest) > _LONGEST_LINE:  # rubbish without an end
            self._rest, self._rest_lines = b"", 0
        if self._offset - self._left_out > 2 * LIMIT:
            half = len(lines.lines) // 2
            self._left_out += sum(len(line.text) for line in lines.lines[:half])
            lines.drop_first(half)
            self.search_again()
        else:
            self.search_again(first)

    def _show_title(self, problem: str) -> None:
        shown = len(self.query_one(Lines).lines)
        size = f" · {shown:,} lines" if shown != 1 else " · 1 line"
        if self._left_out:
            size = f" · the last {(self._offset - self._left_out) / _MIB:.1f} of {self._offset / _MIB:,.1f} MiB"
        title = f" console{size if shown else ''} "
        empty = self.query_one(".empty", Static)
        words = problem or "Nothing was printed. What the training's process and its libraries print comes here."
        if (title, words) != (self._title, str(empty.content)):
            self._title = title
            self.border_title = Content(title)
            empty.update(words)
        empty.display = not shown
        self.query_one(Lines).display = bool(shown)


def printed_lines(data: bytes) -> list[Line]:
    """What a terminal would show of it, line by line; very long ones in pieces."""
    # All at once rather than line by line: there may be thousands of short ones.
    text = _ESCAPES.sub("", data.decode(errors="replace").removesuffix("\n"))
    if "\r" in text:
        # A progress bar writes over its line again and again: what it wrote last counts.
        text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    lines: list[Line] = []
    for line in inert_pane(text).split("\n"):
        if len(line) <= _LONGEST_LINE:
            lines.append(Line(line))
        else:
            pieces = range(0, len(line), _LONGEST_LINE)
            lines.extend(Line(line[begin : begin + _LONGEST_LINE]) for begin in pieces)
    return lines
