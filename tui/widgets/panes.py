"""The panes of a run: which there are, which of them are in view, and which one has the keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from minigpt.journal import Row
from minigpt.rundir import RunDirectory
from minigpt.telemetry import Reading
from tui.asking.models import NEWEST
from tui.run.following import Following
from tui.widgets.charts import ChartsPane
from tui.widgets.chat import ChatPane
from tui.widgets.memory import MemoryPane
from tui.widgets.sample import SamplePane
from tui.widgets.tabs import PaneTabs

if TYPE_CHECKING:
    from textual import events

    from tui.run.alerts import Alert
    from tui.widgets.epochs import EpochsPane

WIDE, TALL = 110, 28
"""From this many cells on panes stand side by side."""
HUGE = 170
LOW = 16
"""Below so many rows a sample is all that has room in its pane."""


class Looking(Protocol):
    """A pane that reads files of its own."""

    def look(self) -> None:
        """Take in what is new."""


@dataclass(frozen=True)
class Pane:
    """One pane: its name in the tabs, what it is for, and whether it takes turns in the large place."""

    title: str
    meaning: str
    large: bool = True


PANES = {
    "charts": Pane("charts", "the charts"),
    "sample": Pane("sample", "samples and memory", large=False),
    "chat": Pane("chat", "talk to the model", large=False),
    "epochs": Pane("table", "the table of epochs"),
    "evaluate": Pane("eval", "evaluate a checkpoint, or a text"),
    "notes": Pane("notes", "your own notes on the run"),
    "configuration": Pane("config", "the run's configuration"),
    "events": Pane("events", "what happened, and the alerts"),
    "console": Pane("console", "what the process printed"),
}


def load_later_panes() -> None:
    """Import what is shown only when it is asked for: in a thread, or the first key for it would wait."""
    import tui.widgets.configuration
    import tui.widgets.console
    import tui.widgets.epochs
    import tui.widgets.evaluate
    import tui.widgets.event_log
    import tui.widgets.notes  # noqa: F401


class RunPanes(Vertical):
    """The panes of one run side by side, or one at a time behind tabs where there is no room, or if one is maximised.

    The panes that few look at are made when they are shown for the first time.
    """

    class Shown(Message):
        """A pane came into view, or got another size: it wants to be drawn."""

    def __init__(self, run: RunDirectory, *, read_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_directory = run
        self._read_only = read_only
        self.front = "charts"
        """The pane that was chosen last; the only one in view where they are tabs."""
        self._large = "charts"
        """The one in the large place where panes stand side by side."""
        self.maximised = False
        self._which = NEWEST
        self._made: dict[str, Widget] = {}
        self._alerts: list[Alert] = []
        """Those that came before the pane that lists them was made."""

    # ── building ──────────────────────────────────────────────────────────────────────────────────────────────

    def compose(self) -> ComposeResult:
        yield PaneTabs({name: pane.title for name, pane in PANES.items()}, id="tabs")
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield self._kept("charts", ChartsPane(id="charts"))
            with Vertical(id="side"):
                with Vertical(id="facts"):
                    yield MemoryPane(id="memory")
                    yield self._kept("sample", SamplePane(id="sample"))
                yield self._kept("chat", ChatPane(self._run_directory, read_only=self._read_only, id="chat"))

    def on_mount(self) -> None:
        self._arrange()

    def _kept(self, name: str, pane: Widget) -> Widget:
        self._made[name] = pane
        return pane

    def _make(self, name: str) -> Widget:
        # Imported here: none of them is needed for the first frame.
        from tui.widgets.configuration import ConfigurationPane
        from tui.widgets.console import ConsolePane
        from tui.widgets.epochs import EpochsPane
        from tui.widgets.evaluate import EvaluatePane
        from tui.widgets.event_log import EventLogPane
        from tui.widgets.notes import NotesPane

        run = self._run_directory
        makers: dict[str, Callable[[], Widget]] = {
            "epochs": lambda: EpochsPane(id="epochs"),
            "evaluate": lambda: EvaluatePane(run, read_only=self._read_only, id="evaluate"),
            "notes": lambda: NotesPane(run, read_only=self._read_only, id="notes"),
            "configuration": lambda: ConfigurationPane(run, id="configuration"),
            "events": lambda: EventLogPane(run, id="events"),
            "console": lambda: ConsolePane(run, id="console"),
        }
        return makers[name]()

    # ── which are in view ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def single(self) -> bool:
        """Whether one pane is in view at a time."""
        return self.maximised or self.app.size.width < WIDE or self.app.size.height < TALL

    def is_in_view(self, name: str) -> bool:
        """Whether a pane is in view, unless a window covers it."""
        if self.single:
            return name == self.front
        return name == self._large or not PANES[name].large

    @property
    def wants_escape(self) -> bool:
        """Whether Escape leads back to the charts side by side with the rest, before it leads out of here."""
        return self.maximised or self.front != "charts"

    async def show(self, name: str) -> None:
        """Bring a pane to the front and give it the keys."""
        self.front = name
        if PANES[name].large:
            self._large = name
        if name not in self._made:
            pane = self._make(name)
            await self.query_one("#main").mount(pane)
            self._kept(name, pane)  # only now that it has its parts: a look may come meanwhile
            if name == "evaluate":
                self.choose_checkpoint(self._which)
            if name == "events":
                for alert in self._alerts:
                    self.add_alert(alert)
        self._arrange()
        self._made[name].focus()

    async def toggle_maximised(self) -> None:
        """Give the whole place to the pane with the keys, or take it back."""
        self.maximised = not self.maximised
        focused = self.screen.focused
        if self.maximised and focused is not None:
            within = [name for name, pane in self._made.items() if pane in focused.ancestors_with_self]
            self.front = within[0] if within else self.front
        self._arrange()

    def _arrange(self) -> None:
        single = self.single
        shown = {name: self.is_in_view(name) for name in PANES}
        for name, pane in self._made.items():
            pane.display = shown[name]
        self.query_one("#main").display = any(shown[name] for name, pane in PANES.items() if pane.large)
        side = self.query_one("#side")
        side.display = shown["sample"] or shown["chat"]
        side.set_class(not single and self.app.size.width >= HUGE, "-across")
        self.query_one("#facts").display = shown["sample"]
        self.query_one("#memory").display = self.app.size.height >= LOW
        self.set_class(single, "-single")
        self.query_one(PaneTabs).show_chosen(self.front)
        self.call_after_refresh(self.post_message, self.Shown())

    def on_descendant_focus(self, event: "events.DescendantFocus") -> None:
        """The tabs mark the pane with the keys, also when Tab or the mouse went there."""
        for name, pane in self._made.items():
            if pane in event.widget.ancestors_with_self and name != self.front:
                self.front = name
                self.query_one(PaneTabs).show_chosen(name)

    def on_resize(self, event: "events.Resize") -> None:
        self._arrange()

    async def on_chat_pane_left(self) -> None:
        """Take the place back too, and give the keys to the charts, unless another pane stands in theirs."""
        if self.screen.focused is not None:
            return  # a key typed behind the one that left has led elsewhere
        if self.maximised:
            await self.toggle_maximised()
        if self.single or self.is_in_view("charts"):
            await self.show("charts")

    async def on_notes_pane_left(self) -> None:
        """The same as from the chat."""
        await self.on_chat_pane_left()

    def on_chat_pane_evaluated(self, message: ChatPane.Evaluated) -> None:
        """List it among the other results; a pane that is not made yet reads it with them."""
        pane: Any = self._made.get("evaluate")
        if pane is not None:
            pane.add(message.result)

    # ── what they show ────────────────────────────────────────────────────────────────────────────────────────

    def draw_charts(self, following: Following) -> bool:
        """Draw the charts, if they are in view; whether they were."""
        if not self.is_in_view("charts"):
            return False
        self.query_one(ChartsPane).show([following])
        return True

    def show_samples(self, samples: Sequence[Row]) -> None:
        """Take in the samples there are."""
        self.query_one(SamplePane).show(list(samples))

    def show_reading(self, reading: Reading, following: Following) -> None:
        """Show what was measured; also where it is not in view, or its history would have gaps."""
        self.query_one(MemoryPane).show_reading(reading, following)

    def look(self, following: Following) -> None:
        """Bring the other panes in view up to date, all but charts and samples."""
        for name, pane in self._made.items():
            if not self.is_in_view(name):
                continue
            if name == "epochs":
                cast("EpochsPane", pane).show(following)
            elif name in {"notes", "configuration", "events", "console"}:
                cast("Looking", pane).look()

    def refresh_checkpoints(self) -> None:
        """There is another checkpoint."""
        for name in ("chat", "evaluate"):
            pane: Any = self._made.get(name)
            if pane is not None:
                pane.refresh_checkpoint()

    def choose_checkpoint(self, which: str) -> None:
        """Let another checkpoint answer and be evaluated: "last", "best" or a step."""
        self._which = which
        for name in ("chat", "evaluate"):
            pane: Any = self._made.get(name)
            if pane is not None:
                pane.choose(which)

    def add_alert(self, alert: "Alert") -> None:
        """List an alert that only this viewer has seen."""
        pane: Any = self._made.get("events")
        if pane is None:
            self._alerts.append(alert)
        else:
            pane.add_alert(alert)
