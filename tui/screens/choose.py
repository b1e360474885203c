"""The small window in which one of a few named things is chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from minigpt.inert import inert_line
from tui.widgets.row_list import Cell, Row, RowList


@dataclass(frozen=True)
class Option:
    """What can be chosen: what it stands for, and how it is named and described."""

    key: str
    name: str
    note: str = ""
    """A word or two, such as a size."""
    about: str = ""


class ChooseScreen(ModalScreen[str | None]):
    """Asks for one of some options, and returns its key; None for none. Typing leaves those that have it in them."""

    AUTO_FOCUS = "OptionRows"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    BINDINGS = [Binding("escape", "dismiss(None)", "leave it as it is", show=False)]

    def __init__(self, title: str, options: Sequence[Option], chosen: str = "") -> None:
        super().__init__()
        self._title = title
        self._options = tuple(options)
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical(id="choose") as window:
            window.border_title = Text(inert_line(self._title))
            yield OptionRows(self._options, self._show)
            yield Static(id="choose-about", markup=False)

    def on_mount(self) -> None:
        # As high as all its rows, and no higher when a search leaves fewer: the window is not to jump.
        self.query_one(OptionRows).styles.height = len(self._options)
        self._show(self._chosen)

    def _show(self, cursor: str | None = None) -> None:
        rows = self.query_one(OptionRows)
        # A slash opens the search where letters are commands, and so may be typed here too.
        words = rows.search.lower().removeprefix("/").split()
        shown = [
            Row(option.key, (Cell(option.name), Cell(option.note, "muted"), Cell(option.about, "muted")))
            for option in self._options
            if all(word in f"{option.name} {option.note} {option.about}".lower() for word in words)
        ]
        if words:
            named = [row.key for row in shown if all(word in row.cells[0].text.lower() for word in words)]
            cursor = named[0] if named else None
        rows.show(shown or [Row("", (Cell("nothing has that in it", "muted"),))], cursor=cursor)
        self.on_row_list_moved()  # another row may have come to where the cursor was
        window = self.query_one("#choose")
        window.border_subtitle = Text(
            f"search: {inert_line(rows.search, 30)}" if rows.search else "Enter takes it, Esc leaves it"
        )

    def on_row_list_moved(self) -> None:
        # In full, where its row has no room for that.
        chosen = self.query_one(OptionRows).chosen
        about = next((option.about for option in self._options if option.key == chosen), "")
        self.query_one("#choose-about", Static).update(inert_line(about))

    def on_row_list_chosen(self, message: RowList.Chosen) -> None:
        self.dismiss(message.key)


class OptionRows(RowList):
    """The options."""

    BINDING_GROUP_TITLE = "Choice"

    def __init__(self, options: Sequence[Option], searched: Callable[[], object]) -> None:
        super().__init__(id="choose-rows", searched=searched)
        self._name_width = max((cell_len(option.name) for option in options), default=0)
        self._note_width = max((cell_len(option.note) for option in options), default=0)

    def columns(self, width: int) -> tuple[int, ...]:
        rest = width - self._name_width - self._note_width - (4 if self._note_width else 2)
        return self._name_width, self._note_width, max(0, rest)

    def on_paste(self, event: events.Paste) -> None:
        """Search for what is pasted, a path for instance, as if it had been typed."""
        event.stop()
        if lines := event.text.strip().splitlines():
            path = lines[0].strip().strip("'\"")  # in quotes, as a terminal puts in what is dropped on it
            self.search_for(self.search + "".join(filter(str.isprintable, path)))
