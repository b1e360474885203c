"""A table of rows to choose from, as wide as its place: one column takes the room that the others leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.widgets import DataTable

from minigpt.inert import inert_line


@dataclass(frozen=True)
class Field:
    """A column: its label and on which side its values stand."""

    label: str
    justify: Literal["left", "right"] = "left"
    flexible: bool = False
    """Takes the room that the others leave; longer text wraps, or with `cut` loses its middle."""
    cut: bool = False
    one_line: bool = False
    """Ends in an ellipsis instead of wrapping."""
    wide_only: int = 0
    """Hidden where the table is narrower than this."""


@dataclass(frozen=True)
class Entry:
    """A row: what it stands for and its texts, one for each field."""

    key: str
    cells: tuple[str, ...]
    style: str = ""


class RowTable(DataTable[Text]):
    """Entries to choose from; the cursor stays on its entry when others come and go."""

    BINDING_GROUP_TITLE = "List"
    BINDINGS = [
        Binding("enter", "select_cursor", "start or open"),
        Binding("up,k", "cursor_up", "one up", show=False),
        Binding("down,j", "cursor_down", "one down", show=False),
        Binding("home,g", "scroll_top", "to the first", show=False),
        Binding("end,G", "scroll_bottom", "to the last", show=False),
        Binding("pageup", "page_up", "a page up", show=False),
        Binding("pagedown", "page_down", "a page down", show=False),
    ]

    def __init__(self, fields: Sequence[Field], *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", show_row_labels=False, cursor_background_priority="css")
        self._fields = tuple(fields)
        self._entries: tuple[Entry, ...] = ()
        self._laid_out: tuple[int, ...] = ()

    @property
    def chosen(self) -> str | None:
        """The key of the entry under the cursor."""
        return self._entries[self.cursor_row].key if 0 <= self.cursor_row < len(self._entries) else None

    @property
    def is_cut(self) -> bool:
        """Whether a text that stays in one line is too long for its column."""
        return any(
            field.one_line and cell_len(entry.cells[index]) > width
            for index, width in zip(self._visible(), self._laid_out, strict=False)
            for field in [self._fields[index]]
            for entry in self._entries
        )

    def show(self, entries: Sequence[Entry]) -> None:
        """Show these entries in this order, drawing only what differs from before."""
        entries = tuple(entries)
        if entries == self._entries:
            return
        before, self._entries = self._entries, entries
        same_rows = [entry.key for entry in entries] == [entry.key for entry in before]
        if not same_rows or self._widths() != self._laid_out:
            self._lay_out(before)
            return
        for entry, old in zip(entries, before, strict=True):
            for index in self._visible():
                if entry.cells[index] != old.cells[index] or entry.style != old.style:
                    self.update_cell(entry.key, str(index), self._cell(entry, index))

    def on_resize(self, event: events.Resize) -> None:
        if self._widths() != self._laid_out:
            self._lay_out(self._entries)

    def action_cursor_up(self) -> None:
        """Move up; from the first row into the table above."""
        if self.cursor_row == 0 and isinstance(above := self._neighbour(-1), RowTable):
            above.focus()
            above.move_cursor(row=above.row_count - 1, animate=False)
        else:
            super().action_cursor_up()

    def action_cursor_down(self) -> None:
        """Move down; from the last row into the table below."""
        if self.cursor_row >= self.row_count - 1 and isinstance(below := self._neighbour(1), RowTable):
            below.focus()
            below.move_cursor(row=0, animate=False)
        else:
            super().action_cursor_down()

    def _neighbour(self, direction: int) -> "RowTable | None":
        tables = [table for table in self.screen.query(RowTable) if table.display and table.row_count]
        index = tables.index(self) + direction if self in tables else -1
        return tables[index] if 0 <= index < len(tables) else None

    def _visible(self) -> list[int]:
        return [index for index, field in enumerate(self._fields) if self.size.width >= field.wide_only]

    def _widths(self) -> tuple[int, ...]:
        visible = self._visible()
        widths = [
            max([cell_len(self._fields[index].label), *(cell_len(entry.cells[index]) for entry in self._entries)])
            for index in visible
        ]
        room = self.scrollable_content_region.width - 2 * self.cell_padding * len(visible)
        for place, index in enumerate(visible):
            if self._fields[index].flexible:
                widths[place] = max(8, room - sum(widths) + widths[place])
        return tuple(widths)

    def _lay_out(self, before: Sequence[Entry]) -> None:
        if not self.size.width:
            return
        chosen = before[self.cursor_row].key if 0 <= self.cursor_row < len(before) else None
        self._laid_out = self._widths()
        self.clear(columns=True)
        for width, index in zip(self._laid_out, self._visible(), strict=True):
            field = self._fields[index]
            self.add_column(Text(field.label, justify=field.justify), width=width, key=str(index))
        for entry in self._entries:
            cells = [self._cell(entry, index) for index in self._visible()]
            lines = [
                1 if cell.no_wrap else len(cell.wrap(self.app.console, width))
                for cell, width in zip(cells, self._laid_out, strict=True)
            ]
            self.add_row(*cells, key=entry.key, height=max(lines))
        keys = [entry.key for entry in self._entries]
        if chosen in keys:
            self.move_cursor(row=keys.index(chosen), animate=False)

    def _cell(self, entry: Entry, index: int) -> Text:
        field = self._fields[index]
        text = inert_line(entry.cells[index])
        if field.cut:
            text = without_middle(text, self._laid_out[self._visible().index(index)])
        wraps = field.flexible and not field.cut and not field.one_line
        return Text(text, style=entry.style, justify=field.justify, overflow="ellipsis", no_wrap=not wraps, end="")


def without_middle(text: str, width: int) -> str:
    """`text` in at most `width` cells: both ends of a name tell more than its beginning alone."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    end = set_cell_size(text[::-1], tail).rstrip()[::-1]
    return set_cell_size(text, width - 1 - cell_len(end)).rstrip() + "…" + end
