"""Going on with an ended run under other settings, from within the app."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.training import train
from tests.tui.panes import BareApp
from tui.app import MiniGPTApp
from tui.screens import changes
from tui.screens.changes import ChangesScreen, suggested_line, suggested_settings, typed_settings
from tui.screens.dashboard import DashboardScreen
from tui.screens.home import HomeScreen
from tui.widgets.line_input import LineInput


@pytest.fixture(autouse=True)
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about the presets' parameters."""
    monkeypatch.setattr(HomeScreen, "_count_parameters", lambda _: None)


class Noting(MiniGPTApp):
    """Notes with what it is to go on instead of doing it."""

    def __init__(self) -> None:
        super().__init__()
        self.resumed: list[tuple[str, Mapping[str, str] | None]] = []

    def resume_run(self, run: RunDirectory, changes: Mapping[str, str] | None = None) -> None:
        self.resumed.append((run.name, changes))


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await pilot.pause(0.03)


def said(app: MiniGPTApp) -> str:
    return str(app.screen.query_one("#changes-said", Static).content)


async def test_a_finished_run_is_made_longer(tmp_path: Path) -> None:
    """`r` did nothing on a finished run. The number is typed over the suggestion, and the run goes on with Enter."""
    run = recorded_run(tmp_path)
    app = Noting()
    async with app.run_test() as pilot:
        app.open_run(run)
        await pilot.pause()
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, ChangesScreen) and "✓" in said(app))
        assert app.screen.query(LineInput).first().value == "train.max_steps = 4000"
        assert said(app) == "✓ train.max_steps 2000 → 4000"
        await pilot.press(*"5000", "enter")
        await until(pilot, lambda: app.resumed)
        assert app.resumed == [(run.name, {"train.max_steps": "5000"})]
        assert isinstance(app.screen, DashboardScreen)


async def test_what_is_typed_is_checked_at_once(tmp_path: Path) -> None:
    """Guards the messages, all of them and without the file's name, and that nothing begins while there are any."""
    app = Noting()
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_run(recorded_run(tmp_path, ended="stopped", steps=900))
        await pilot.pause()
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChangesScreen) and "nothing is changed" in said(app))
        await pilot.press(*"500", "down", *"model.n_layer=9", "down", *"[b]=1", "enter")
        await until(pilot, lambda: said(app).count("✗") == 3)
        assert "step 750 already" in said(app) and "another model" in said(app) and "--[b]: unknown option" in said(app)
        assert all(widget.region.bottom <= 24 for widget in app.screen.query("#changes"))
        assert isinstance(app.screen, ChangesScreen) and not app.resumed
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, DashboardScreen) and not app.resumed
        await pilot.press("r")
        assert app.resumed == [("2026-11-20-quickstart-brave-otter", None)]


async def test_what_is_typed_behind_enter_is_not_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field was read when its Enter was looked at, a while after; and the check was begun anew by each letter."""
    answer = threading.Event()
    examined = changes._examined

    def slowly(run: RunDirectory, lines: Sequence[str]) -> tuple[dict[str, str] | None, str]:
        if "train.max_steps = 5000" in lines:
            answer.wait(20)
        return examined(run, lines)

    monkeypatch.setattr(changes, "_examined", slowly)
    taken: list[dict[str, str] | None] = []
    app = BareApp()
    async with app.run_test() as pilot:
        app.push_screen(ChangesScreen(recorded_run(tmp_path)), taken.append)
        await pilot.pause()
        await pilot.press(*"5000")
        screen = app.screen
        field = screen.query(LineInput).first()
        field.post_message(events.Key("enter", None))
        field.post_message(events.Key("7", "7"))
        await until(pilot, lambda: field.value.endswith("50007"))
        answer.set()
        await until(pilot, lambda: taken)
        assert taken == [{"train.max_steps": "5000"}]


async def test_settings_are_completed_with_what_they_are_now(tmp_path: Path) -> None:
    """One had to know their names, and what they are."""
    run = recorded_run(tmp_path)
    run.config_file.write_text('[run]\nname = "x"\n[train]\nmax_steps = 2000\nlearning_rate = 0.003\nseed = 1\n')
    app = BareApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(ChangesScreen(run))
        await pilot.pause()
        field = app.screen.query(LineInput)[1]
        assert field.placeholder == "such as train.learning_rate = 0.0005"
        await pilot.press("down", *"train.le")
        await until(pilot, lambda: field._suggestion == "train.learning_rate = 0.003")
        await pilot.press("right")
        assert field.value == "train.learning_rate = 0.003"


def test_only_settings_that_may_change_are_suggested(tmp_path: Path) -> None:
    """And only such as stand in one line; the file may hold anything."""
    run = recorded_run(tmp_path)
    run.config_file.write_text(
        "[model]\nn_layer = 4\n[train]\nseed = 3\nmin_lr = 1e-5\ncompile = true\nhuge = 0x" + "f" * 9000 + "\n"
        '[sample]\nprompt = "\\u001b[2J"\nevery = [1]\n'
    )
    assert suggested_settings(run) == ["train.min_lr = 1e-05", "train.compile = true"]
    run.config_file.write_text("train = 3\n")
    assert suggested_settings(run) == []


async def test_a_finished_run_does_not_go_on_as_it_is(tmp_path: Path) -> None:
    app = Noting()
    run = recorded_run(tmp_path)
    info = run.checkpoint().path / "checkpoint.json"
    info.write_text('{"elapsed": 200.0, "best": null, "steps_since_row": 0, "after_step_is_due": false}')
    async with app.run_test() as pilot:
        app.open_run(run)
        await pilot.pause()
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChangesScreen) and "✓" in said(app))
        await pilot.press("backspace", *"2000", "enter")
        await until(pilot, lambda: "✗" in said(app))
        assert "has finished already" in said(app) and not app.resumed


async def test_the_run_that_goes_on_says_what_is_changed(tiny_config: Config) -> None:
    """The whole way, with a real training: from the finished run's dashboard to its new end."""
    short = tiny_config.model_copy(update={"train": tiny_config.train.model_copy(update={"max_steps": 4})})
    run = train(short)
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        app.open_run(run)
        await pilot.pause()
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, ChangesScreen) and "✓" in said(app))
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.session is not None and app.session.outcome == "finished", 30)
        await until(pilot, lambda: any("max_steps 4 → 8" in toast.message for toast in app._notifications))
    assert run.checkpoint().step == 8 == run.config().train.max_steps


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("[train]\nmax_steps = 2000\n", "train.max_steps = 4000"),
        ("[train]\nmax_steps = 2000\nmax_epochs = 3\n", "train.max_epochs = 6"),
        ("[train]\nmax_steps = 0\nmax_minutes = 2.5\n", "train.max_minutes = 5"),
        ("[train]\nmax_steps = 9000\npatience = 3\n", "train.patience = 6"),
        ("[train]\nmax_steps = 9000\n", "train.max_steps = 9000"),
        ("[train]\nmax_steps = 0\nmax_minutes = 10\n", "train.max_minutes = 10"),
        ("train = 3\n", "train.max_steps = 0"),
        ("[train]\nmax_steps = 'x'\npatience = -1\nmax_minutes = true\n", "train.max_steps = 0"),
        ("[[[", "train.max_steps = 0"),
    ],
)
def test_the_line_that_is_suggested(tmp_path: Path, config: str, line: str) -> None:
    """What has ended the run, doubled; else its length as it is."""
    run = recorded_run(tmp_path)
    run.config_file.write_text(config)
    (run.checkpoint().path / "checkpoint.json").write_text('{"elapsed": 150.0, "evaluations_since_best": 3}')
    assert suggested_line(run) == line


def test_lines_are_read_as_in_a_file_or_as_on_the_command_line() -> None:
    lines = ["train.max_steps = 5000", "--train.min-lr 1e-5", "", "  sample.prompt='a = b' ", "run.about = "]
    assert typed_settings(lines[:4]) == {
        "train.max_steps": "5000",
        "train.min_lr": "1e-5",
        "sample.prompt": "a = b",
    }
    for line in (lines[4], "train.max_steps", "="):
        with pytest.raises(UserError, match=r"write it as train\.max_steps = 5000"):
            typed_settings([line])


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
def test_looks(snap_compare: Callable[..., bool], tmp_path: Path, size: tuple[int, int]) -> None:
    """Guards the window, with a message in it."""
    run = recorded_run(tmp_path, ended="stopped", steps=900)

    async def ask(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, MiniGPTApp)
        app.push_screen(ChangesScreen(run))
        await pilot.pause()
        await pilot.press(*"5000", "down", *"train.max_step = 1")
        # What is said of the half-typed line is a refusal too: wait for what is said of the whole.
        await until(pilot, lambda: all(worker.is_finished for worker in app.workers) and "✗" in said(app))
        await pilot.pause()

    async def hidden(pilot: Pilot[Any]) -> None:
        pilot.app.screen.query_one("#home").display = False
        await ask(pilot)

    assert snap_compare(MiniGPTApp(), terminal_size=size, run_before=hidden)
