"""The home screen: presets to start, and runs to open or resume."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from minigpt.inert import inert_line
from minigpt.paths import runs_dir
from minigpt.presets import Preset, list_presets
from minigpt.run_list import LIVE, RunList, RunSummary, age, now
from minigpt.rundir import RunDirectory, RunState
from tui.figures import loss_figure, short_count
from tui.widgets.row_table import Entry, Field, RowTable

if TYPE_CHECKING:
    from tui.app import MiniGPTApp

REFRESH_INTERVAL = 2.0  # seconds between two looks at the runs

_STATES = {
    RunState.TRAINING: "training",
    RunState.PAUSED: "paused",
    RunState.FINISHED: "finished",
    RunState.STOPPED: "stopped",
    RunState.CRASHED: "crashed",
}
_UNKNOWN = "—"


class HomeScreen(Screen[None]):
    """What there is to start and to look at."""

    BINDING_GROUP_TITLE = "Home"
    BINDINGS = [
        Binding("r", "resume", "resume the run", tooltip="go on with the run; asks how long if it has finished"),
        Binding("R", "resume_changed", "resume the run with other settings", show=False),
    ]

    class RunsRead(Message):
        """The runs as they are now."""

        def __init__(self, runs: list[RunSummary]) -> None:
            super().__init__()
            self.runs = runs

    class ParametersCounted(Message):
        """How many parameters the presets' models have, in words, by preset."""

        def __init__(self, counts: dict[str, str]) -> None:
            super().__init__()
            self.counts = counts

    class Trouble(Message):
        """A thread could not do its work."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, status: str = "") -> None:
        super().__init__()
        self._status = status
        self._presets = list_presets()
        self._counts: dict[str, str] = {}
        self._runs: list[RunSummary] | None = None
        self._run_list = RunList()
        self._reading: threading.Thread | None = None

    @property
    def _app(self) -> "MiniGPTApp":
        return cast("MiniGPTApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="home"):
            yield Static(
                Text.assemble(
                    ("minigpt-tui", "bold"),
                    "  read-only: watch runs, talk to them"
                    if self._app.read_only
                    else "  train a small GPT, watch it learn, talk to it",
                ),
                id="home-title",
            )
            yield Static(self._what_to_do(), id="home-hint")
            yield RowTable(
                (Field("preset"), Field("what it is for", flexible=True, one_line=True), Field("parameters", "right")),
                id="presets",
            )
            yield Static(id="about", markup=False)
            yield RowTable(
                (
                    Field("run", flexible=True, cut=True),
                    Field("state"),
                    Field("step", "right"),
                    Field("of", "right", wide_only=100),
                    Field("best val", "right"),
                    Field("age", "right"),
                ),
                id="runs",
            )
            yield Static(id="no-runs", markup=False)
        yield Static(id="home-status", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._show_presets()
        self.show_status(self._status)
        self.query_one("#runs").display = False
        self.query_one("#presets").display = not self._app.read_only
        self.query_one("#presets", RowTable).focus()
        self.set_interval(REFRESH_INTERVAL, self._read_runs)
        # Whatever needs pydantic or torch waits until the first frame is on the screen.
        self.call_after_refresh(self._after_first_frame)

    def _after_first_frame(self) -> None:
        self._app.first_frame_painted()
        self._read_runs()
        self._in_thread("presets", self._count_parameters)

    def _in_thread(self, what: str, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a thread would end without a word
                self.post_message(self.Trouble(f"the {what} cannot be read: {type(error).__name__}: {error}"))

        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
        return thread

    def on_home_screen_trouble(self, message: Trouble) -> None:
        self.show_status(message.text)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        if self._runs is not None:
            self._read_runs()

    def show_status(self, text: str) -> None:
        """Show in one line what is being done, or nothing."""
        status = self.query_one("#home-status", Static)
        status.update(inert_line(text))
        status.display = bool(text)

    # ── presets ───────────────────────────────────────────────────────────────────────────────────────────────

    def _what_to_do(self) -> Text:
        if self._app.read_only:
            return Text.assemble(("Enter", "bold"), " opens a run; choose with the arrow keys.")
        if any(summary.state in LIVE for summary in self._runs or []):
            return Text.assemble(("Enter", "bold"), " opens a run, those in training first, or starts a preset below.")
        if self._runs:
            return Text.assemble(("Enter", "bold"), " starts a preset or opens a run; choose with the arrow keys.")
        if any(preset.name == "quickstart" for preset in self._presets):
            return Text.assemble(("Enter", "bold"), " trains your first model; choose another with the arrow keys.")
        return Text.assemble(("Enter", "bold"), " starts a preset; choose with the arrow keys.")

    def _show_presets(self) -> None:
        self.query_one("#presets", RowTable).show(
            [
                Entry(preset.name, (preset.name, preset.about, self._counts.get(preset.name, "")))
                for preset in self._presets
            ]
        )

    def _count_parameters(self) -> None:
        # Runs in a thread. Loading the dashboard's modules and torch now makes the next key press answer at once.
        import tui.screens.dashboard  # noqa: F401
        from minigpt.configfile import load_config

        configs = {}
        counts = {}
        for preset in self._presets:
            try:
                configs[preset] = load_config(preset.path)
            except Exception:  # noqa: BLE001 - a preset that cannot be read says why when it is started
                counts[preset.name] = _UNKNOWN
        from minigpt.corpus import vocab_size_of
        from minigpt.model import count_parameters

        for preset, config in configs.items():
            counts[preset.name] = _UNKNOWN
            try:
                counts[preset.name] = short_count(count_parameters(config.model, vocab_size_of(config)))
            except Exception:  # noqa: BLE001 - likewise
                continue
        self.post_message(self.ParametersCounted(counts))

    def on_home_screen_parameters_counted(self, message: ParametersCounted) -> None:
        self._counts = message.counts
        self._show_presets()

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_runs(self) -> None:
        # Not `is_current`, which also holds for a screen that is covered: drawing it would repaint the one above.
        if self.app.screen is not self or (self._reading is not None and self._reading.is_alive()):
            return

        def read() -> None:
            self.post_message(self.RunsRead(self._run_list.read()))

        self._reading = self._in_thread("runs", read)

    def on_home_screen_runs_read(self, message: RunsRead) -> None:
        before, self._runs = self._runs, message.runs
        runs, empty = self.query_one("#runs", RowTable), self.query_one("#no-runs", Static)
        time = now()
        runs.show([_entry(summary, time) for summary in message.runs])
        if _states(before) == _states(message.runs):
            return
        runs.display, empty.display = bool(message.runs), not message.runs
        self.query_one("#home-hint", Static).update(self._what_to_do())
        if not self._app.read_only:
            self._put_first(any(summary.state in LIVE for summary in message.runs))
        if not message.runs:
            place = inert_line(str(runs_dir()).replace(str(Path.home()), "~", 1))
            empty.update(f"No runs yet. Each run you start is kept in {place},\nto be opened, resumed or talked to.")
            self.query_one("#presets").focus()
        elif self._app.read_only:
            runs.focus()
        self.refresh_bindings()

    def _put_first(self, live: bool) -> None:
        """Let the runs stand above the presets while one is being trained: to look at it is why one is here."""
        if live == self.has_class("-live"):
            return
        runs, presets = self.query_one("#runs", RowTable), self.query_one("#presets", RowTable)
        self.set_class(live, "-live")
        if not live:
            runs.parent.move_child(runs, after=self.query_one("#about"))  # type: ignore[union-attr]
            return
        runs.parent.move_child(runs, before=presets)  # type: ignore[union-attr]
        if not runs.has_focus:
            runs.move_cursor(row=0, animate=False)
            runs.focus()

    def _chosen_run(self) -> RunSummary | None:
        table = self.query_one("#runs", RowTable)
        if not table.has_focus:
            return None
        return next((summary for summary in self._runs or [] if str(summary.run.path) == table.chosen), None)

    def _chosen_preset(self) -> Preset | None:
        table = self.query_one("#presets", RowTable)
        return next((preset for preset in self._presets if preset.name == table.chosen), None)

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"resume", "resume_changed"}:
            summary = self._chosen_run()
            return summary is not None and summary.state not in LIVE and not self._app.read_only
        return True

    def on_descendant_focus(self) -> None:
        self._show_about()
        self.refresh_bindings()

    def on_data_table_row_highlighted(self) -> None:
        self._show_about()
        self.refresh_bindings()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_about)

    def _show_about(self) -> None:
        """What the chosen preset is for, in full, where its row has no room for that."""
        table, preset = self.query_one("#presets", RowTable), self._chosen_preset()
        about = self.query_one("#about", Static)
        about.display = table.is_cut
        about.update(inert_line(preset.about) if preset is not None and table.has_focus else "")

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.data_table.focus()
        self.action_choose()

    def action_choose(self) -> None:
        """Start the chosen preset, or open the chosen run."""
        if (summary := self._chosen_run()) is not None:
            self._app.open_run(summary.run)
        elif (preset := self._chosen_preset()) is not None:
            self._app.start_run(preset.name)

    def action_resume(self) -> None:
        """Go on with the chosen run."""
        if (summary := self._chosen_run()) is None:
            return
        if summary.state is RunState.FINISHED:
            self.action_resume_changed()
        else:
            self._app.resume_run(RunDirectory(summary.run.path))

    def action_resume_changed(self) -> None:
        """Ask with which settings to go on with the chosen run."""
        if (summary := self._chosen_run()) is not None:
            self._app.ask_and_resume(RunDirectory(summary.run.path))


def _states(runs: list[RunSummary] | None) -> list[tuple[Path, RunState]] | None:
    return None if runs is None else [(summary.run.path, summary.state) for summary in runs]


def _entry(summary: RunSummary, time: float) -> Entry:
    cells = (
        summary.run.name,
        _STATES[summary.state],
        _UNKNOWN if summary.step is None else f"{summary.step:,}",
        f"{summary.max_steps:,}" if summary.max_steps else _UNKNOWN,  # none if the time is what ends it
        _UNKNOWN if summary.best is None else loss_figure(summary.best[1]),
        "now" if summary.state in LIVE else age(time - summary.written),
    )
    return Entry(str(summary.run.path), cells, "bold" if summary.state in LIVE else "")
