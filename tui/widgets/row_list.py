"""A list of rows to choose from, of any length: only those in view are drawn, and typing searches it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from minigpt.inert import inert_line
from tui.widgets.line_input import obey_in_order
from tui.widgets.row_table import without_middle

Look = Literal["", "muted", "title", "changed", "problem"]

_GAP = 2  # cells between two columns
_LONGEST = 400  # characters of a cell that are looked at


@dataclass(frozen=True)
class Cell:
    """One text of a row. It is made inert when it is drawn."""

    text: str
    look: Look = ""
    justify: Literal["left", "right"] = "left"
    both_ends: bool = False
    """Cut in its middle where it is too long, rather than at its end."""
    is_path: bool = False
    """Takes what the cell beside it leaves free, and where that is too little, its beginning is cut."""


@dataclass(frozen=True)
class Row:
    """What the row stands for, and its cells. Without a key it is a title, on which the cursor does not rest."""

    key: str
    cells: tuple[Cell, ...]


class RowList(ScrollView, can_focus=True):
    """Rows in columns. The cursor stays on its row when others come and go."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row-list--{look}" for look in ("muted", "title", "changed", "problem")
    } | {"row-list--cursor"}
    BINDING_GROUP_TITLE = "List"
    BINDINGS = [
        Binding("enter", "choose", "choose"),
        Binding("up", "move(-1)", "one up", show=False),
        Binding("down", "move(1)", "one down", show=False),
        Binding("pageup", "page(-1)", "a page up", show=False),
        Binding("pagedown", "page(1)", "a page down", show=False),
        Binding("home", "first", "to the first", show=False),
        Binding("end", "last", "to the last", show=False),
        Binding("backspace", "shorten_search", "take back a letter of the search", show=False),
        Binding("escape", "end_search", "end search", tooltip="show all again"),
        Binding("ctrl+u", "end_search", "end search", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row."""

    class Chosen(Message):
        """The row under the cursor is what is wanted."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, *, id: str, searched: Callable[[], object]) -> None:
        super().__init__(id=id)
        # Not by a message: an Enter that is typed behind a search is meant for what it finds.
        self._searched = searched
        self.search = ""
        """What was typed; the owner of the list decides which rows it leaves."""
        self._rows: tuple[Row, ...] = ()
        self._cursor = -1

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows as they are shown."""
        return self._rows

    @property
    def chosen(self) -> str:
        """The key of the row under the cursor; empty if there is none."""
        return self._rows[self._cursor].key if 0 <= self._cursor < len(self._rows) else ""

    @property
    def cursor_line(self) -> int:
        """The line of the cursor within the list, counted from the first in view."""
        return self._cursor - int(self.scroll_offset.y)

    def columns(self, width: int) -> tuple[int, ...]:
        """The widths of the columns where the list is so wide; 0 hides one. The gaps between them come besides."""
        return (width,)

    def show(self, rows: Sequence[Row], *, cursor: str | None = None) -> None:
        """Show these rows, with the cursor on one of them: its key, or the one that it was on, or else the first."""
        rows = tuple(rows)
        key = self.chosen if cursor is None else cursor
        if rows == self._rows and key == self.chosen:
            return
        same = len(rows) == len(self._rows)
        self._rows = rows
        if not same:
            self.virtual_size = Size(0, len(rows))
        place = next((index for index, row in enumerate(rows) if row.key and row.key == key), None)
        first = next((index for index, row in enumerate(rows) if row.key), -1)
        self._put_cursor(first if place is None else place)
        self.refresh()

    def _put_cursor(self, index: int) -> None:
        before, self._cursor = self._cursor, index
        if index < 0:
            return
        # The title above a row comes into view with it.
        top = index - 1 if index > 0 and not self._rows[index - 1].key else index
        region = Region(0, top, 1, index - top + 1)
        self.scroll_to_region(region, animate=False, force=True, immediate=True)
        if before != index:
            self.refresh()
            self.post_message(self.Moved())

    def _step(self, index: int, direction: int) -> None:
        """Put the cursor on the row at `index`, or on the next one in that direction that is no title."""
        index = max(0, min(len(self._rows) - 1, index))
        for step in (direction, -direction):
            place = index
            while 0 <= place < len(self._rows):
                if self._rows[place].key:
                    self._put_cursor(place)
                    return
                place += step

    # ── keys and mouse ────────────────────────────────────────────────────────────────────────────────────────

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character.isprintable()

    async def on_key(self, event: events.Key) -> None:
        # Not `has_focus`, which learns only later that the key before has led into another field.
        if event.character is not None and event.is_printable and self.screen.focused is self:
            event.stop()
            event.prevent_default()
            self.take_character(event.character)
        else:
            await obey_in_order(self, event)

    def take_character(self, character: str) -> None:
        """Take a character that was typed on the list."""
        if self.search or not character.isspace():
            self.search_for(self.search + character)

    def search_for(self, text: str) -> None:
        """Search for something else."""
        if text != self.search:
            self.search = text
            self.refresh_bindings()
            self._searched()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"shorten_search", "end_search"}:
            return bool(self.search)
        return True

    def action_shorten_search(self) -> None:
        """Take back a letter of the search."""
        self.search_for(self.search[:-1])

    def action_end_search(self) -> None:
        """Show all again."""
        self.search_for("")

    def action_choose(self) -> None:
        """Say that the row under the cursor is what is wanted."""
        if self.chosen:
            self.post_message(self.Chosen(self.chosen))

    def action_move(self, by: int) -> None:
        """Move the cursor by a row."""
        if not 0 <= self._cursor + by < len(self._rows):
            return
        self._step(self._cursor + by, by)

    def action_page(self, direction: int) -> None:
        """Move the cursor by as many rows as are in view."""
        self._step(self._cursor + direction * max(1, self.size.height - 1), direction)

    def action_first(self) -> None:
        """To the first row."""
        self._step(0, 1)

    def action_last(self) -> None:
        """To the last row."""
        self._step(len(self._rows) - 1, -1)

    def on_click(self, event: events.Click) -> None:
        """The first click puts the cursor on a row, the next one there chooses it."""
        index = event.y + int(self.scroll_offset.y)
        if not (0 <= index < len(self._rows) and self._rows[index].key):
            return
        if index == self._cursor:
            self.action_choose()
        else:
            self._put_cursor(index)

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_resize(self) -> None:
        if self._cursor >= 0:
            self._put_cursor(self._cursor)

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + int(self.scroll_offset.y)
        base = self.rich_style
        if not 0 <= index < len(self._rows) or width <= 0:
            return Strip.blank(width, base)
        row = self._rows[index]
        under_cursor = index == self._cursor
        if under_cursor:
            base = self.get_component_rich_style("row-list--cursor")
        widths = _spread(row.cells, self.columns(width)) if row.key else (width,)
        segments = []
        used = 0
        for cell, room in zip(row.cells, widths, strict=False):
            if room <= 0:
                continue
            if used:
                segments.append(Segment(" " * _GAP, base))
                used += _GAP
            style = base
            if cell.look and not under_cursor:
                style = self.get_component_rich_style(f"row-list--{cell.look}")
            segments.append(Segment(_fitted(cell, room), style))
            used += room
        return Strip(segments).adjust_cell_length(width, base)


def _spread(cells: Sequence[Cell], columns: Sequence[int]) -> list[int]:
    """The columns of one row, in which a path takes what the cell behind it has no use for."""
    widths = list(columns)
    for place, (cell, following) in enumerate(pairwise(cells)):
        if cell.is_path and place + 1 < len(widths):
            missing = cell_len(_shown(cell)) - widths[place]
            free = widths[place + 1] - cell_len(_shown(following))
            taken = max(0, min(missing, free))
            widths[place] += taken
            widths[place + 1] -= taken
    return widths


def _shown(cell: Cell) -> str:
    return inert_line(cell.text[-_LONGEST:] if cell.is_path else cell.text, _LONGEST)


def _fitted(cell: Cell, width: int) -> str:
    text = _shown(cell)
    if cell_len(text) > width:
        if cell.is_path:
            text = "…" + set_cell_size(text[::-1], width - 1).rstrip()[::-1]
        elif cell.both_ends:
            text = without_middle(text, width)
        else:
            text = set_cell_size(text, width - 1).rstrip() + "…"
    padding = " " * (width - cell_len(text))
    return padding + text if cell.justify == "right" else text + padding
