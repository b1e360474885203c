"""The app: which screen is shown, which training this process does, and how both end."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from textual import events, on
from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.driver import Driver
from textual.filter import LineFilter, Monochrome
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.presets import list_presets
from minigpt.rundir import RunDirectory
from tui import styles
from tui.garbage import Garbage
from tui.screens.dialogs import Choice, ConfirmScreen, KeysScreen, commands_of, keys_of
from tui.screens.home import HomeScreen
from tui.settings import AUTO, DEFAULTS, Settings, save_setting
from tui.start import Start
from tui.terminal.frames import Frames
from tui.terminal.typeahead import TypeAhead, Typed
from tui.theme import DARK, THEMES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from minigpt.session import TrainingSession
    from tui.run.alerts import Alerts
    from tui.run.following import Following

WATCH_INTERVAL = 0.2  # seconds between two looks at the session's thread
UNSEEN_INTERVAL = 1.0  # seconds between two looks at the run that is trained here while its dashboard is not open
OTHER_STYLES_AFTER = 0.7  # seconds from the first frame: behind the first plot of the run that the command line names
GARBAGE_INTERVAL = 5.0  # seconds between two thoughts of it; most of them end with the thought


class MiniGPTApp(App[None]):
    """Home screen and dashboards, and at most one training at a time behind them.

    `target` and `options` are those of the command line. `on_run` is told the directory of each run that this process
    trains, as soon as it exists. With `read_only` runs can be looked at and talked to, and nothing else: no training
    begins, and nothing is written into a run. `bytes_sent` tells how much has gone to the terminal so far.
    """

    TITLE = "minigpt-tui"
    BINDING_GROUP_TITLE = "Everywhere"
    CSS_PATH = styles.FIRST
    BINDINGS = [
        # The footer shows the first key of an action that works: the second where letters are typed.
        Binding("question_mark", "show_keys", "keys", key_display="?", tooltip="this help"),
        Binding("f1", "show_keys", "keys", tooltip="this help"),
        Binding("d", "detach", "detach", tooltip="leave; the training goes on in a process of its own"),
        Binding("q", "quit_or_ask", "quit", tooltip="quit; asks first while training"),
        Binding("ctrl+q", "quit_or_ask", "quit", show=False, tooltip="quit; asks first while training", priority=True),
        Binding("ctrl+c", "copy_or_quit", "copy the selected text, or else quit", show=False, priority=True),
        Binding("escape", "go_back", "back", show=False, tooltip="back to the screen before; training goes on"),
        Binding("ctrl+p", "command_palette", "search all commands", show=False, priority=True),
    ]

    class Loaded(Message):
        """What was asked for is ready to be started or shown, or cannot be."""

        def __init__(self, result: "TrainingSession | RunDirectory | UserError") -> None:
            super().__init__()
            self.result = result

    def __init__(
        self,
        target: str | None = None,
        options: Sequence[str] = (),
        *,
        on_run: Callable[[Path], None] = lambda _: None,
        read_only: bool = False,
        settings: Settings = DEFAULTS,
        bytes_sent: Callable[[], int | None] = lambda: None,
    ) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.settings = settings
        self.bytes_sent = bytes_sent
        self.theme = DARK.name if settings.theme == AUTO else settings.theme
        styles.prepare(self)
        self._styled_for = self.theme
        self._without_colors: LineFilter | None = None
        self._frames = Frames()
        self._garbage = Garbage(monotonic())
        self._typed = TypeAhead(self, super().on_event)
        if settings.low_bandwidth:
            self.animation_level = "none"
        self._target = target
        self._options = tuple(options)
        self._on_run = on_run
        self._start: Start | None = None
        self._watch: Timer | None = None
        self._announced: RunDirectory | None = None
        self._from_command_line = False
        self._leaving = False
        self._unseen: tuple[Following, Alerts] | None = None
        """What follows the run that is trained here while its dashboard is not open."""
        self.told_stalls: dict[Path, float] = {}
        """For the alerts of all screens."""
        self._looked_at_unseen = 0.0
        self._handing_over: ConfirmScreen | None = None
        """What is shown until another process trains the run."""
        self.read_only = read_only
        self.session: TrainingSession | None = None
        """The training of this process, also after it has ended."""
        self.failure: UserError | None = None
        """Why what the command line asked for could not be done."""
        self.abandoned = False
        """The user didn't want to wait for the run to be saved."""
        self.left_live: RunDirectory | None = None
        """The run of another process that the user has left to train on."""

    # ── screens ───────────────────────────────────────────────────────────────────────────────────────────────

    def get_default_screen(self) -> Screen[None]:
        return HomeScreen("" if self._target is None else f"opening {self._target} …")

    def first_frame_painted(self) -> None:
        """Begin what the command line asked for, now that there is something to look at."""
        self.set_interval(GARBAGE_INTERVAL, lambda: self._garbage.look(monotonic()))
        if self._target is None:
            self.call_later(styles.load, self, styles.ALL)
        else:
            self._from_command_line = True
            self._begin(Start.from_command_line(self._target, self._options))
            self.call_later(styles.load, self, styles.DASHBOARD)
            self.set_timer(OTHER_STYLES_AFTER, lambda: self.call_later(styles.load, self, styles.ALL))

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        if not self.no_color:
            return filters
        if self._without_colors is None:
            from tui.terminal.no_color import WithoutColors

            self._without_colors = WithoutColors()
        # In the place of Textual's own, whose greys are colours too.
        return [self._without_colors if isinstance(each, Monochrome) else each for each in filters]

    def get_driver_class(self) -> type[Driver]:
        from tui.terminal.driver import Driver as OwnDriver

        return OwnDriver

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.InputEvent):
            self._garbage.key_came(monotonic())
        if isinstance(event, Typed) and not event.is_forwarded:
            await self._typed.take(event)
        elif not self._typed.is_stray(event):
            await super().on_event(event)

    def refresh_css(self, animate: bool = True) -> None:
        # Textual announces the theme again when it starts, which takes a tenth of the time to the first frame.
        if self._styled_for != self.theme:
            self._styled_for = self.theme
            super().refresh_css(animate)

    def _display(self, screen: Screen[Any], renderable: "RenderableType | None") -> None:
        super()._display(screen, self._frames.thrifty(renderable))

    def watch_theme(self, theme: str) -> None:
        """Keep the user's choice for the next time."""
        if not self.is_running or theme == self.settings.theme:
            return
        try:
            save_setting("theme", theme)
        except (OSError, UserError) as error:
            self.notify(f"The theme could not be kept: {error}", severity="warning", markup=False)
            return
        self.settings = replace(self.settings, theme=theme)

    @property
    def _home(self) -> HomeScreen:
        home = self.screen_stack[0]
        assert isinstance(home, HomeScreen)
        return home

    def open_run(self, run: RunDirectory) -> None:
        """Show the dashboard of a run, whoever trains it or did."""
        from tui.screens.dashboard import DashboardScreen

        session = self.session if self._is_own(run) else None
        self.push_screen(DashboardScreen(run=run, session=session))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "detach":
            return not self.read_only and (self.training or self._watched_run() is not None)
        return action != "go_back" or len(self.screen_stack) > 1

    def action_go_back(self) -> None:
        """Go back to the screen from which this one was opened; a training goes on."""
        if len(self.screen_stack) > 1:
            self.pop_screen()

    def action_go_home(self) -> None:
        """Go back to the home screen; a training goes on."""
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def action_show_keys(self) -> None:
        """Show which keys work here."""
        if not isinstance(self.screen, KeysScreen | ConfirmScreen):
            self.push_screen(KeysScreen(keys_of(self.screen)))

    def run_moved(self, run: RunDirectory, to: RunDirectory) -> None:
        """Remember where a run is now, if it is the one that this process has trained."""
        own = self.session.run_directory if self.session is not None else None
        if self.session is not None and own is not None and own.path == run.path:
            self.session.run_directory = to

    def show_message(self, title: str, text: str) -> None:
        """Show one message until it is closed."""
        self.push_screen(ConfirmScreen(title, text))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for preset in [] if self.read_only else list_presets():
            yield SystemCommand(
                f"Train {inert_line(preset.name)}",
                inert_line(preset.about),
                lambda name=preset.name: self.start_run(name),
            )
        if not self.no_color:
            yield SystemCommand("Theme", "Change the colours; the choice is kept", self.action_change_theme)
        for command in commands_of(screen):
            # Run where the key is bound, as if it had been pressed there.
            yield SystemCommand(
                command.title,
                command.help,
                lambda command=command: self.call_later(self.run_action, command.action, command.node),
            )

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def training(self) -> bool:
        """Whether this process trains a run now."""
        return self.session is not None and self.session.is_alive()

    def start_run(self, target: str, overrides: dict[str, str] | None = None) -> None:
        """Start a new run from a preset or TOML file, and show its dashboard."""
        if self._may_start():
            self._home.show_status(f"starting {target} …")
            self._begin(Start.new(target, overrides or {}))

    def resume_run(self, run: RunDirectory, changes: Mapping[str, str] | None = None) -> None:
        """Go on with a run from its last checkpoint, with settings changed, and show its dashboard."""
        if self._may_start():
            self._home.show_status(f"resuming {run.name} …")
            self._begin(Start.resumed(run, changes or {}))

    def ask_and_resume(self, run: RunDirectory) -> None:
        """Ask with which settings to go on with a run, and do so."""
        from tui.screens.changes import ChangesScreen

        def answered(changes: dict[str, str] | None) -> None:
            if changes is not None:
                self.resume_run(run, changes)

        if self._may_start():
            self.push_screen(ChangesScreen(run), answered)

    def open_launch(self, preset: str | None = None) -> None:
        """Let the user choose preset, corpus and settings of a new run, and start it."""
        from tui.screens.launch import LaunchScreen

        def answered(chosen: tuple[str, dict[str, str]] | None) -> None:
            if chosen is not None:
                self.start_run(*chosen)

        if self._may_start():
            self.push_screen(LaunchScreen(preset), answered)

    def open_comparison(self, runs: Sequence[RunDirectory]) -> None:
        """Show several runs over each other."""
        from tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(runs))

    def request_stop(self) -> None:
        """Ask the training to save and end. May be called from any thread."""
        if self.session is not None:
            self.session.request_stop()

    def _may_start(self) -> bool:
        if self._start is not None:
            return False
        if self.read_only:
            self.show_message("read-only", "No training is started here: this program was started with --read-only.")
            return False
        if self.training:
            self.show_message(
                "one training at a time",
                f"{self._name_of_session()} is being trained in this window. Open it and stop it first, "
                "or start the other one in a second terminal.",
            )
            return False
        return True

    def _name_of_session(self) -> str:
        run = self.session.run_directory if self.session is not None else None
        return "A run" if run is None else inert_line(run.name)

    def _is_own(self, run: RunDirectory) -> bool:
        own = self.session.run_directory if self.session is not None and self.session.is_alive() else None
        return own is not None and own.path == run.path

    def _watched_run(self) -> RunDirectory | None:
        """The run on the screen, if another process trains it."""
        run = getattr(self.screen, "run_directory", None)
        return run if run is not None and not self._is_own(run) and run.is_live() else None

    def _begin(self, start: Start) -> None:
        self._start = start
        start.begin(lambda result: self.post_message(self.Loaded(result)))

    @on(Loaded)
    def take_result(self, message: Loaded) -> None:
        """Show what was asked for, or why that cannot be."""
        start, self._start = self._start, None
        self._home.show_status("")
        if isinstance(message.result, UserError):
            self._fail(message.result)
        elif isinstance(message.result, RunDirectory):
            self._from_command_line = False
            self.open_run(message.result)
        else:
            self._show_session(message.result, (start and start.name) or "a new run")

    def _show_session(self, session: "TrainingSession", name: str) -> None:
        from tui.screens.dashboard import DashboardScreen

        self.session = session
        self._announced = None
        session.start()
        self.action_go_home()  # from the dashboard of a run that is resumed
        self.push_screen(DashboardScreen(session=session, name=name))
        self._watch = self.set_interval(WATCH_INTERVAL, self._watch_session)

    def _watch_session(self) -> None:
        session = self.session
        assert session is not None
        alive = session.is_alive()
        if (run := session.run_directory) is not None and self._announced is None:
            self._announced = run
            self._garbage.keep(monotonic())
            self._from_command_line = False
            try:
                self._on_run(run.console_file)
            except OSError as error:
                reason = error.strerror or str(error)
                self.notify(
                    f"What is printed cannot be kept in {run.console_file.name}: {reason}. The training goes on.",
                    severity="warning",
                    markup=False,
                )
        self._watch_unseen(session)
        if self._handing_over is not None and (session.detach_failure or not alive):
            self._end_hand_over(session)
        if alive:
            return
        if self._watch is not None:
            self._watch.stop()
        if self._leaving:
            self.exit()
        elif session.error is not None and run is None:
            self.action_go_home()  # from the dashboard of a run that never came to be
            self._fail(session.error)

    def _watch_unseen(self, session: "TrainingSession") -> None:
        """Tell what happens to the run that is trained here while its dashboard, which tells it, is not open."""
        from tui.notifying import announce
        from tui.run.alerts import Alerts
        from tui.run.following import Following

        run = session.run_directory
        if run is None or any(getattr(screen, "session", None) is session for screen in self.screen_stack):
            self._unseen = None
            return
        if self._unseen is None:
            self._unseen = Following(run, session.offsets["events"]), Alerts(self.told_stalls)
            self._looked_at_unseen = 0.0
        if session.is_alive() and monotonic() - self._looked_at_unseen < UNSEEN_INTERVAL:
            return
        self._looked_at_unseen = monotonic()
        following, alerts = self._unseen
        _, events = following.poll(held=session.is_alive())
        for alert in alerts.take(following, events, time()):
            announce(self, alert)

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, UserError):
            error = UserError(f"the training could not begin: {type(error).__name__}: {inert_line(str(error))}")
        if self._from_command_line:
            self.failure = error
            self.exit(return_code=2)
        else:
            self.show_message("this did not work", str(error))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    async def action_quit(self) -> None:
        self.action_quit_or_ask()

    def action_copy_or_quit(self) -> None:
        """Copy what is selected; with nothing selected, quit."""
        if selection := getattr(self.focused, "selected_text", "") or self.screen.get_selected_text():
            self.copy_to_clipboard(selection)
            self.screen.clear_selection()
        else:
            self.action_quit_or_ask()

    def action_quit_or_ask(self) -> None:
        """Quit; while this process trains, ask first, and once it is asked to stop, leave without waiting."""
        if self._leaving:
            self.abandoned = True
            self.exit()
        elif self._handing_over is not None:
            self.exit()  # only the screen: the process waits for the other one
        elif not self.training:
            self.exit()
        elif not isinstance(self.screen, ConfirmScreen):
            self.push_screen(
                ConfirmScreen(
                    "quit?",
                    f"{self._name_of_session()} is being trained here. Detached, it goes on in a process of its own.",
                    (
                        Choice("stop", "s", "stop and save"),
                        Choice("detach", "d", "detach"),
                        Choice("stay", "escape", "stay"),
                    ),
                    applies=lambda: self.training,
                ),
                self._quit_answered,
            )

    def _quit_answered(self, answer: str | None) -> None:
        if answer not in {"stop", "detach"}:
            return
        if not self.training:
            self.exit()
            return
        if answer == "detach":
            self.action_detach()
            return
        self._leaving = True
        self.request_stop()
        self.push_screen(ConfirmScreen("saving …", "Ctrl+C leaves without waiting; the last checkpoint stays.", ()))

    def action_detach(self) -> None:
        """Leave, and let the training go on: this process's is taken over by one of its own, another's simply does."""
        if self.session is None or not self.session.is_alive():
            self.left_live = self._watched_run()
            self.exit()
        elif self._handing_over is None and not self._leaving:
            self.session.request_detach()
            self._handing_over = ConfirmScreen(
                "handing over …",
                "The shell is back when the new process has trained its first step. Ctrl+C leaves the screen at once.",
                (),
            )
            self.push_screen(self._handing_over)

    def _end_hand_over(self, session: "TrainingSession") -> None:
        screen, self._handing_over = self._handing_over, None
        if not session.is_alive() and session.error is None:  # handed over, or at its end before that
            self.exit()
            return
        while screen in self.screen_stack:
            self.pop_screen()
        if session.is_alive():
            self.show_message("not handed over", f"{session.detach_failure}\n\nThe training goes on here.")
