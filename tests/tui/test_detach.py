"""`d` and `--read-only`: leaving a training to itself, and looking on without being able to disturb."""

import re
import threading
from pathlib import Path

import pytest
from textual.widgets import Static

from minigpt.config import Config
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from tests.recorded import recorded_run
from tests.training import train
from tests.tui.panes import until
from tui.app import MiniGPTApp
from tui.asking.answering import Answer, Transcript
from tui.asking.evaluating import Evaluating
from tui.asking.models import Models
from tui.screens.dialogs import ConfirmScreen, keys_of
from tui.screens.home import HomeScreen


class MadeUpSession(threading.Thread):
    """Stands for a training that is asked to be handed over: `fail` and `succeed` say what comes of it."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(daemon=True)
        self.run_directory = run
        self.error: BaseException | None = None
        self.outcome: str | None = None
        self.phase = "training"
        self.trouble = ""
        self.offsets = {"events": 0}
        self.detach_requests = 0
        self.detach_failure = ""
        self.stop_requested = False
        self.may_end = threading.Event()

    def request_detach(self) -> None:
        self.detach_requests += 1
        self.detach_failure = ""

    def request_stop(self) -> None:
        self.stop_requested = True

    def run(self) -> None:
        self.may_end.wait(30)
        self.outcome = "detached"


@pytest.fixture(autouse=True)
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about the presets' parameters, and torch takes seconds to import."""
    monkeypatch.setattr(HomeScreen, "_count_parameters", lambda _: None)


@pytest.fixture
def recorded(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path)


def shown(app: MiniGPTApp) -> str:
    return "\n".join(str(widget.content) for widget in app.screen.query(Static))


def offered(app: MiniGPTApp) -> set[str]:
    return {key for group in keys_of(app.screen) for keys, _ in group.keys for key in keys.split(", ")}


def training_app(recorded: RunDirectory) -> tuple[MiniGPTApp, MadeUpSession]:
    app, session = MiniGPTApp(), MadeUpSession(recorded)
    app.session = session  # type: ignore[assignment]
    session.start()
    return app, session


@pytest.mark.parametrize("keys", [["d"], ["q", "d"]])
async def test_it_leaves_once_another_process_trains(keys: list[str], recorded: RunDirectory) -> None:
    """By its key and by the question before quitting: the screen stays until the successor has trained a step."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        app._watch = app.set_interval(0.02, app._watch_session)
        assert "d" in offered(app)
        await pilot.press(*keys)
        assert isinstance(app.screen, ConfirmScreen) and app.screen._title == "handing over …"
        await pilot.press("d", "q", "escape")
        await pilot.pause(0.1)
        assert session.detach_requests == 1 and not session.stop_requested and not app._exit
        session.may_end.set()
        await until(pilot, lambda: app._exit)
        assert not app.abandoned and app.left_live is None


async def test_a_failed_one_says_why_and_can_be_tried_again(recorded: RunDirectory) -> None:
    """The training goes on here: whoever leaves now must be asked again."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        app._watch = app.set_interval(0.02, app._watch_session)
        await pilot.press("d")
        session.detach_failure = "its process ended with exit code 1"
        await until(pilot, lambda: "its process ended" in shown(app) and "goes on here" in shown(app))
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("q")
        assert isinstance(app.screen, ConfirmScreen) and app.screen._title == "quit?"
        await pilot.press("escape", "d")
        await pilot.pause(0.1)
        assert session.detach_requests == 2 and isinstance(app.screen, ConfirmScreen)
    session.may_end.set()


async def test_ctrl_c_does_not_wait_on_the_screen(recorded: RunDirectory) -> None:
    """A large model takes minutes to load: the screen can be left, and nothing is abandoned by that."""
    app, session = training_app(recorded)
    async with app.run_test() as pilot:
        await pilot.press("d", "ctrl+c")
        await until(pilot, lambda: app._exit)
        assert not app.abandoned and not session.stop_requested
    session.may_end.set()


async def test_from_the_run_of_another_process_it_just_leaves(recorded: RunDirectory) -> None:
    """Leaving a viewer ends nothing; with nothing going on the key is not offered."""
    app = MiniGPTApp(str(recorded.path))
    async with app.run_test() as pilot:
        await until(pilot, lambda: getattr(app.screen, "run_directory", None) is not None)
        assert "d" not in offered(app)
        with recorded.locked():
            assert "d" in offered(app)
            await pilot.press("d")
            await until(pilot, lambda: app._exit)
        assert app.left_live is not None and app.left_live.path == recorded.path


async def test_read_only_offers_nothing_that_changes_anything(recorded: RunDirectory) -> None:
    """Neither by keys nor by the palette nor by starting something."""
    with recorded.locked():
        app = MiniGPTApp(str(recorded.path), read_only=True)
        async with app.run_test(size=(120, 36)) as pilot:
            await until(pilot, lambda: "read-only" in shown(app) and "c" in offered(app))
            assert not offered(app) & {"p", "s", "g", "r", "x", "d"}
            assert {"c", "e", "q"} <= offered(app)
            await pilot.press("p", "s", "g", "r", "x", "d")
            assert not app._exit and not list(recorded.commands_dir.iterdir())
            titles = [command.title for command in app.get_system_commands(app.screen)]
            assert not [title for title in titles if re.match("Train|Detach", title)]
            app.action_go_home()
            assert "read-only" in shown(app)
            app.start_run("quickstart")
            await until(pilot, lambda: "--read-only" in shown(app))
            assert app.session is None


def test_read_only_answers_and_evaluates_without_writing(tiny_config: Config) -> None:
    """A transcript or a result in somebody else's run would be a change, and would fail where it cannot be written."""
    run = train(tiny_config)
    before = sorted(run.path.rglob("*"))
    answer = Answer(run, "salt", Sampling(max_new_tokens=3), Models(), Transcript(run, read_only=True))
    evaluation = Evaluating(run, Models(), which="last", read_only=True)
    for thread in (answer, evaluation):
        thread.start()
        thread.join()
    assert answer.state == "done" and answer.text
    assert evaluation.state == "done" and evaluation.result is not None and not evaluation.error
    assert sorted(run.path.rglob("*")) == before
