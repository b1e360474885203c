"""Many lines of text, of which only those in view are drawn: wrapped, with matches of a search, followed at the end."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from re import Pattern
from typing import ClassVar, NamedTuple

from rich.cells import get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip


class Line(NamedTuple):
    """One line, however many rows it takes. Its text must be inert already."""

    text: str
    indent: int = 0
    """So many characters at its beginning are muted, and its further rows begin under what follows them."""
    style: str = ""
    """How the rest looks: "dim", "good", "warning", "problem" or "head"; empty for plain."""


class Lines(ScrollView):
    """Shows lines and stays at the newest while that is where the reader is.

    With `cursor` one line is chosen, which the arrow keys and a click move.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"lines--{style}" for style in ("dim", "good", "warning", "problem", "head", "match", "current", "cursor"))
    }

    class Chosen(Message):
        """The cursor came to another line."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, *, cursor: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: list[Line] = []
        self.cursor: int | None = 0 if cursor else None
        self._starts = array("q")
        """The row at which each line begins, for the width that it was wrapped for."""
        self._rows = 0
        self._width = 0
        self._follows = not cursor
        self._pattern: Pattern[str] | None = None
        self._current: int | None = None

    # ── what there is ─────────────────────────────────────────────────────────────────────────────────────────

    def show(self, lines: Iterable[Line]) -> None:
        """Take these lines in place of all; a reader who had gone back stays at the same row."""
        self.lines = list(lines)
        if self.cursor is not None:
            self.cursor = max(0, min(self.cursor, len(self.lines) - 1))
        self._wrap_all()

    def extend(self, lines: Sequence[Line], *, replacing: int = 0) -> None:
        """Add lines at the end, in place of so many that stood there last."""
        if replacing:
            del self.lines[-replacing:]
            self._rows = self._starts[-replacing]
            del self._starts[-replacing:]
        self.lines += lines
        self._wrap(lines)

    def drop_first(self, count: int) -> None:
        """Forget the oldest lines; what is in view stays in its place."""
        rows = self._starts[count] if count < len(self._starts) else self._rows
        del self.lines[:count]
        top = self.scroll_y - rows
        self._wrap_all()
        if not self._follows:
            self.scroll_to(y=max(0, top), animate=False, immediate=True)

    def mark(self, pattern: Pattern[str] | None, current: int | None) -> None:
        """Highlight what a pattern matches; in the line `current` more so."""
        self._pattern, self._current = pattern, current
        self.refresh()

    def go_to(self, index: int) -> None:
        """Bring a line into view."""
        if self.cursor is not None:
            self._move_cursor(index)
        elif index < len(self._starts):
            row, height = self._starts[index], self.size.height
            if not self.scroll_y <= row < self.scroll_y + height:
                self.scroll_to(y=max(0, row - height // 3), animate=False, immediate=True)

    @property
    def place(self) -> int:
        """The line where the reader is: that of the cursor, or else the first one in view."""
        if self.cursor is not None:
            return self.cursor
        return self._line_at(int(self.scroll_y)) if self._starts else 0

    def _line_at(self, row: int) -> int:
        return max(0, bisect_right(self._starts, row) - 1)

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _wrap_all(self) -> None:
        self._rows = 0
        del self._starts[:]
        self._wrap(self.lines)

    def _wrap(self, lines: Sequence[Line]) -> None:
        width, row, starts = self._width, self._rows, self._starts
        if not width:
            return  # not laid out yet: done then
        for line in lines:
            starts.append(row)
            # Most lines fit: they must cost next to nothing, there may be a hundred thousand.
            row += 1 if len(line.text) <= width and line.text.isascii() else len(wrapped(line, width))
        self._rows = row
        self.virtual_size = Size(width, row)
        if self._follows:
            self.scroll_end(animate=False, immediate=True, force=True, x_axis=False)
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width
        if width != self._width and width > 0:
            place, follows = self.place, self._follows
            self._width = width
            self._wrap_all()
            if not follows and place < len(self._starts):
                self.scroll_to(y=self._starts[place], animate=False, immediate=True)
        elif self._follows:
            self.scroll_end(animate=False, immediate=True, force=True, x_axis=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._follows = self.cursor is None and new_value >= self.max_scroll_y - 1

    # ── the cursor ────────────────────────────────────────────────────────────────────────────────────────────

    def _move_cursor(self, index: int) -> None:
        if not self.lines:
            return
        index = max(0, min(index, len(self.lines) - 1))
        if index != self.cursor:
            self.cursor = index
            self.post_message(self.Chosen(index))
        if index < len(self._starts):
            first = self._starts[index]
            last = first + len(wrapped(self.lines[index], self._width)) - 1
            top, height = int(self.scroll_y), max(1, self.size.height)
            if first < top or last >= top + height:
                self.scroll_to(y=first if first < top else last - height + 1, animate=False, immediate=True)
        self.refresh()

    def action_scroll_up(self) -> None:
        self._step(-1, super().action_scroll_up)

    def action_scroll_down(self) -> None:
        self._step(1, super().action_scroll_down)

    def action_page_up(self) -> None:
        self._step(-max(1, self.size.height - 1), super().action_page_up)

    def action_page_down(self) -> None:
        self._step(max(1, self.size.height - 1), super().action_page_down)

    def action_scroll_home(self) -> None:
        self._step(-len(self.lines), super().action_scroll_home)

    def action_scroll_end(self) -> None:
        self._step(len(self.lines), super().action_scroll_end)

    def _step(self, by: int, otherwise: object) -> None:
        if self.cursor is not None:
            self._move_cursor(self.cursor + by)
        elif callable(otherwise):
            otherwise()

    def on_click(self, event: events.Click) -> None:
        row = event.y + self.scroll_offset.y
        if self.cursor is not None and row < self._rows:
            self._move_cursor(self._line_at(row))

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    def render_line(self, y: int) -> Strip:
        row, width, base = y + self.scroll_offset.y, self.size.width, self.rich_style
        if row >= self._rows:
            return Strip.blank(width, base)
        index = self._line_at(row)
        line = self.lines[index]
        part = row - self._starts[index]
        begin, end = wrapped(line, self._width)[part]
        if index == self.cursor:
            base = base + self.get_component_rich_style("lines--cursor")
        segments = self._segments(index, line, begin, end, base)
        if part:
            segments.insert(0, Segment(" " * _indent(line, self._width), base))
        strip = Strip(segments).adjust_cell_length(width, base)
        if (selection := self.text_selection) is not None and (span := selection.get_span(row)) is not None:
            strip = _selected(strip, *span, self.screen.get_component_rich_style("screen--selection"))
        return strip.apply_offsets(0, row)

    def _segments(self, index: int, line: Line, begin: int, end: int, base: Style) -> list[Segment]:
        matches = [match.span() for match in self._pattern.finditer(line.text)] if self._pattern is not None else []
        edges = {begin, end, line.indent, *(edge for match in matches for edge in match)}
        places = sorted(edge for edge in edges if begin <= edge <= end)
        found = self.get_component_rich_style("lines--current" if index == self._current else "lines--match")
        segments = []
        for left, right in pairwise(places):
            style = base
            if index != self.cursor and (name := "dim" if left < line.indent else line.style):
                style = base + self.get_component_rich_style(f"lines--{name}")
            if any(first <= left < last for first, last in matches):
                style = style + found
            segments.append(Segment(line.text[left:right], style))
        return segments

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text that the mouse has selected."""
        rows = []
        for line in self.lines:
            for part, (begin, end) in enumerate(wrapped(line, self._width or 80)):
                rows.append(" " * (_indent(line, self._width) if part else 0) + line.text[begin:end])
        return selection.extract("\n".join(rows)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()


def _selected(strip: Strip, begin: int, end: int, style: Style) -> Strip:
    cells = strip.cell_length
    begin, end = min(begin, cells), cells if end == -1 else min(end, cells)
    parts = [strip.crop(0, begin), strip.crop(begin, end).apply_style(style), strip.crop(end, cells)]
    return Strip.join(parts)


def _indent(line: Line, width: int) -> int:
    return line.indent if line.indent <= width // 2 else 0


def wrapped(line: Line, width: int) -> list[tuple[int, int]]:
    """Where in a line's text each of its rows begins and ends, broken at spaces where there are any."""
    text, begin = line.text, 0
    if len(text) <= (width if text.isascii() else width // 2):  # no character takes more than two cells
        return [(0, len(text))]
    rows: list[tuple[int, int]] = []
    while begin < len(text):
        end = _fitting(text, begin, width - (_indent(line, width) if rows else 0))
        after = end
        if end < len(text):
            space = text.rfind(" ", begin + 1, end + 1)
            if space > begin and text[begin if rows else line.indent : space].strip():
                end, after = space, space + 1
        rows.append((begin, end))
        begin = after
    return rows or [(0, 0)]


def _fitting(text: str, begin: int, cells: int) -> int:
    """How far a text goes on in so many cells; at least by one character."""
    if text.isascii():
        return min(len(text), begin + max(1, cells))
    for place in range(begin, len(text)):
        cells -= get_character_cell_size(text[place])
        if cells < 0 and place > begin:
            return place
    return len(text)
