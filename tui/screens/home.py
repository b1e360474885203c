"""The home screen: presets to start, and runs to open or resume."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import events
from textual._time import get_time
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Input, Static

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.paths import runs_dir
from minigpt.presets import Preset, list_presets
from minigpt.run_list import LIVE, RunList, RunSummary, now, size_in_words
from minigpt.rundir import RunDirectory, RunState
from tui.run_filter import HINT
from tui.run_rows import CURVE_WIDTH
from tui.screens.dialogs import Choice, ConfirmScreen, KeyGroup, KeysScreen, keys_of
from tui.widgets.key_line import KeyLine
from tui.widgets.preset_table import PresetTable, parameter_counts
from tui.widgets.row_table import RowTable
from tui.widgets.run_table import FilterLine, RunTable

if TYPE_CHECKING:
    from tui.app import MiniGPTApp
    from tui.run.alerts import Alert
    from tui.run_list_alerts import RunListAlerts

REFRESH_INTERVAL = 2.0  # seconds between two looks at the runs

FIRST_READING, FURTHER_READING = 0.1, 0.5
"""Seconds after which what is known of the runs is shown while there are more to be read."""

GRACE = 0.4
"""Seconds after another screen in which keys that start, end or change a run are taken for that screen's."""

IN_BURST = 0.3  # seconds between two keys that are typed on without looking; they make the grace longer

_ACTING = frozenset({"launch", "resume", "resume_changed", "stop", "rename", "delete"})


class HomeScreen(Screen[None]):
    """What there is to start and to look at."""

    BINDING_GROUP_TITLE = "Home"
    BINDINGS = [
        Binding("r", "resume", "resume", tooltip="go on with the run; asks how long if it has finished"),
        Binding("R", "resume_changed", "resume the run with other settings", show=False),
        Binding("x", "stop", "stop", tooltip="stop the run, whoever trains it; asks first"),
        Binding(
            "slash",
            "filter",
            "filter",
            key_display="/",
            tooltip="show only some runs: by words of name, state or corpus, by settings and notes",
        ),
        Binding("v,equals_sign", "compare", "compare", tooltip="compare the marked runs; space marks one"),
        Binding("escape", "show_all", "see all", tooltip="take the filter away"),
        # Behind what is done with the run under the cursor: on a short line it goes first.
        Binding("n", "launch", "choose settings", tooltip="choose the settings of a new run, and start it"),
        Binding("f2", "rename", "give the run another name", show=False),
        Binding("delete,D", "delete", "delete the run; asks first", show=False),
        Binding("question_mark", "show_keys", "keys", key_display="?", tooltip="this help"),
        Binding("f1", "show_keys", "keys", tooltip="this help"),  # where letters are typed
        # These come after what they stand in for: a key whose action cannot be done here says why.
        Binding("r,R,f2,delete,D,v,equals_sign", "say_why_not('run')", show=False),
        Binding("x", "say_why_not('stop')", show=False),
    ]

    class RunsRead(Message):
        """The runs as they are now."""

        def __init__(self, runs: list[RunSummary]) -> None:
            super().__init__()
            self.runs = runs

    class Alerted(Message):
        """Something has happened to one of the runs."""

        def __init__(self, alert: "Alert") -> None:
            super().__init__()
            self.alert = alert

    class RunChanged(Message):
        """A run was renamed or deleted, or could not be."""

        def __init__(self, told: str, error: UserError | None) -> None:
            super().__init__()
            self.told = told
            self.error = error

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
        self._begun = False
        """Whether runs and presets are being read."""
        self._come_back = False
        """Whether somebody has been on another screen."""
        self._presets = list_presets()
        self._runs: list[RunSummary] | None = None
        self._run_list = RunList(CURVE_WIDTH)
        self._reading: threading.Thread | None = None
        self._alerts: RunListAlerts | None = None
        self._just_left: set[Path] = set()
        """The runs that other screens have told of since the last look at the list."""
        self._runs_first = True
        self._above: list[Screen[object]] = []
        """The screens that have covered this one since it was last seen."""
        self._go_to: Path | None = None
        """The run that was left, until the cursor is on it."""
        self._deaf_until = 0.0
        self._in_burst = False

    @property
    def _app(self) -> "MiniGPTApp":
        return cast("MiniGPTApp", self.app)

    def compose(self) -> ComposeResult:
        self._runs_first = self._app.read_only or _any_run()
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
            parts = (self._compose_runs(), self._compose_presets())
            for part in parts if self._runs_first else reversed(parts):
                yield from part
        yield Static(id="home-status", markup=False)
        yield KeyLine()

    def _compose_presets(self) -> Iterator[Widget]:
        yield PresetTable(self._presets, id="presets")
        yield Static(id="about", markup=False)

    def _compose_runs(self) -> Iterator[Widget]:
        yield Horizontal(
            Static("filter: ", id="filter-label"),
            FilterLine(placeholder=HINT),
            Static(id="matches", markup=False),
            id="filter",
        )
        yield RunTable(id="runs")
        yield Static(id="no-runs", markup=False)

    def on_mount(self) -> None:
        # At once, not with the event: keys typed too fast are acted upon before that comes.
        self.app.screen_change_signal.subscribe(self, self._screen_changed, immediate=True)
        self.query_one(PresetTable).show_counts({})
        self.show_status(self._status)
        self.set_class(self._app.read_only, "-read-only")
        self.set_class(not self._runs_first, "-first-start")
        self.query_one("#runs").display = self._runs_first
        self.query_one("#no-runs").display = not self._runs_first
        self.query_one("#presets").display = not self._app.read_only
        self.query_one("#runs" if self._runs_first else "#presets").focus()
        self.set_interval(REFRESH_INTERVAL, self._read_runs)
        # Whatever needs pydantic or torch waits until the first frame is on the screen.
        self.call_after_refresh(self._after_first_frame)

    def _after_first_frame(self) -> None:
        self._app.first_frame_painted()
        self._run_list.keep_caches = not self._app.read_only
        if not self._status:  # else what the command line asked for comes first, and this when somebody comes here
            self._begin()

    def _begin(self) -> None:
        self._begun = True
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
        if self._runs is not None or self._come_back:
            self._go_to_left_run()
            if self._begun:
                self._read_runs()
            else:
                self._begin()
            self._hear_again()

    # ── coming back from another screen ───────────────────────────────────────────────────────────────────────

    def _screen_changed(self, screen: Screen[object]) -> None:
        if screen is not self:
            # A window over this screen is closed on purpose, with a key of its own.
            if not isinstance(screen, ModalScreen) and screen not in self._above:
                self._above.append(screen)
        elif self._above:
            self._come_back = True
            runs = [run for above in self._above if (run := getattr(above, "run_directory", None)) is not None]
            self._go_to = runs[-1].path if runs else None
            self._just_left |= {run.path for run in runs}
            self._above.clear()
            self._deaf_until, self._in_burst = get_time() + GRACE, False

    def _go_to_left_run(self) -> None:
        runs = self.query_one(RunTable)
        if self._go_to is not None and runs.go_to(self._go_to):
            self._go_to = None
            runs.focus()

    def _hear_again(self) -> None:
        self.refresh_bindings()
        if (rest := self._deaf_until - get_time()) > 0:
            self.set_timer(rest, self._hear_again)

    def on_key(self, event: events.Key) -> None:
        """Take no command from what was typed for the screen before: one Esc too many closes it under one's hands."""
        # The time at which the key was pressed: it may have waited while the screen was drawn.
        if event.time >= self._deaf_until:
            self._go_to = None
            return
        if not event.is_printable and event.key not in {"enter", "delete"}:
            return
        active = self.active_bindings.get(event.key)
        is_apps = active is not None and active.node is self.app
        acts = event.key == "enter" or (active is not None and active.binding.action in _ACTING)
        if acts or (is_apps and self._in_burst):
            event.stop()
        self._in_burst = True
        self._deaf_until = max(self._deaf_until, event.time + IN_BURST)

    def show_status(self, text: str) -> None:
        """Show in one line what is being done, or nothing."""
        status = self.query_one("#home-status", Static)
        status.update(inert_line(text))
        status.display = bool(text)

    # ── presets ───────────────────────────────────────────────────────────────────────────────────────────────

    def _what_to_do(self) -> Text:
        if self._app.read_only:
            return Text.assemble(("Enter", "bold"), " opens a run; choose with the arrow keys.")
        if self._runs_first:
            return Text.assemble(
                ("Enter", "bold"), " opens a run; ", ("Tab", "bold"), " goes to the presets to start one."
            )
        if any(preset.name == "quickstart" for preset in self._presets):
            return Text.assemble(("Enter", "bold"), " trains your first model; choose another with the arrow keys.")
        return Text.assemble(("Enter", "bold"), " starts a preset; choose with the arrow keys.")

    def _count_parameters(self) -> None:
        # Runs in a thread. Loading the dashboard's modules and torch now makes the next key press answer at once.
        import tui.screens.dashboard  # noqa: F401
        from tui.widgets.panes import load_later_panes

        load_later_panes()
        self.post_message(self.ParametersCounted(parameter_counts(self._presets)))

    def on_home_screen_parameters_counted(self, message: ParametersCounted) -> None:
        self.query_one(PresetTable).show_counts(message.counts)

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_runs(self) -> None:
        # Not `is_current`, which also holds for a screen that is covered: drawing it would repaint the one above.
        if not self._begun or self.app.screen is not self or (self._reading is not None and self._reading.is_alive()):
            return

        just_left, self._just_left = self._just_left, set()
        session = self._app.session
        own = session.run_directory if session is not None and session.is_alive() else None

        def read() -> None:
            seconds = FIRST_READING
            while True:
                runs = self._run_list.read(seconds)
                self.post_message(self.RunsRead(runs))
                self._look_for_alerts(runs, None if own is None else own.path, just_left)
                just_left.clear()  # from now on they are told of here
                if not self._run_list.behind or self.app.screen is not self:
                    return
                seconds = FURTHER_READING

        self._reading = self._in_thread("runs", read)

    def _look_for_alerts(self, runs: list[RunSummary], own: Path | None, just_left: set[Path]) -> None:
        from tui.run_list_alerts import RunListAlerts  # here: the list is shown before this is there

        if self._alerts is None:
            self._alerts = RunListAlerts(self._app.told_stalls)
        for alert in self._alerts.take(runs, now(), own=own, just_left=just_left):
            self.post_message(self.Alerted(alert))

    def on_home_screen_alerted(self, message: Alerted) -> None:
        from tui.notifying import announce

        announce(self.app, message.alert)

    def on_home_screen_runs_read(self, message: RunsRead) -> None:
        before, self._runs = self._runs, message.runs
        runs = self.query_one(RunTable)
        runs.show_runs(message.runs, now())
        self._go_to_left_run()
        if _states(before) == _states(message.runs):
            if runs.display == runs.is_empty:  # a filter may ask for figures, which change
                self._show_none()
            return
        self._show_none()
        if self._app.read_only:
            if message.runs and not self.query_one(FilterLine).has_focus:
                runs.focus()
        elif bool(message.runs) != self._runs_first:
            self._put_first(bool(message.runs))
        self.refresh_bindings()

    def _show_none(self) -> None:
        """Show the table, or say why there is nothing in it."""
        table, empty = self.query_one(RunTable), self.query_one("#no-runs", Static)
        table.display, empty.display = not table.is_empty, table.is_empty
        shown, total = table.counts
        counts, complaint = self.query_one("#matches", Static), table.complaint
        counts.set_class(bool(complaint), "-refused")
        counts.update(f" ✗ {complaint}" if complaint else f" {shown:,} of {total:,} match")
        if self._runs:
            empty.update("No run has all of these words in its name, state or corpus, and such settings and notes.")
        else:
            place = inert_line(str(runs_dir()).replace(str(Path.home()), "~", 1))
            empty.update(f"No runs yet. Each run you start is kept in {place},\nto be opened, resumed or talked to.")

    def _put_first(self, runs: bool) -> None:
        """Let the runs stand above the presets as soon as there are any: nobody starts a training by a careless key."""
        self._runs_first = runs
        self.set_class(not runs, "-first-start")
        self.query_one("#home-hint", Static).update(self._what_to_do())
        place, presets = self.query_one("#home"), self.query_one("#presets")
        if runs:
            place.move_child(presets, after=self.query_one("#no-runs"))
        else:
            place.move_child(presets, before=self.query_one("#filter"))
        place.move_child(self.query_one("#about"), after=presets)
        self.query_one("#runs" if runs else "#presets").focus()

    def _chosen_run(self) -> RunSummary | None:
        table = self.query_one(RunTable)
        return table.chosen_run if table.has_focus else None

    def _chosen_preset(self) -> Preset | None:
        return self.query_one(PresetTable).chosen_preset

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # None: the key is listed in the help, but what it does cannot be done here.
        acting = action in _ACTING or action == "say_why_not"
        if acting and self._app.read_only:
            return False
        if acting and get_time() < self._deaf_until:
            return None
        if action == "launch":
            return not self.query_one(FilterLine).has_focus or None
        if action == "filter":
            return bool(self._runs) and not self.query_one(FilterLine).has_focus
        if action == "show_all":
            line = self.query_one(FilterLine)
            return bool(line.value) and not line.has_focus
        if action == "compare":
            return self.query_one(RunTable).has_focus or None
        if action in _ACTING:
            summary = self._chosen_run()
            possible = summary is not None and (
                action in {"rename", "delete"} or (summary.state in LIVE) == (action == "stop")
            )
            return possible or None
        return True

    def action_say_why_not(self, wanted: str) -> None:
        """Say why a key does nothing here."""
        summary = self._chosen_run()
        if not self._runs:
            self.notify("There is no run yet: Enter starts one.")
        elif summary is None:
            self.notify("Choose a run first: Tab goes to the runs.")
        elif wanted == "stop":
            self.notify(f"{inert_line(summary.run.name)} is not being trained.", markup=False)
        else:
            self.notify(f"{inert_line(summary.run.name)} is being trained already: Enter opens it.", markup=False)

    def action_show_keys(self) -> None:
        """Show which keys work here, in the other table too."""
        groups = keys_of(cast("Screen[object]", self))
        for table in self.query(RowTable):
            if table.display and not table.has_focus:
                keys = [binding for binding in type(table).BINDINGS if isinstance(binding, Binding)]
                texts = [(self.app.get_key_display(key), key.tooltip or key.description) for key in keys]
                groups.insert(-1, KeyGroup(f"{table.BINDING_GROUP_TITLE} (Tab goes there)", tuple(texts)))
        self.app.push_screen(KeysScreen(groups))

    def on_descendant_focus(self) -> None:
        self._show_about()
        self.refresh_bindings()

    def on_row_table_moved(self) -> None:
        self._show_about()
        self.refresh_bindings()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_about)

    def _show_about(self) -> None:
        """What the chosen preset is for, in full, where its row has no room for that."""
        table, preset = self.query_one("#presets", RowTable), self._chosen_preset()
        about = self.query_one("#about", Static)
        about.display = table.is_cut and table.has_focus
        about.update(inert_line(preset.about) if preset is not None else "")

    def on_row_table_chosen(self, message: RowTable.Chosen) -> None:
        if get_time() < self._deaf_until:
            return
        message.table.focus()
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

    def action_launch(self) -> None:
        """Choose the settings of a new run, beginning with those of the preset under the cursor of their table."""
        if (preset := self._chosen_preset()) is not None:
            self._app.open_launch(preset.name)

    def action_stop(self) -> None:
        """Ask whether to stop the chosen run, whoever trains it."""
        if (summary := self._chosen_run()) is None:
            return
        run, name = summary.run, inert_line(summary.run.name)

        def answered(answer: str | None) -> None:
            from minigpt.commands import send_command

            if answer != "stop":
                return
            try:
                send_command(run.commands_dir, "stop")
            except OSError as error:
                self.notify(f"The command could not be left for the trainer: {error.strerror}.", severity="error")
            else:
                self.notify(f"{name} is asked to save and stop.", markup=False)

        question = f"{name} is ended after a checkpoint of this step. It can be resumed later."
        choices = (Choice("stop", "s", "stop and save"), Choice("stay", "escape", "go on training"))
        self.app.push_screen(ConfirmScreen("Stop this run?", question, choices, applies=run.is_live), answered)

    # ── which runs there are, and their names ─────────────────────────────────────────────────────────────────

    def action_filter(self) -> None:
        """Type words that the shown runs have to have."""
        self.add_class("-filtering")
        self.query_one(FilterLine).focus()

    def action_show_all(self) -> None:
        """Take the filter away."""
        self.query_one(FilterLine).action_clear()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input is self.query_one(FilterLine):
            self.query_one(RunTable).filter(event.value)
            self._show_none()
            self.refresh_bindings()

    def on_filter_line_left(self) -> None:
        table = self.query_one(RunTable)
        if not table.is_empty:
            table.focus()
            self.set_class(bool(self.query_one(FilterLine).value), "-filtering")

    def action_compare(self) -> None:
        """Compare the marked runs; with a single one, it and the one under the cursor."""
        table = self.query_one(RunTable)
        runs = {summary.run.path: summary.run for summary in table.marked_runs}
        if len(runs) == 1 and table.chosen_run is not None:
            runs[table.chosen_run.run.path] = table.chosen_run.run
        if len(runs) < 2:
            self.notify("Mark the runs to be compared with the space bar first.")
        else:
            self._app.open_comparison(list(runs.values()))

    def action_rename(self) -> None:
        """Ask for another name of the chosen run."""
        if (summary := self._chosen_run()) is None or self._refuses_live(summary, "renamed"):
            return
        from minigpt.run_files import rename_run
        from tui.screens.rename import RenameScreen

        run = summary.run

        def answered(name: str | None) -> None:
            if name is not None:
                told = f"{inert_line(run.name)} is called {inert_line(name)} now."
                self.query_one(RunTable).expect_rename(run.path, run.path.with_name(name))
                self._change(lambda: self._app.run_moved(run, rename_run(run, name)), told, f"renaming {run.name} …")

        self.app.push_screen(RenameScreen(run), answered)

    def action_delete(self) -> None:
        """Ask whether to delete the chosen run."""
        if (summary := self._chosen_run()) is None or self._refuses_live(summary, "deleted"):
            return
        from minigpt.run_files import delete_run

        run = summary.run

        def answered(answer: str | None) -> None:
            if answer == "delete":
                self._change(lambda: delete_run(run), f"{inert_line(run.name)} is deleted.", f"deleting {run.name} …")

        choices = (Choice("delete", "d", "delete"), Choice("keep", "escape", "keep it"))
        self.app.push_screen(ConfirmScreen("Delete this run?", what_is_lost(summary), choices), answered)

    def _refuses_live(self, summary: RunSummary, done: str) -> bool:
        if live := summary.state in LIVE:
            self.notify(
                f"{inert_line(summary.run.name)} is being trained, and cannot be {done} meanwhile: stop it first.",
                severity="warning",
                markup=False,
            )
        return live

    def _change(self, work: Callable[[], object], told: str, meanwhile: str) -> None:
        # In a thread: gigabytes take a while to be removed.
        def run() -> None:
            error = None
            try:
                work()
            except UserError as refused:
                error = refused
            self.post_message(self.RunChanged(told, error))

        self.show_status(meanwhile)
        self._in_thread("run", run)

    def on_home_screen_run_changed(self, message: RunChanged) -> None:
        self.show_status("")
        if message.error is None:
            self.notify(message.told, markup=False)
        else:
            self.query_one(RunTable).refuse_rename()
            self._app.show_message("this did not work", str(message.error))
        self._read_runs()


def what_is_lost(summary: RunSummary) -> str:
    """The question before a run is deleted."""
    name = inert_line(summary.run.name)
    if summary.run.path.is_symlink():
        return f"{name} is a link to a run elsewhere. Only the link is removed; the run stays where it is."
    kept = len(summary.run.checkpoints())
    parts = [
        "" if summary.step is None else f"trained for {summary.step:,} steps",
        {0: "no checkpoint", 1: "1 checkpoint"}.get(kept, f"{kept} checkpoints"),
        "" if summary.size is None else f"{size_in_words(summary.size)} on the disk",
    ]
    return (
        f"{name}: {', '.join(filter(None, parts))}. The model, its samples, chats and notes are lost for good; "
        "nothing can bring them back."
    )


def _any_run() -> bool:
    """Whether there is a run, found out without looking into any: the first frame waits for it."""
    try:
        return any(not path.name.startswith(".") and (path / "config.toml").is_file() for path in runs_dir().iterdir())
    except OSError:
        return False


def _states(runs: list[RunSummary] | None) -> list[tuple[Path, RunState | None]] | None:
    return None if runs is None else [(summary.run.path, summary.state) for summary in runs]
