"""The app's frame and the way in: starting, refusing, asking before it quits, and what is said without a terminal."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.command import CommandList
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.errors import UserError
from minigpt.rundir import RunDirectory
from minigpt.session import TrainingSession
from tests.recorded import recorded_run
from tests.tui.panes import until
from tui.app import MiniGPTApp
from tui.screens.dialogs import ConfirmScreen, KeyGroup, KeysScreen, keys_of
from tui.screens.home import HomeScreen
from tui.start import _from_command_line, names_run

SIZES = [(80, 24), (120, 36)]


class MadeUpSession(threading.Thread):
    """Stands for a training: goes on until it is asked to stop, or fails at once."""

    def __init__(self, run: RunDirectory | None = None, error: BaseException | None = None) -> None:
        super().__init__(daemon=True)
        self.run_directory = run
        self.error = error
        self.outcome: str | None = None
        self.phase = "training"
        self.trouble = ""
        self.stop_requested = False
        self.offsets = {"events": 0}
        self.may_end = threading.Event()

    def request_stop(self) -> None:
        self.stop_requested = True

    def run(self) -> None:
        if self.error is None:
            self.may_end.wait(30)
            self.outcome = "stopped"


@pytest.fixture(autouse=True)
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about the presets' parameters, and torch takes seconds to import."""
    monkeypatch.setattr(HomeScreen, "_count_parameters", lambda _: None)


@pytest.fixture
def recorded(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path)


def shown(app: MiniGPTApp) -> str:
    return "\n".join(str(widget.content) for widget in app.screen.query(Static))


def training_app(recorded: RunDirectory) -> tuple[MiniGPTApp, MadeUpSession]:
    app, session = MiniGPTApp(), MadeUpSession(recorded)
    app.session = session  # type: ignore[assignment]
    session.start()
    return app, session


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quitting_is_immediate_without_a_training(key: str) -> None:
    """Guards against a question where nothing can be lost."""
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        await pilot.press(key)
        await until(pilot, lambda: app._exit)


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quitting_asks_while_this_process_trains(key: str, recorded: RunDirectory) -> None:
    """Guards a training against a slip of the finger, and that 'stop and save' waits for the saving."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        await pilot.press(key)
        assert isinstance(app.screen, ConfirmScreen) and recorded.name in shown(app)
        await pilot.press("enter")  # typed too early: the harmless answer has the focus
        assert isinstance(app.screen, HomeScreen) and not session.stop_requested
        await pilot.press(key, "escape")
        assert isinstance(app.screen, HomeScreen) and not session.stop_requested
        app._watch = app.set_interval(0.05, app._watch_session)
        await pilot.press(key, "s")
        await pilot.pause()
        assert session.stop_requested and not app._exit
        session.may_end.set()
        await until(pilot, lambda: app._exit)
        assert not app.abandoned


async def test_the_question_goes_with_the_training_that_it_is_about(recorded: RunDirectory) -> None:
    """A run that finished under it was still said to be trained, and could be detached."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        await pilot.press("q")
        assert isinstance(app.screen, ConfirmScreen)
        session.may_end.set()
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        assert not app._exit


async def test_a_second_ctrl_c_does_not_wait_for_the_saving(recorded: RunDirectory) -> None:
    """Guards the way out when a disk hangs."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        await pilot.press("ctrl+c", "s")
        await pilot.pause()
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app._exit)
        assert app.abandoned
    session.may_end.set()


async def test_one_training_at_a_time(recorded: RunDirectory) -> None:
    """Guards the threads and the memory of a training against a second one beside it."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        app.start_run("quickstart")
        await pilot.pause()
        assert "is being trained in this window" in shown(app)
        assert app.session is session  # type: ignore[comparison-overlap]
        await pilot.press("enter")
        assert isinstance(app.screen, HomeScreen)
    session.may_end.set()


async def test_what_cannot_start_from_the_home_screen_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an app that dies of a broken preset."""
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        app.start_run("no-such-preset")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen) and "neither a preset" in shown(app))
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


async def test_a_session_that_fails_before_its_run_exists_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a dashboard that waits for ever for a run that never comes."""
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        session = MadeUpSession(error=UserError("corpus.txt: is empty"))
        app.post_message(app.Loaded(session))  # type: ignore[arg-type]
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen) and "corpus.txt: is empty" in shown(app))
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("quickstrat", [], "did you mean quickstart?"),
        ("quickstart", ["--train.max-stepz", "3"], "did you mean train.max_steps?"),
        ("quickstart", ["--train.batch-size", "0"], "--train.batch-size 0: must be greater than 0"),
        ("missing.toml", [], "no such file"),
        (".", [], "holds no run"),
    ],
)
async def test_what_the_command_line_gets_wrong_ends_the_app_with_its_message(
    target: str, options: list[str], message: str
) -> None:
    """Guards 'one message, exit code 2, no traceback' where it is found out only after the first frame."""
    app = MiniGPTApp(target, options)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app._exit)
    assert message in str(app.failure)
    assert app.return_code == 2


async def test_a_run_on_the_command_line_opens_its_dashboard(recorded: RunDirectory) -> None:
    """Guards `minigpt-tui RUN`, and the way back home."""
    from tui.screens.dashboard import DashboardScreen

    app = MiniGPTApp(str(recorded.path))
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_help_lists_our_keys_of_the_place_and_opens_while_typing(recorded: RunDirectory) -> None:
    """Guards that every key has its help, innermost part first, without Textual's dozens for editing."""
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        groups = keys_of(app.screen)
        assert [group.title for group in groups] == ["Presets", "Home", "Everywhere"]
        assert ("q, ^q", "quit; asks first while training") in groups[-1].keys
        await pilot.press("question_mark")
        assert isinstance(app.screen, KeysScreen)
        await pilot.press("escape")
        app.open_run(recorded)
        await pilot.pause(0.5)
        await pilot.press("c", "f1")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        titles = [group.title for group in app.screen._groups]  # type: ignore[attr-defined]
        assert titles == ["Prompt", "Chat", "Dashboard", "Everywhere"][: len(titles)] or titles[0] == "Prompt"


async def test_the_command_palette_offers_our_commands() -> None:
    """Guards against commands of Textual's that bypass the question before quitting."""
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert titles[0] == "Train quickstart"
        assert {"Theme", "Keys", "Quit", "Start"} <= set(titles)


async def test_what_the_palette_offers_is_done_where_the_key_is_bound(
    recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything has a key and stands in the palette; chosen there, it must reach the same part of the screen."""
    app = MiniGPTApp()
    async with app.run_test(size=(120, 36)) as pilot:
        app.open_run(recorded)
        await until(pilot, lambda: bool(app.screen.query("#sample")))
        await until(pilot, lambda: app.screen.focused is app.screen.query_one("#charts"))
        commands = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        assert {"Chat", "Resume", "Older sample", "Detach"} & set(commands) == {"Chat", "Resume", "Older sample"}
        # By the name in the tabs too, and what the parts do that do not have the keys.
        assert {
            "Console",
            "Config",
            "Maximise",
            "Chat: several",
            "Zoom in",
        } <= set(commands)
        resumed: list[RunDirectory | None] = []
        monkeypatch.setattr(MiniGPTApp, "ask_and_resume", lambda _, run: resumed.append(run))
        commands["Resume"]()
        await until(pilot, lambda: bool(resumed))
        assert resumed[0] is not None and resumed[0].path == recorded.path


async def test_a_preset_starts_a_run_and_announces_its_console(
    tiny_toml: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the whole way from the command line to a dashboard over a real training, with an option on the way."""
    from tui.screens.dashboard import DashboardScreen

    announced: list[Path] = []
    app = MiniGPTApp(str(tiny_toml), ["--train.max-steps", "25"], on_run=announced.append)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
        session = app.session
        assert session is not None
        while session.is_alive():
            await asyncio.sleep(0.05)
        assert session.error is None and session.outcome == "finished"
        run = session.run_directory
        assert run is not None and run.checkpoint("last").step == 25
        await until(pilot, lambda: announced == [run.console_file])
        await pilot.press("q")
        await until(pilot, lambda: app._exit)


def test_a_run_is_told_from_a_configuration(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the order: a preset's name means the preset, even with a directory of that name about."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    (runs / "brave-otter").mkdir(parents=True)
    assert not any(names_run(target) for target in ("~nosuchuser/x", "x" * 300, "a\0b"))
    assert [names_run(target) for target in ("quickstart", "a.toml", "brave-otter", "nothing", str(tmp_path))] == [
        False,
        False,
        True,
        False,
        True,
    ]


async def test_a_full_disk_costs_the_console_not_the_screen(recorded: RunDirectory) -> None:
    """Guards against an OSError in a timer, which ended the app beside a training that went on."""

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    session = MadeUpSession(recorded)
    app = MiniGPTApp(on_run=full)
    app.session = session  # type: ignore[assignment]
    session.start()
    async with app.run_test() as pilot:
        app._watch_session()
        await pilot.pause()
        assert any("No space left" in toast.message for toast in app._notifications)
    session.may_end.set()


async def test_what_happens_to_the_run_is_told_without_its_dashboard(recorded: RunDirectory) -> None:
    """Alerts came from the dashboard alone: on the home screen a training ended, or went wrong, without a word."""
    from tui.screens.dashboard import DashboardScreen

    app, session = training_app(recorded)
    async with app.run_test(size=(120, 36)) as pilot:
        app._watch_session()
        assert app._unseen is not None
        with recorded.events_file.open("a", encoding="utf-8") as events:
            row = {"event": "notice", "kind": "spike", "step": 1990, "message": "it leapt", "time": 1.0, "attempt": 1}
            events.write(json.dumps(row) + "\n")
        await until(pilot, lambda: [app._watch_session(), *app._notifications][1:])
        assert [toast.message for toast in app._notifications] == ["it leapt"]
        app.push_screen(DashboardScreen(run=recorded, session=session))  # type: ignore[arg-type]
        await pilot.pause()
        app._watch_session()
        assert app._unseen is None, "that tells it now"
    session.may_end.set()


async def test_a_resumed_run_goes_by_its_name(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against `a new run` over one that is known."""
    from tui.screens.dashboard import DashboardScreen

    session = MadeUpSession()
    monkeypatch.setattr("tui.start._resumed_session", lambda *_: session)
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        app.resume_run(recorded)
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen) and recorded.name in shown(app))
    session.may_end.set()


def test_options_after_a_run_go_on_with_it_changed(recorded: RunDirectory) -> None:
    """They were refused: a run could be made longer only by editing its config.toml."""
    options = ["--train.max-steps=5000", "--train.log-interval", "5"]
    session = _from_command_line(str(recorded.path), options)
    assert isinstance(session, TrainingSession)
    assert session._resume is not None and session._resume.path == recorded.path
    assert session._changes == {"train.max_steps": "5000", "train.log_interval": "5"}
    assert isinstance(_from_command_line(str(recorded.path), []), RunDirectory)
    with pytest.raises(UserError, match="options look like"):
        _from_command_line(str(recorded.path), ["5000"])


# ── without a terminal ────────────────────────────────────────────────────────────────────────────────────────────


def minigpt_tui(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from tui.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a terminal to draw on"),
        (["."], "needs a terminal to show a run"),
        (["--train.max-steps", "3"], "the preset or TOML file comes first"),
        (["--readonly"], "unknown option --readonly; did you mean --read-only?"),
        (["quickstrat"], "did you mean quickstart?"),
        (["runs/nope"], "There is no run of that name either"),
    ],
)
def test_without_a_terminal_it_says_what_to_do(arguments: list[str], message: str) -> None:
    """Guards against escape codes in a file, and against a traceback."""
    done = minigpt_tui(*arguments)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("minigpt-tui: ")
    assert "\x1b" not in done.stdout + done.stderr


def test_without_a_terminal_a_configuration_trains_headless(tiny_toml: Path) -> None:
    """Guards `minigpt-tui quickstart > log` and CI jobs."""
    done = minigpt_tui(str(tiny_toml), "--train.max-steps", "10")
    assert done.returncode == 0, done.stderr
    assert "val_loss=" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    """Guards `minigpt-tui --help | head -1`, which ended in a traceback."""
    program = subprocess.Popen(
        [sys.executable, "-c", "from tui.main import main; main()", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 0
    program.stderr.close()


def test_help_and_version() -> None:
    """Guards that the help names every option."""
    done = minigpt_tui("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: minigpt-tui [FLAGS] [TARGET]")
    assert "--train.max-steps" in done.stdout
    assert minigpt_tui("--version").stdout.startswith("minigpt-tui ")


# ── looks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def hide_home(pilot: Pilot[None]) -> None:
    """Take presets and runs away, which are not the point of a picture and differ from place to place."""
    await pilot.pause()
    pilot.app.screen.query_one("#home").display = False
    await until(pilot, lambda: pilot.app.focused is None)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_looks_of_the_question(
    snap_compare: Callable[..., bool], recorded: RunDirectory, size: tuple[int, int]
) -> None:
    """Guards the dialog."""
    session = MadeUpSession(recorded)

    async def ask(pilot: Pilot[None]) -> None:
        await hide_home(pilot)
        app = pilot.app
        assert isinstance(app, MiniGPTApp)
        app.session = session  # type: ignore[assignment]
        session.start()
        await pilot.press("q")
        await until(pilot, lambda: app.focused is not None and app.focused.id == "stay")

    assert snap_compare(MiniGPTApp(), terminal_size=size, run_before=ask)
    session.may_end.set()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_looks_of_the_keys(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    """Guards the help's two columns."""

    async def ask(pilot: Pilot[None]) -> None:
        await hide_home(pilot)
        pilot.app.push_screen(
            KeysScreen(
                [
                    KeyGroup("Prompt", (("⏎", "let the model continue the prompt"), ("↑", "an earlier prompt"))),
                    KeyGroup("Everywhere", (("tab, shift+tab", "to the next part, to the one before"),)),
                ]
            )
        )
        await pilot.pause()

    assert snap_compare(MiniGPTApp(), terminal_size=size, run_before=ask)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("what", ["commands", "themes"])
def test_looks_of_the_palette(snap_compare: Callable[..., bool], what: str, size: tuple[int, int]) -> None:
    """Guards how it looks with our themes, and that it has room."""

    async def search(pilot: Pilot[None]) -> None:
        await hide_home(pilot)
        app = pilot.app
        if what == "themes":
            app.action_change_theme()
        else:
            await pilot.press("ctrl+p")
        await until(pilot, lambda: app.screen.query(CommandList))
        await pilot.press(*("dark" if what == "themes" else "train"))
        await until(pilot, lambda: app.screen.query_one(CommandList).option_count > (0 if what == "themes" else 5))

    assert snap_compare(MiniGPTApp(), terminal_size=size, run_before=search)
