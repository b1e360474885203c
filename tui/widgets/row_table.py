"""A table of rows to choose from, as wide as its place: one column takes the room that the others leave."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from minigpt.inert import inert_line

_GAP = 2  # cells between two columns, half of it before the first and after the last


@dataclass(frozen=True)
class Field:
    """A column: its label and on which side its values stand."""

    label: str
    justify: Literal["left", "right"] = "left"
    flexible: bool = False
    """Takes the room that the others leave; longer text ends in an ellipsis, or with `cut` loses its middle."""
    cut: bool = False
    wide_only: int = 0
    """Hidden where the table is narrower than this."""


@dataclass(frozen=True)
class Entry:
    """A row: what it stands for and its texts, one for each field."""

    key: str
    cells: tuple[str, ...]
    style: str = ""
    mark: str = ""
    """One sign before the first text."""


class RowTable(ScrollView, can_focus=True):
    """Entries to choose from; the cursor stays on its entry when others come and go.

    Draws the rows in view only: hundreds of them are sorted and filtered while one types.
    """

    BINDING_GROUP_TITLE = "List"
    COMPONENT_CLASSES = {"row-table--header", "row-table--cursor"}
    BINDINGS = [
        Binding("enter", "select_cursor", "start or open"),
        Binding("up,k", "cursor_up", "one up", show=False),
        Binding("down,j", "cursor_down", "one down", show=False),
        Binding("home,g", "scroll_top", "to the first", show=False),
        Binding("end,G", "scroll_bottom", "to the last", show=False),
        Binding("pageup", "page_up", "a page up", show=False),
        Binding("pagedown", "page_down", "a page down", show=False),
    ]

    class OfTable(Message):
        """Something happened in a table."""

        def __init__(self, table: "RowTable") -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> "RowTable":
            return self.table

    class Chosen(OfTable):
        """Enter was pressed on a row, or it was clicked."""

    class Moved(OfTable):
        """The cursor is on another entry."""

    class HeadClicked(OfTable):
        """The head of a column was clicked."""

        def __init__(self, table: "RowTable", column: int) -> None:
            super().__init__(table)
            self.column = column

    def __init__(self, fields: Sequence[Field], *, id: str) -> None:
        super().__init__(id=id)
        self._fields = tuple(fields)
        self._entries: tuple[Entry, ...] = ()
        self._widest = [cell_len(field.label) for field in fields]
        self._cursor = 0
        self._columns: list[tuple[int, int]] = []
        """The columns that there is room for, with their widths."""
        self.labels = tuple(field.label for field in fields)
        """What stands over the columns."""

    # ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def row_count(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    @property
    def cursor_row(self) -> int:
        """Which of them the cursor is on."""
        return self._cursor

    @property
    def chosen(self) -> str | None:
        """The key of the entry under the cursor."""
        return self._entries[self._cursor].key if self._cursor < len(self._entries) else None

    @property
    def visible_fields(self) -> list[int]:
        """The columns that there is room for."""
        return [index for index, field in enumerate(self._fields) if self.size.width >= field.wide_only]

    @property
    def is_cut(self) -> bool:
        """Whether a text is too long for its column, and what is left of it is not enough to know it by."""
        return any(
            self._widest[index] > width
            for index, width in self._columns
            if self._fields[index].flexible and not self._fields[index].cut
        )

    def texts(self, row: int) -> list[str]:
        """What stands in a row, in the columns that there is room for."""
        return [text.strip() for text in self._row(self._entries[row])]

    def show(self, entries: Sequence[Entry], labels: Sequence[str] = ()) -> None:
        """Show these entries in this order, drawing only what differs from before; `labels` if others than before."""
        entries, labels = tuple(entries), tuple(labels) or self.labels
        if (entries, labels) == (self._entries, self.labels):
            return
        before, chosen, same_head = self._entries, self.chosen, labels == self.labels
        self._entries, self.labels = entries, labels
        self._widest = [
            max([cell_len(labels[index]), *(cell_len(entry.cells[index]) for entry in entries)])
            for index in range(len(self._fields))
        ]
        columns, self._columns = self._columns, self._laid_out()
        keys = [entry.key for entry in entries]
        self._cursor = keys.index(chosen) if chosen in keys else max(0, min(self._cursor, len(keys) - 1))
        if len(entries) != len(before):
            self.virtual_size = Size(self.size.width, 1 + len(entries))
            self.refresh(layout=True)
            self.call_after_refresh(self._bring_into_view)
        elif not same_head or columns != self._columns:
            self.refresh()
        else:
            for row, (entry, old) in enumerate(zip(entries, before, strict=True)):
                if entry != old:
                    self._refresh_row(row)
        if self.chosen != chosen:
            self.post_message(self.Moved(self))

    def rename_entry(self, key: str, new_key: str) -> None:
        """Let an entry stand for something else, without leaving it if the cursor is there."""
        self._entries = tuple(replace(entry, key=new_key) if entry.key == key else entry for entry in self._entries)

    def _laid_out(self) -> list[tuple[int, int]]:
        visible = self.visible_fields
        widths = {index: self._widest[index] for index in visible}
        room = self.scrollable_content_region.width - _GAP * len(visible)
        for index in visible:
            if self._fields[index].flexible:
                widths[index] = max(8, room - sum(widths.values()) + widths[index])
        return list(widths.items())

    def on_resize(self, event: events.Resize) -> None:
        self._columns = self._laid_out()
        self.virtual_size = Size(self.size.width, 1 + len(self._entries))
        self._bring_into_view()
        self.refresh()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        row = y - 1 + self.scroll_offset.y if y else -1
        width = self.scrollable_content_region.width
        if row >= len(self._entries):
            return Strip.blank(self.size.width, self.rich_style)
        if row < 0:
            style = self.get_component_rich_style("row-table--header")
            line = self._joined([self._text(self.labels[index], index, width) for index, width in self._columns])
        else:
            entry = self._entries[row]
            # Without focus there is no choice to see: Enter would not take it.
            chosen = self.has_focus and row == self._cursor
            style = self.get_component_rich_style("row-table--cursor") if chosen else self.rich_style
            style += Style.parse(entry.style)
            line = self._joined(self._row(entry))
            if self._mark_needs_gap(entry):
                line = entry.mark + line[1:]
        line = set_cell_size(line, width)
        return Strip([Segment(line, style)], width).extend_cell_length(self.size.width, self.rich_style)

    def _joined(self, texts: Sequence[str]) -> str:
        half = " " * (_GAP // 2)
        return half + (half + half).join(texts) + half

    def _row(self, entry: Entry) -> list[str]:
        first = f"{entry.mark} " if entry.mark and not self._mark_needs_gap(entry) else ""
        cells = (first + entry.cells[0], *entry.cells[1:])
        return [self._text(cells[index], index, width) for index, width in self._columns]

    def _mark_needs_gap(self, entry: Entry) -> bool:
        """Whether the mark stands in the gap before the first column: a name must not be cut more for being marked."""
        if not entry.mark or not self._columns:
            return False
        return cell_len(inert_line(entry.cells[0])) + 2 > self._columns[0][1]

    def _text(self, text: str, index: int, width: int) -> str:
        text = inert_line(text)
        if (length := cell_len(text)) > width:
            ends = without_middle(text, width) if self._fields[index].cut else set_cell_size(text, width - 1) + "…"
            text, length = ends, cell_len(ends)
        space = " " * (width - length)
        return space + text if self._fields[index].justify == "right" else text + space

    # ── moving about ──────────────────────────────────────────────────────────────────────────────────────────

    def move_cursor(self, row: int) -> None:
        """Go to a row, or to the nearest one that there is."""
        row = max(0, min(row, len(self._entries) - 1))
        if row != self._cursor:
            before, self._cursor = self._cursor, row
            self._refresh_row(before)
            self._refresh_row(row)
            self.post_message(self.Moved(self))
        self._bring_into_view()

    def _refresh_row(self, row: int) -> None:
        y = row + 1 - self.scroll_offset.y
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _bring_into_view(self) -> None:
        room = self.scrollable_content_region.height - 1
        if room > 0:
            top = min(max(self.scroll_offset.y, self._cursor - room + 1), self._cursor)
            if top != self.scroll_offset.y:
                self.scroll_to(y=top, animate=False)

    def action_select_cursor(self) -> None:
        """Choose the row under the cursor."""
        if self._entries:
            self.post_message(self.Chosen(self))

    def action_cursor_up(self) -> None:
        """Move up; from the first row into the table above."""
        if self._cursor == 0 and isinstance(above := self._neighbour(-1), RowTable):
            above.focus()
            above.move_cursor(above.row_count - 1)
        else:
            self.move_cursor(self._cursor - 1)

    def action_cursor_down(self) -> None:
        """Move down; from the last row into the table below."""
        if self._cursor >= self.row_count - 1 and isinstance(below := self._neighbour(1), RowTable):
            below.focus()
            below.move_cursor(0)
        else:
            self.move_cursor(self._cursor + 1)

    def action_scroll_top(self) -> None:
        """Go to the first row."""
        self.move_cursor(0)

    def action_scroll_bottom(self) -> None:
        """Go to the last row."""
        self.move_cursor(self.row_count - 1)

    def action_page_up(self) -> None:
        """Go up by as many rows as are in view."""
        self.move_cursor(self._cursor - max(1, self.size.height - 2))

    def action_page_down(self) -> None:
        """Go down by as many rows as are in view."""
        self.move_cursor(self._cursor + max(1, self.size.height - 2))

    def _neighbour(self, direction: int) -> "RowTable | None":
        tables = [table for table in self.screen.query(RowTable) if table.display and table.row_count]
        index = tables.index(self) + direction if self in tables else -1
        return tables[index] if 0 <= index < len(tables) else None

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        if place is None:
            return
        if place.y:
            row = place.y - 1 + self.scroll_offset.y
            if row < len(self._entries):
                self.move_cursor(row)
                self.post_message(self.Chosen(self))
            return
        begin = 0
        for index, width in self._columns:
            if begin <= place.x < begin + width + _GAP:
                self.post_message(self.HeadClicked(self, index))
            begin += width + _GAP


def without_middle(text: str, width: int) -> str:
    """`text` in at most `width` cells: both ends of a name tell more than its beginning alone."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    end = set_cell_size(text[::-1], tail).rstrip()[::-1]
    return set_cell_size(text, width - 1 - cell_len(end)).rstrip() + "…" + end
