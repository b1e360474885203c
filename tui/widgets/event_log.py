"""The event log: all that happened to a run, in words, and the alerts that only this viewer has raised."""

from time import monotonic
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from minigpt.inert import inert_line
from minigpt.journal import JournalTail, Row, text_in
from minigpt.rundir import RunDirectory
from tui.run.event_words import LONGEST, Told, step_of, told, when
from tui.widgets.lines import Line, Lines
from tui.widgets.search import SearchedPane, SearchLine

if TYPE_CHECKING:
    from tui.run.alerts import Alert

_BITE = 1 << 17  # bytes of the file in one look: about a hundredth of a second
_BITE_INTERVAL = 0.02  # seconds between two, while there is more
_SHOW_INTERVAL = 0.3  # between two drawings meanwhile
_MOST = 200_000  # events, of which the newest stay
_INDENT = 28  # columns: time, step and a gap
_NAME = 13
FILTERS = ("", "important", "alerts")
"""All events; without those that come all the time; what is out of the ordinary."""
_TITLES = {"": "", "important": "important ones", "alerts": "alerts"}
_SHOWN: dict[str, frozenset[str]] = {
    "important": frozenset({"", "good", "warning", "problem"}),
    "alerts": frozenset({"warning", "problem"}),
}


class EventLogPane(SearchedPane):
    """Follows events.jsonl: time, step, what happened. `add_alert` adds what that does not tell, or not yet."""

    BINDING_GROUP_TITLE = "Events"
    BINDINGS = [
        Binding("f", "filter", "filter", tooltip="all events, the important ones, or alerts alone"),
    ]

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tail = JournalTail(run.events_file)
        self._restarts = 0
        self._all: list[Line] = []
        self._new: list[Line] = []
        """What has been read, but not shown yet."""
        self._own: list[Line] = []
        """This viewer's alerts that come after the events which are still being read."""
        self._own_by_kind: dict[str, Line] = {}
        """The last of them of each kind, until the file tells it too, or that it is over."""
        self._filter = ""
        self._shown_at = 0.0
        self._bites: Timer | None = None
        self._title = ""

    def compose(self) -> ComposeResult:
        yield Lines()
        yield Static("", classes="empty", markup=False)
        yield SearchLine()

    def on_mount(self) -> None:
        self._bites = self.set_interval(_BITE_INTERVAL, self.look, pause=True)
        self._show_title()
        self.look()

    def look(self) -> None:
        """Read on."""
        before = self._tail.offset
        events = self._tail.poll(_BITE)
        if self._tail.restarts != self._restarts:
            self._restarts = self._tail.restarts
            self._all.clear()
            self._new.clear()
            self._show_all()
            before = 0
        if self._own_by_kind:
            self._leave_out_own(events)
        self._new += map(_line_of, events)
        behind = self._tail.offset - before > _BITE // 2
        if self._bites is not None:
            if behind:
                self._bites.resume()
            else:
                self._bites.pause()
        if not behind:
            self._new += self._own
            self._own.clear()
        if self._new and (not behind or monotonic() - self._shown_at > _SHOW_INTERVAL):
            self._show_new()
        self._show_title(behind=behind)

    def add_alert(self, alert: "Alert") -> None:
        """Take in an alert, if it is one that the run's own file does not tell."""
        if alert.from_viewer:
            row: Row = {"time": alert.time, "step": alert.step}
            words = inert_line(f"{alert.message} (seen by this viewer)", LONGEST)
            line = _line(row, Told(f"▲ {alert.title}", words, "warning"))
            self._own.append(line)
            self._own_by_kind[alert.kind] = line
            self.look()

    def _leave_out_own(self, events: list[Row]) -> None:
        """Drop this viewer's word for what the file tells itself by now: one thing stands there once."""
        for event in events:
            kind = text_in(event, "kind") or text_in(event, "event")
            if (line := self._own_by_kind.pop(kind, None)) is not None:
                for lines in (self._own, self._new, self._all):
                    if line in lines:
                        lines.remove(line)
                self._show_all()
            elif kind == "went_on":
                self._own_by_kind.pop("stall", None)  # the next stall is another one
            elif kind == "started":
                self._own_by_kind.clear()

    def _show_new(self) -> None:
        new, self._new = self._new, []
        self._shown_at = monotonic()
        self._all += new
        lines = self.query_one(Lines)
        if len(self._all) > _MOST:
            del self._all[: len(self._all) - _MOST * 3 // 4]
            self._show_all()
        else:
            lines.extend(self._chosen(new))
            self.search_on()

    def _show_all(self) -> None:
        self.query_one(Lines).show(self._chosen(self._all))
        self.search_again()

    def _chosen(self, lines: list[Line]) -> list[Line]:
        styles = _SHOWN.get(self._filter)
        return lines if styles is None else [line for line in lines if line.style in styles]

    def _show_title(self, *, behind: bool = False) -> None:
        shown = len(self.query_one(Lines).lines)
        number = f" · {shown:,}" if shown else ""
        if self._filter:
            number = f" · {_TITLES[self._filter]}: {shown:,} of {len(self._all):,}"
        title = f" events{number}{' · reading …' if behind else ''} "
        if title != self._title:
            self._title = title
            self.border_title = Content(title)
            empty = self.query_one(".empty", Static)
            empty.update(f"None of these {len(self._all):,} events." if self._all else "Nothing has happened yet.")
            empty.display = not shown and not behind
            self.query_one(Lines).display = bool(shown)

    def action_filter(self) -> None:
        """Show all events, the important ones, or alerts alone."""
        self._filter = FILTERS[(FILTERS.index(self._filter) + 1) % len(FILTERS)]
        self._show_all()
        self._show_title()


def _line_of(event: Row) -> Line:
    return _line(event, told(event))


def _line(event: Row, what: Told) -> Line:
    return Line(f"{when(event)} {step_of(event)}  {what.name:<{_NAME}} {what.words}".rstrip(), _INDENT, what.style)
