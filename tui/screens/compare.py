"""Several runs side by side: their curves over each other, what differs in their configurations, and who did best."""

from collections.abc import Sequence
from time import monotonic, thread_time

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import DataTable, Static

from minigpt.inert import inert_line
from minigpt.rundir import RunDirectory
from tui.comparison import BEST, BITS_PER_BYTE, FIELDS, KEYS, caution, differences, entry, standing, tokenizers
from tui.ordering import Order, in_order, next_order, with_arrow
from tui.pace import SLACK, Pace
from tui.run.following import Following
from tui.settings import DEFAULTS
from tui.widgets.charts import ChartsPane
from tui.widgets.key_line import KeyLine
from tui.widgets.row_table import RowTable, without_middle
from tui.widgets.status_line import StatusLine
from tui.widgets.tabs import PaneTabs

LOOK_INTERVAL = 1.0  # seconds between two looks at the runs' files
BITE_INTERVAL = 0.01  # while the beginnings of the runs are still being read
PREVIEW_INTERVAL = 0.5  # meanwhile, between two drawings of what is known

PANES = {"charts": "charts", "configurations": "configurations", "leaderboard": "leaderboard"}
_WIDEST_NAME = 28  # cells of a run's name over its settings


class Leaderboard(RowTable):
    """The runs, the best first."""

    BINDING_GROUP_TITLE = "Leaderboard"
    BINDINGS = [
        Binding("enter", "select_cursor", "open", tooltip="open the dashboard of the run"),
        Binding("s", "sort", "sort", tooltip="sort by the next column"),
        Binding("S", "reverse", "the other way round", show=False),
    ]
    BORDER_TITLE = " leaderboard "

    def __init__(self, *, id: str) -> None:
        super().__init__(FIELDS, id=id)
        self._order: Order | None = None
        self._runs: Sequence[Following] = ()

    def show_runs(self, runs: Sequence[Following]) -> None:
        """Show how the runs stand now."""
        self._runs = runs
        rows = [standing(run, number) for number, run in enumerate(runs, 1)]
        # Until the user says otherwise: by what can be compared.
        comparable = len(tokenizers(runs)) < 2 or any(row.bits_per_byte is None for row in rows)
        order = self._order or Order(BEST if comparable else BITS_PER_BYTE)
        ascii = getattr(self.app, "settings", DEFAULTS).ascii
        labels = with_arrow([field.label for field in FIELDS], order, KEYS, ascii=ascii)
        self.show([entry(row) for row in in_order(rows, order, KEYS)], labels)

    def action_sort(self) -> None:
        """Sort by the next of the visible columns."""
        self._order = next_order(self._order or Order(BEST), [*self.visible_fields])
        self.show_runs(self._runs)

    def on_row_table_head_clicked(self, message: RowTable.HeadClicked) -> None:
        message.stop()
        order = self._order or Order(BEST)
        self._order = Order(message.column, order.column == message.column and not order.reverse)
        self.show_runs(self._runs)

    def action_reverse(self) -> None:
        """Turn the order round."""
        order = self._order or Order(BEST)
        self._order = Order(order.column, not order.reverse)
        self.show_runs(self._runs)


class Differences(DataTable[Text]):
    """The settings that are not the same in all runs: a line for each, a column for each run."""

    BINDING_GROUP_TITLE = "Configurations"
    BINDINGS = [
        Binding("up,k", "scroll_up", "a line up", show=False),
        Binding("down,j", "scroll_down", "a line down", show=False),
        Binding("left,h", "scroll_left", "to the left", show=False),
        Binding("right,l", "scroll_right", "to the right", show=False),
    ]
    BORDER_TITLE = " configurations "

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="none", fixed_columns=1, show_row_labels=False)
        self._shown: object = None

    def show_runs(self, runs: Sequence[Following]) -> None:
        """Show in what the runs differ, if that is anything new."""
        found = differences(runs)
        if found == self._shown:
            return
        self._shown = found
        self.clear(columns=True)
        unread = [inert_line(run.run.name) for run in runs if not run.settings]
        self.border_subtitle = f" {', '.join(unread)}: cannot be read " if unread else ""
        if not found:
            self.add_column(Text("All settings are the same." if not unread else "There is nothing to compare."))
            return
        self.add_column(Text("setting"))
        for number, run in enumerate(runs, 1):
            self.add_column(Text(f"{number} {without_middle(inert_line(run.run.name), _WIDEST_NAME)}"))
        for key, values in found:
            self.add_row(Text(key), *(Text(value, no_wrap=True) for value in values))


class CompareScreen(Screen[None]):
    """Compares runs, live ones and ended ones, and follows those that go on."""

    BINDING_GROUP_TITLE = "Comparison"
    AUTO_FOCUS = "ChartsPane"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS = [
        Binding("c", "ask_all", "ask all", tooltip="ask all runs the same, each with its best checkpoint"),
        Binding("1", "show_pane('charts')", "charts", show=False),
        Binding("2", "show_pane('configurations')", "in what the configurations differ", show=False),
        Binding("3", "show_pane('leaderboard')", "leaderboard", show=False),
    ]

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        super().__init__()
        self._keep_cache = False
        self._run_directories = tuple(runs)
        self._runs: list[Following] = []
        self._bites: Timer | None = None
        self._pace = Pace(low_bandwidth=getattr(self.app, "settings", DEFAULTS).low_bandwidth)
        self._charts_behind = True
        self._figures_behind = True
        self._drawn_at = 0.0
        self._pane = "charts"

    def compose(self) -> ComposeResult:
        yield StatusLine(id="compare-title")
        yield Static(id="caution", markup=False)
        yield PaneTabs(PANES, id="tabs")
        with Vertical(id="compared"):
            yield ChartsPane(id="compare-charts", ascii=getattr(self.app, "settings", DEFAULTS).ascii)
            yield Differences(id="differences")
            yield Leaderboard(id="leaderboard")
        yield KeyLine()

    def on_mount(self) -> None:
        keep = not getattr(self.app, "read_only", False)
        self._runs = [Following(run, keep_cache=keep) for run in self._run_directories]
        self.action_show_pane("charts")
        self._bites = self.set_interval(BITE_INTERVAL, self._read_on)
        self.set_interval(LOOK_INTERVAL, self._look)
        self._read_on()

    def on_unmount(self) -> None:
        for run in self._runs:
            run.close()

    # ── following ─────────────────────────────────────────────────────────────────────────────────────────────

    def _read_on(self) -> None:
        """Read another bite of the run of which the least is known; with the last one show all."""
        behind = [run for run in self._runs if run.behind]
        if behind:
            self._poll(min(behind, key=lambda run: run.share_read))
            self._show_title()
            if monotonic() - self._drawn_at >= PREVIEW_INTERVAL:
                self._show_all()
        elif self._bites is not None:
            self._bites.stop()
            self._bites = None
            self._show_all()

    def _poll(self, run: Following) -> None:
        before = run.state
        grown, new_events = run.poll()
        self._charts_behind |= grown or run.state != before
        self._figures_behind |= grown or bool(new_events) or run.state != before

    def _look(self) -> None:
        # Not `is_current`, which also holds for a screen that is covered.
        if self._bites is not None or self.app.screen is not self:
            return
        for run in self._runs:
            self._poll(run)
        now = monotonic()
        if self._pace.is_due(now):
            self._draw_charts()
        if self._figures_behind and now - self._drawn_at >= self._pace.frame(now) - SLACK:
            self._show_figures()

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    def _show_all(self) -> None:
        self._charts_behind = True
        self._draw_charts()
        self._show_figures()

    def _draw_charts(self) -> None:
        charts = self.query_one(ChartsPane)
        if not self._charts_behind or not charts.display or not charts.size:
            return
        self._charts_behind = False
        begin, now = thread_time(), monotonic()
        charts.show(self._runs)
        # What Textual spends on bringing it to the terminal belongs to the cost too.
        self.call_after_refresh(lambda: self._pace.spent(thread_time() - begin, now))

    def _show_figures(self) -> None:
        self._figures_behind, self._drawn_at = False, monotonic()
        self._show_title()
        told, words = self.query_one("#caution", Static), caution(self._runs)
        if str(told.content) != words:
            told.update(words)
            told.display = bool(words)
        for table in (self.query_one(Leaderboard), self.query_one(Differences)):
            if table.display:
                table.show_runs(self._runs)

    def _show_title(self) -> None:
        behind = [run for run in self._runs if run.behind]
        live = sum(run.is_live for run in self._runs)
        going_on = f" · {live} in training" if live else ""
        if behind:
            share = sum(run.share_read if run.behind else 1.0 for run in self._runs) / len(self._runs)
            going_on = f" · reading {share:.0%}"
        self.query_one("#compare-title", StatusLine).show(
            Content.assemble((f"{len(self._runs)} runs compared", "bold"), going_on)
        )

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._show_all)

    # ── what keys do ──────────────────────────────────────────────────────────────────────────────────────────

    def action_show_pane(self, name: str) -> None:
        """Go to a pane, which comes to the front where there is no room for all."""
        self._pane = name
        for pane in PANES:
            self.set_class(pane == name, f"-pane-{pane}")
        self.query_one(PaneTabs).show_chosen(name)
        ids = {"charts": "#compare-charts", "configurations": "#differences", "leaderboard": "#leaderboard"}
        self.query_one(ids[name]).focus()
        self.call_after_refresh(self._show_all)

    def on_pane_tabs_chosen(self, message: PaneTabs.Chosen) -> None:
        self.action_show_pane(message.pane)

    def on_row_table_chosen(self, message: RowTable.Chosen) -> None:
        for run in self._run_directories:
            if str(run.path) == message.table.chosen:
                self.app.open_run(run)  # type: ignore[attr-defined]

    def action_ask_all(self) -> None:
        """Ask all runs the same prompt, each with its best checkpoint, or its newest without one."""
        from tui.screens.ask_several import AskSeveralScreen

        kept = {run: {checkpoint.step for checkpoint in run.checkpoints()} for run in self._run_directories}
        choices = [(run, "best" if run.best_step() in steps else "last") for run, steps in kept.items() if steps]
        if choices:
            read_only = getattr(self.app, "read_only", False)
            self.app.push_screen(AskSeveralScreen(choices, read_only=read_only))
        else:
            self.notify("None of these runs has a checkpoint.")
