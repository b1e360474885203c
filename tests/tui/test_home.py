"""The home screen: what it lists, what its keys do, and what its first frame costs."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual import events
from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from minigpt.commands import take_commands
from minigpt.files import write_atomically
from minigpt.journal import JournalWriter
from minigpt.presets import Preset
from minigpt.run_list import RunList
from minigpt.rundir import RunDirectory
from tests.recorded import BEGAN, recorded_run
from tests.tui.panes import settled, until
from tui.app import MiniGPTApp
from tui.charts.sparkline import sparkline
from tui.run_filter import HINT
from tui.screens.dashboard import DashboardScreen
from tui.screens.home import HomeScreen
from tui.screens.rename import RenameScreen
from tui.settings import Settings
from tui.widgets.key_line import KeyLine
from tui.widgets.row_table import RowTable, without_middle
from tui.widgets.run_table import FilterLine, RunTable

PRESETS = [
    Preset("quickstart", "The first run: a small GPT on the bundled play, three minutes on a laptop", Path("q.toml")),
    Preset("shakespeare-cpu", "Tiny Shakespeare on a CPU: the known small baseline", Path("s.toml")),
]
NINE = [
    *PRESETS,
    *(
        Preset(
            f"preset-{number}", f"{number} wide-vocabulary layers on a text of yours, for a night on a laptop", Path()
        )
        for number in range(7)
    ),
]


@pytest.fixture(autouse=True)
def made_up_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets that stay as they are, counted without torch, and a clock that stands still."""

    def counted(home: HomeScreen) -> None:
        home.post_message(home.ParametersCounted({"quickstart": "813k", "shakespeare-cpu": "804k"}))

    monkeypatch.setattr("tui.screens.home.list_presets", lambda: PRESETS)
    monkeypatch.setattr(HomeScreen, "_count_parameters", counted)
    monkeypatch.setattr("tui.screens.home.now", lambda: BEGAN)


def make_run(
    runs: Path, name: str, *, event: str = "", hours_ago: float = 1, loss: float | None = None
) -> RunDirectory:
    """A run with as much in it as a list shows."""
    run = RunDirectory(runs / name)
    run.checkpoints_dir.mkdir(parents=True)
    write_atomically(run.config_file, "")
    events = JournalWriter(run.events_file)
    events.append({"event": "started", "step": 0, "attempt": 1, "max_steps": 2000})
    metrics = JournalWriter(run.metrics_file)
    if loss is not None:
        metrics.append({"step": 1250, "attempt": 1, "val_loss": loss})
    if event:
        events.append({"event": event, "step": 1250, "attempt": 1})
    events.close()
    metrics.close()
    for path in (run.config_file, run.events_file, run.metrics_file):
        os.utime(path, (BEGAN - hours_ago * 3600,) * 2)
    return run


def some_runs(runs: Path) -> list[RunDirectory]:
    """Six runs with losses to draw, of two corpora."""
    made = []
    for number, (name, event) in enumerate(
        [
            ("2026-11-20-quickstart-brave-otter", "finished"),
            ("2026-11-20-quickstart-young-sparrow", "stopped"),
            ("2026-11-19-shakespeare-cpu-merry-hare", ""),
            ("2026-11-19-shakespeare-cpu-quiet-lynx", "finished"),
            ("2026-11-18-quickstart-keen-viper", "finished"),
            ("night-on-the-python-docs", "paused"),
        ]
    ):
        run = make_run(runs, name, event=event, hours_ago=number * 7 + 1, loss=1.5 + 0.1 * (number % 4))
        corpus = "tinyshakespeare" if "shakespeare" in name else "the-play"
        write_atomically(run.config_file, f'[run]\nabout = "for a test"\n[data]\ncorpus = "{corpus}"\n')
        metrics = JournalWriter(run.metrics_file)
        for step in range(1260, 2000 - 100 * number, 10):
            loss = (
                1.2 + 3 * math.exp(-(step - 1260) / (60 + 40 * number)) + (0.8 if step == 1500 and number == 1 else 0)
            )
            metrics.append({"step": step, "attempt": 1, "train_loss": None if (step, number) == (1300, 4) else loss})
        metrics.close()
        for path in (run.config_file, run.metrics_file):
            os.utime(path, (BEGAN - (number * 7 + 1) * 3600,) * 2)
        made.append(run)
    return made


def rows(app: MiniGPTApp, table: str) -> list[list[str]]:
    widget = app.screen.query_one(f"#{table}", RowTable)
    return [widget.texts(index) for index in range(widget.row_count)]


class Asked(MiniGPTApp):
    """Notes what it is asked for instead of doing it."""

    def __init__(self, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.asked: list[tuple[str, str]] = []

    def start_run(self, target: str, overrides: dict[str, str] | None = None) -> None:
        self.asked.append(("start", target))

    def open_run(self, run: RunDirectory) -> None:
        self.asked.append(("open", run.name))

    def resume_run(self, run: RunDirectory, changes: Mapping[str, str] | None = None) -> None:
        self.asked.append(("resume", run.name))

    def ask_and_resume(self, run: RunDirectory) -> None:
        self.asked.append(("ask", run.name))

    def open_launch(self, preset: str | None = None) -> None:
        self.asked.append(("launch", str(preset)))

    def open_comparison(self, runs: Sequence[RunDirectory]) -> None:
        self.asked.append(("compare", " ".join(run.name for run in runs)))


def home_of(app: MiniGPTApp) -> HomeScreen:
    home = app.screen_stack[0]
    assert isinstance(home, HomeScreen)
    return home


def shown(app: MiniGPTApp) -> list[str]:
    """The names of the runs in the table, in its order."""
    return [str(entry.cells[0]) for entry in app.screen_stack[0].query_one(RunTable)._entries]


async def in_the_runs(pilot: Pilot[Any], run: str = "") -> None:
    """Wait for the runs, and go to one of them."""
    await settle(pilot)
    table = pilot.app.screen.query_one(RunTable)
    table.focus()
    if run:
        table.move_cursor(shown(pilot.app).index(run))  # type: ignore[arg-type]
    await pilot.pause()


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until the threads that read presets and runs have reported."""
    screen = pilot.app.screen
    assert isinstance(screen, HomeScreen)
    for _ in range(200):
        await pilot.pause(0.01)
        counted = screen.query_one("#presets", RowTable)._entries[0].cells[-1]
        if screen._runs is not None and counted and not (screen._reading and screen._reading.is_alive()):
            break
    await pilot.pause()


async def test_enter_starts_quickstart_at_once(runs: Path) -> None:
    """Guards the first minute: one key from the first frame to a training."""
    app = Asked()
    async with app.run_test() as pilot:
        await pilot.press("enter")
        assert app.asked == [("start", "quickstart")]


async def test_arrows_lead_from_presets_to_runs_and_back(runs: Path) -> None:
    """Guards that the keyboard reaches everything without Tab, and that a training begins only below the runs."""
    make_run(runs, "newer", event="finished", hours_ago=1)
    make_run(runs, "older", event="stopped", hours_ago=5)
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await pilot.press("down", "r")
        await pilot.press("down", "down", "r", "enter")
        await pilot.press("up", "up", "enter")
        asked = [("open", "newer"), ("resume", "older"), ("start", "shakespeare-cpu"), ("open", "older")]
        assert app.asked == asked


async def test_a_click_chooses(runs: Path) -> None:
    """Guards the mouse."""
    make_run(runs, "only", event="finished")
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.click("#runs", offset=(3, 1))
        await pilot.click("#runs", offset=(3, 1))
        assert app.asked[:1] == [("open", "only")]


async def test_a_live_run_comes_first_and_cannot_be_resumed(runs: Path) -> None:
    """Guards the order, and against a second trainer on one run."""
    make_run(runs, "newer", event="finished", hours_ago=1)
    live = make_run(runs, "live", hours_ago=5, loss=1.75)
    app = Asked()
    with live.locked():
        async with app.run_test(size=(120, 36)) as pilot:
            await settle(pilot)
            row = ["live", "► training", "1,250", "2,000", "—", "1.7500", "1.7500", "", "5 h"]
            assert rows(app, "runs")[0][:-1] == row
            await pilot.press("r", "R")
            assert not app.asked
            await pilot.press("enter")
            assert app.asked == [("open", "live")]


async def test_with_a_run_the_runs_stand_first_from_the_first_frame(runs: Path) -> None:
    """A careless Enter began a training: it fell on a preset before the runs were read, or after they had ended."""
    make_run(runs, "ended", event="finished", hours_ago=1)
    live = make_run(runs, "live", hours_ago=5)
    app = Asked()
    with live.locked():
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("enter")
            await settle(pilot)
            presets, listed = app.screen.query_one("#presets", RowTable), app.screen.query_one("#runs", RowTable)
            assert ("start", "quickstart") not in app.asked
            assert listed.has_focus and listed.chosen == str(live.path)
            assert listed.region.bottom <= presets.region.y


async def test_the_first_run_goes_above_the_presets_and_the_last_one_leaves_again(runs: Path) -> None:
    """Also when another process made it, or the last one was deleted."""
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        home = home_of(app)
        presets, listed = home.query_one("#presets", RowTable), home.query_one("#runs", RowTable)
        assert presets.has_focus and not listed.display
        run = make_run(runs, "ended", event="finished")
        home._read_runs()
        await settle(pilot)
        assert listed.has_focus and listed.region.bottom <= presets.region.y
        run.path.rename(runs.parent / "elsewhere")
        home._read_runs()
        await settle(pilot)
        assert presets.has_focus and not listed.display
        await pilot.press("enter")
        assert app.asked == [("start", "quickstart")]


async def test_both_tables_have_room_in_a_small_terminal(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets took half of it; with many runs there still have to be some, also beside a filter."""
    monkeypatch.setattr("tui.screens.home.list_presets", lambda: NINE)
    for number in range(20):
        make_run(runs, f"run-{number}", event="finished", hours_ago=number)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        presets, listed = app.screen.query_one("#presets", RowTable), app.screen.query_one("#runs", RowTable)
        assert listed.size.height >= 11 and presets.size.height >= 5
        await pilot.press("slash", *"run", "enter", "tab")
        await until(pilot, lambda: app.screen.query_one("#about").display)
        await settled(pilot)
        assert presets.has_focus and presets.size.height >= 4 and listed.size.height >= 11
        assert presets.region.bottom <= app.screen.query_one("#about").region.y < 23


# ── coming back ───────────────────────────────────────────────────────────────────────────────────────────────────


class Above(Screen[None]):
    """Covers the home screen as the dashboard of a run does."""

    def __init__(self, run: RunDirectory | None = None) -> None:
        super().__init__()
        self.run_directory = run

    def compose(self) -> ComposeResult:
        yield PromptLine()


class PromptLine(Static, can_focus=True):
    """Has the focus, and leaves all keys to those further out."""


async def test_the_cursor_comes_back_to_the_run_that_was_left(runs: Path) -> None:
    """It stayed on the preset that the run was started from: the next Enter began another one."""
    make_run(runs, "newer", event="finished", hours_ago=1)
    older = make_run(runs, "older", event="stopped", hours_ago=5)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        table = app.screen.query_one(RunTable)
        for run in (older, None):
            app.screen.query_one("#presets").focus()
            await app.push_screen(Above(run or make_run(runs, "begun", hours_ago=0)))
            await pilot.press("escape")
            await until(pilot, lambda: table.has_focus)
            assert table.chosen == str(runs / ("older" if run else "begun"))


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_typed_behind_an_esc_too_many_does_nothing(runs: Path, at_once: bool) -> None:
    """Letters of a question to the model stopped, deleted and started runs.

    `at_once` they come from the terminal together, and are on their way through the screen before while it closes.
    """
    run = make_run(runs, "only", event="stopped")
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await app.push_screen(Above(run))
        await pilot.pause()
        typed = ["escape", "D", "r", "R", "n", "x", "f2", "delete", "enter"]
        if at_once:
            for key in typed:
                app.post_message(events.Key(key, key if len(key) == 1 else None))
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))
            await settled(pilot)
        else:
            await pilot.press(*typed, "q", "d")
        assert not app.asked and app.screen_stack == [home_of(app)] and app._exit is False
        assert not app._notifications, "and no words about it"
        # Once there is a pause, the keys do what they say.
        await until(pilot, lambda: app.screen.active_bindings["r"].enabled)
        await pilot.press("r")
        assert app.asked == [("resume", "only")]


async def test_one_key_behind_esc_still_quits(runs: Path) -> None:
    """Esc and q are how one leaves; only behind other letters is q one of a word."""
    make_run(runs, "only", event="stopped")
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await app.push_screen(Above())
        await pilot.press("escape", "q")
        assert app._exit


async def test_a_window_over_the_list_leaves_the_keys_alone(runs: Path) -> None:
    """It is closed on purpose: the next key is meant for the list."""
    make_run(runs, "only", event="stopped")
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        await pilot.press("D", "escape", "r")
        assert app.asked == [("resume", "only")]


# ── keys that do nothing here ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_that_does_nothing_says_why(runs: Path) -> None:
    """Nothing happened, and nothing told that the cursor was in the other table."""
    live = make_run(runs, "live", hours_ago=0)
    make_run(runs, "ended", event="finished")
    app = Asked()
    with live.locked():
        async with app.run_test(size=(80, 24)) as pilot:
            await in_the_runs(pilot)

            async def said(*keys: str) -> list[str]:
                app.clear_notifications()
                await pilot.press(*keys)
                return [note.message for note in app._notifications]

            assert await said("r") == ["live is being trained already: Enter opens it."]
            assert await said("down", "x") == ["ended is not being trained."]
            await pilot.press("tab")
            for key in ("r", "R", "x", "f2", "D", "delete", "v"):
                assert await said(key) == ["Choose a run first: Tab goes to the runs."]
            assert isinstance(app.screen, HomeScreen) and not app.asked


async def test_help_names_the_keys_of_both_tables(runs: Path) -> None:
    """Of the table without the focus nothing was said, nor of what can be done with a run."""
    make_run(runs, "only", event="finished")
    app = Asked()
    async with app.run_test(size=(80, 60)) as pilot:
        await in_the_runs(pilot)
        for focused, other in (("Runs", "Presets"), ("Presets", "Runs")):
            await pilot.press("question_mark")
            await settled(pilot)
            lines = [strip.text for strip in app.screen._compositor.render_strips()]
            titles = [word for line in lines if (word := line.strip(" │┃║▏▕")).startswith(("Runs", "Presets", "Home"))]
            assert titles == [focused, "Home", f"{other} (Tab goes there)"]
            text = "\n".join(lines)
            for meaning in (
                "open the run",
                "start a training with the preset's settings",
                "mark the run",
                "stop the run",
                "give the run another name",
                "choose the settings of a new run",
            ):
                assert meaning in text
            await pilot.press("escape", "tab")


@pytest.mark.parametrize(("event", "key", "asked"), [("finished", "r", "ask"), ("stopped", "R", "ask")])
async def test_a_run_is_gone_on_with_under_other_settings(runs: Path, event: str, key: str, asked: str) -> None:
    """A finished run has nothing left to train: `r` asks how much longer."""
    make_run(runs, "only", event=event)
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press(key)
        assert app.asked == [(asked, "only")]


async def test_read_only_offers_no_presets(runs: Path) -> None:
    make_run(runs, "only", event="finished")
    app = Asked(read_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert not app.screen.query_one("#presets").display
        await pilot.press("r", "R", "enter")
        assert app.asked == [("open", "only")]


async def test_hostile_names_are_shown_as_they_are(runs: Path) -> None:
    """Guards against markup and escape codes in the name of a directory."""
    make_run(runs, "[bold]x[@click=q]\x1b[2J", event="finished")
    app = Asked()
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(pilot)
        assert rows(app, "runs")[0][0] == "[bold]x[@click=q]␛[2J"


async def test_new_runs_appear_and_the_cursor_stays(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a list that jumps away under the cursor when another run begins."""
    make_run(runs, "first", event="finished", hours_ago=3)
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        make_run(runs, "second", event="finished", hours_ago=1)
        screen = app.screen
        assert isinstance(screen, HomeScreen)
        screen._read_runs()
        await settle(pilot)
        assert [row[0] for row in rows(app, "runs")] == ["second", "first"]
        await pilot.press("enter")
        assert app.asked == [("open", "first")]


async def test_no_runs_says_where_they_will_be(runs: Path) -> None:
    """Guards the empty state."""
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        assert "No runs yet" in str(app.screen.query_one("#no-runs", Static).content)
        await pilot.press("down", "down", "enter")
        assert app.asked == [("start", "shakespeare-cpu")]


async def test_a_covered_list_is_not_read(runs: Path) -> None:
    """Under a dashboard it was read every two seconds, and each change of it repainted the whole dashboard."""
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        home = app.screen
        assert isinstance(home, HomeScreen)
        await app.push_screen(Screen())
        home._reading = None
        home._read_runs()
        assert home._reading is None


async def test_the_end_of_another_processs_run_is_told_on_the_list(runs: Path) -> None:
    """It was told only while its dashboard was open; and what that, or the app of its own run, tells is not told again."""

    def end(run: RunDirectory, event: str) -> None:
        journal = JournalWriter(run.events_file)
        journal.append({"event": event, "step": 1300, "attempt": 1, "message": "a [b]message"})
        journal.close()

    first, second, own = (make_run(runs, name, loss=1.5) for name in ("first", "second", "own"))
    app = MiniGPTApp()
    rings: list[str] = []
    app.bell = lambda: rings.append("ding")  # type: ignore[method-assign]
    with ExitStack() as held:
        locks = {run.path: held.enter_context(ExitStack()) for run in (first, second, own)}
        for run in (first, second, own):
            locks[run.path].enter_context(run.locked())
        async with app.run_test(size=(120, 36)) as pilot:
            await settle(pilot)
            home = home_of(app)

            async def told() -> list[str]:
                home._read_runs()
                await settle(pilot)
                return [f"{toast.title.split(' · step')[0]}: {toast.message}" for toast in app._notifications]

            app.session = SimpleNamespace(is_alive=lambda: True, run_directory=own, error=None)  # type: ignore[assignment]
            assert await told() == []
            for run in (first, own):
                end(run, "failed")
                locks[run.path].close()
            assert await told() == ["first · failed: a [b]message"] and rings == ["ding"]
            app.session = None
            app.open_run(RunDirectory(second.path))
            await until(pilot, lambda: isinstance(app.screen, DashboardScreen) and app.screen._following)
            end(second, "stopped")
            await until(pilot, lambda: len(app._notifications) == 2)
            locks[second.path].close()
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is home)
            assert (await told())[1:] == [
                "second · stopped: It has come to step 1,300. Best validation loss 1.5000 at step 1,250."
            ]
            assert len(await told()) == 2


async def test_a_hang_is_told_once_whatever_screens_come_and_go(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list told it, the dashboard, and the list again. And an end soon after the dashboard was left nobody told."""
    run = recorded_run(runs, ended="", steps=1800)
    clock = count(BEGAN, 10.0)
    told: list[str] = []
    for screen in ("home.now", "dashboard.time"):
        monkeypatch.setattr(f"tui.screens.{screen}", lambda: next(clock))
    for place in ("notifying", "screens.dashboard"):
        monkeypatch.setattr(f"tui.{place}.announce", lambda _, alert: told.append(alert.kind))
    app = MiniGPTApp()
    with ExitStack() as held:
        held.enter_context(run.locked())
        async with app.run_test(size=(120, 36)) as pilot:
            await settle(pilot)
            home = home_of(app)

            async def look(times: int) -> None:
                for _ in range(times):
                    home._read_runs()
                    await until(pilot, lambda: home._reading is not None and not home._reading.is_alive())
                await settle(pilot)

            await look(12)
            assert told == ["stall"]
            app.open_run(run)
            await until(pilot, lambda: isinstance(app.screen, DashboardScreen) and app.screen._following)
            dashboard = app.screen
            assert isinstance(dashboard, DashboardScreen)
            for _ in range(12):
                await dashboard._look()
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is home and not home._just_left)
            await until(pilot, lambda: home._reading is not None and not home._reading.is_alive())
            journal = JournalWriter(run.events_file)
            journal.append({"event": "finished", "step": 1800, "attempt": 2})
            journal.close()
            held.close()
            await look(2)
            assert told == ["stall", "finished"]


async def test_what_a_thread_could_not_do_is_said(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a list that stays empty without a word."""

    def broken(*_: object) -> None:
        raise RuntimeError("no such [b]thing\nat all")

    monkeypatch.setattr(RunList, "read", broken)
    app = Asked()
    async with app.run_test() as pilot:
        for _ in range(50):
            await pilot.pause(0.02)
        status = str(app.screen.query_one("#home-status", Static).content)
        assert status == "the runs cannot be read: RuntimeError: no such [b]thing⏎at all"


# ── filter, order, marks ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_filter_leaves_the_runs_that_have_all_its_words(runs: Path) -> None:
    """In name, state, corpus or purpose; it stays until it is taken away, also while runs are read again."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"crash", "space", *"TINY")
        assert shown(app) == ["2026-11-19-shakespeare-cpu-merry-hare"]
        home_of(app)._read_runs()
        await settle(pilot)
        await pilot.press("enter", "enter")
        assert shown(app) == ["2026-11-19-shakespeare-cpu-merry-hare"]
        assert app.asked == [("open", "2026-11-19-shakespeare-cpu-merry-hare")]
        await pilot.press("slash", *"xyz")
        await pilot.pause()
        table = app.screen.query_one(RunTable)
        assert not table.display and "No run has all of these words" in str(app.screen.query_one("#no-runs").render())
        await pilot.press("enter")
        assert not table.has_focus, "there is nothing to go to"
        await pilot.press("escape")
        await pilot.pause()
        assert table.has_focus and len(shown(app)) == 6
        assert not app.screen.query_one("#filter").display


async def test_letters_of_a_filter_are_no_commands(runs: Path) -> None:
    """An x or D in a word would have stopped or deleted a run."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        await pilot.press("slash", *"xDrRnvsq=?")
        assert not app.asked and len(app.screen_stack) == 1
        assert app.screen.query_one(FilterLine).value == "xDrRnvsq=?"


async def test_escape_shows_all_runs_again_also_from_the_list(runs: Path) -> None:
    """Behind Enter only `/` and then Esc led back, which nothing said."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        every = shown(app)
        await pilot.press("slash", *"crashed", "enter")
        assert 0 < len(shown(app)) < len(every)
        await until(pilot, lambda: "esc see all" in str(app.screen.query_one(KeyLine).content))
        await pilot.press("escape")
        assert shown(app) == every
        assert not app.screen.check_action("show_all", ())


async def test_the_order_is_that_of_a_column(runs: Path) -> None:
    """Keys go from column to column, and turn it round; what has no value there comes last either way."""
    some_runs(runs)
    make_run(runs, "empty", event="finished", hours_ago=100)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        table = app.screen.query_one(RunTable)
        newest = shown(app)
        await pilot.press("s")
        assert shown(app) == sorted(newest)
        await pilot.press("s", "s", "s")
        best = shown(app)
        assert table.labels[6] == "best val ▲" and best[-1] == "empty"
        assert best[0] in {"2026-11-20-quickstart-brave-otter", "2026-11-18-quickstart-keen-viper"}
        await pilot.press("S")
        assert table.labels[6] == "best val ▼" and shown(app)[0] == "2026-11-19-shakespeare-cpu-quiet-lynx"
        assert shown(app)[-1] == "empty"
        await pilot.press("s")
        assert table.labels[8] == "age ▲" and shown(app) == newest
        await pilot.press("S")
        assert shown(app) == newest[::-1]
        await pilot.press("s")
        assert table.labels[8] == "age" and shown(app) == newest, "in the end as in the beginning"


async def test_marked_runs_are_compared(runs: Path) -> None:
    """Those too that a filter hides; a single one with the one under the cursor."""
    names = [run.name for run in some_runs(runs)]
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        await pilot.press("v")
        assert not app.asked
        await pilot.press("space")
        assert [entry.key for entry in app.screen.query_one(RunTable)._entries if entry.mark] == [str(runs / names[0])]
        await pilot.press("v")
        assert app.asked.pop() == ("compare", f"{names[0]} {names[1]}")
        await pilot.press("slash", *"night", "enter", "space", "equals_sign")
        assert app.asked.pop() == ("compare", f"{names[0]} {names[5]}")
        await pilot.press("space", "v")
        assert app.asked.pop() == ("compare", f"{names[0]} {names[5]}")


async def test_a_mark_cuts_no_name_and_stays_over_a_rename(runs: Path) -> None:
    """A marked name lost two characters more, and with a new name the mark was gone."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        table = app.screen.query_one(RunTable)
        cut = table.texts(0)[0]
        assert "…" in cut
        await pilot.press("space", "end", "space")
        await settled(pilot)
        assert table.texts(0)[0] == cut
        assert table.render_line(1).text.startswith(f"*{cut} ") and table.render_line(2).text.startswith(" ")
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: table.render_line(1).text.startswith(" * 2026-11-20-quickstart-brave-otter "))
        await pilot.press("f2", *"-2", "enter")
        await until(pilot, lambda: "night-on-the-python-docs-2" in shown(app))
        assert [summary.run.name for summary in table.marked_runs][1] == "night-on-the-python-docs-2"
        assert table.chosen == str(runs / "night-on-the-python-docs-2")


async def test_the_key_for_the_help_is_named_at_every_width(runs: Path) -> None:
    """At 80 columns the last line had no room for it; and in the filter line ? is a character."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        keys = app.screen.query_one(KeyLine)
        for width in (24, 40, 60, 80, 100):
            await pilot.resize_terminal(width, 24)
            await settled(pilot)
            assert str(keys.content).endswith("? keys  q quit") and len(str(keys.content)) <= width - 2, width
        await pilot.press("slash")
        await settled(pilot)
        assert "f1 keys" in str(keys.content) and "?" not in str(keys.content)


async def test_the_filter_says_how_many_runs_match(runs: Path) -> None:
    """It was an unnamed line, and what can be typed there was cut off."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        await pilot.press("slash")
        await settled(pilot)
        assert HINT in app.screen._compositor.render_strips()[app.screen.query_one("#filter").region.y].text
        await pilot.press(*"tiny")
        await settled(pilot)
        line = app.screen.query_one("#filter").region.y
        assert re.search(r"filter: *tiny +2 of 6 match", app.screen._compositor.render_strips()[line].text)


async def test_runs_are_filtered_by_their_settings(runs: Path) -> None:
    """And an unknown or half-typed comparison is said beside the line."""
    made = some_runs(runs)
    for layers, run in enumerate(made):
        run.config_file.write_text(f"[model]\nn_layer = {layers}\n")
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot)
        said = app.screen.query_one("#matches", Static)
        await pilot.press("slash", *"n_layer>=5")
        assert shown(app) == [made[5].name]
        await pilot.press("space", *"n_layr>5")
        await until(pilot, lambda: "✗ no run has n_layr" in str(said.content))
        await settled(pilot)
        line = app.screen._compositor.render_strips()[app.screen.query_one("#filter").region.y].text
        assert "n_layer>=5 n_layr>5" in line and "no run has n_layr" in line
        await pilot.press(*["backspace"] * 2)
        assert "n_layr needs" not in str(said.content) and shown(app) == []


async def test_a_filter_by_figures_follows_them(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table stayed away when a run in training came to what was asked for: its state was the same as before."""
    monkeypatch.setattr("tui.screens.home.REFRESH_INTERVAL", 0.1)
    live = make_run(runs, "live", loss=1.75)
    app = Asked()
    with live.locked():
        async with app.run_test(size=(80, 24)) as pilot:
            await in_the_runs(pilot)
            table = app.screen.query_one(RunTable)
            await pilot.press("slash", *"step>1300")
            assert not table.display
            journal = JournalWriter(live.metrics_file)
            journal.append({"step": 1400, "attempt": 1, "train_loss": 1.7})
            journal.close()
            await until(pilot, lambda: table.display and shown(app) == ["live"])


@pytest.mark.parametrize("has_directory", [True, False])
async def test_behind_what_the_command_line_asked_for_the_list_is_read_when_it_is_seen(
    runs: Path, has_directory: bool
) -> None:
    """A dashboard that was left before its training had a directory left an empty home screen behind."""
    listed = make_run(runs, "listed", event="finished")
    app = MiniGPTApp(str(listed.path))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
        home = app.screen_stack[0]
        assert isinstance(home, HomeScreen) and home._runs is None
        if not has_directory:
            app.screen.run_directory = None  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is home and home._runs)
        assert shown(app) == ["listed"]


async def test_a_preset_is_started_or_set_up_first(runs: Path) -> None:
    """Enter begins at once, another key opens the form."""
    app = Asked()
    async with app.run_test() as pilot:
        await pilot.press("down", "n")
        assert app.asked == [("launch", "shakespeare-cpu")]


async def test_the_form_opens_from_the_list_of_runs_too(runs: Path) -> None:
    """Once there was a run, one came to its row at first, where the key did nothing."""
    make_run(runs, "ended", event="finished")
    app = Asked()
    async with app.run_test() as pilot:
        await in_the_runs(pilot)
        await pilot.press("n")
        assert app.asked == [("launch", "quickstart")]


async def test_a_run_that_was_trained_here_and_renamed_is_named_rightly_at_the_end(runs: Path) -> None:
    """The shell was told a directory that was no longer there."""
    trained = make_run(runs, "ended", event="finished")
    app = Asked()
    app.session = SimpleNamespace(run_directory=trained, is_alive=lambda: False)  # type: ignore[assignment]
    async with app.run_test() as pilot:
        await in_the_runs(pilot)
        await pilot.press("f2", *["backspace"] * 5, *"tide", "enter")
        await until(pilot, lambda: app.session.run_directory.name == "tide")  # type: ignore[union-attr]


# ── names, and the end of a run ───────────────────────────────────────────────────────────────────────────────────


async def test_a_run_gets_another_name(runs: Path) -> None:
    """And what cannot be one is said while it is typed."""
    some_runs(runs)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot, "night-on-the-python-docs")
        await pilot.press("f2", *"/x", "enter")
        assert isinstance(app.screen, RenameScreen)
        said = app.screen.query_one("#rename-said", Static)
        assert "is no name for a run" in str(said.content)
        await pilot.press("backspace", "backspace", *"-2", "enter")
        await until(pilot, lambda: "night-on-the-python-docs-2" in shown(app))
        assert len(shown(app)) == 6 and (runs / "night-on-the-python-docs-2").is_dir()


async def test_a_run_is_deleted_after_a_question(runs: Path) -> None:
    """Which says what is lost, and of which Enter takes the harmless answer."""
    run = some_runs(runs)[1]
    (run.checkpoints_dir / "step-00000500").mkdir()
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot, run.name)
        await pilot.press("D")
        question = str(app.screen.query_one("#dialog-text Static", Static).content)
        assert run.name in question and "1,890 steps" in question and "1 checkpoint," in question and "KiB" in question
        await pilot.press("enter")
        assert run.path.is_dir()
        await pilot.press("delete", "d")
        await until(pilot, lambda: run.name not in shown(app))
        assert len(shown(app)) == 5 and not run.path.exists()


async def test_what_cannot_be_done_is_said(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run was deleted in another window meanwhile."""
    run = some_runs(runs)[1]
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await in_the_runs(pilot, run.name)
        await pilot.press("delete")
        run.path.rename(runs / "elsewhere")
        await pilot.press("d")
        await until(pilot, lambda: app.screen.query("#dialog-text Static"))
        assert "holds no run" in str(app.screen.query_one("#dialog-text Static", Static).content)


async def test_a_live_run_is_neither_renamed_nor_deleted_but_stopped(runs: Path) -> None:
    """Its trainer writes on under the old name; what it gets instead is the command to stop."""
    live = make_run(runs, "live", hours_ago=0, loss=1.75)
    live.commands_dir.mkdir()
    app = Asked()
    with live.locked():
        async with app.run_test(size=(80, 24)) as pilot:
            await in_the_runs(pilot)
            await pilot.press("f2", "D", "delete")
            assert isinstance(app.screen, HomeScreen)
            assert [note.message for note in app._notifications][-1].endswith("stop it first.")
            await pilot.press("x")
            await pilot.press("escape")
            assert take_commands(live.commands_dir) == []
            await pilot.press("x", "s")
            assert [command.name for command in take_commands(live.commands_dir)] == ["stop"]


async def test_read_only_changes_nothing(runs: Path) -> None:
    """Runs are looked at and compared, and that is all."""
    live = make_run(runs, "live", hours_ago=0)
    make_run(runs, "ended", event="finished")
    app = Asked(read_only=True)
    with live.locked():
        before = sorted(runs.rglob("*"))
        async with app.run_test(size=(80, 24)) as pilot:
            await in_the_runs(pilot, "ended")
            await pilot.press("f2", "D", "delete", "n", "r", "R", "up", "x")
            assert isinstance(app.screen, HomeScreen) and not app.asked
            await pilot.press("space", "space", "v")
            assert app.asked == [("compare", "live ended")]
        assert sorted(runs.rglob("*")) == before


# ── how it looks ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_curve_in_one_line() -> None:
    """From the lowest to the highest value, also of values that a float can hardly hold; gaps are marked."""
    assert sparkline((3.0, 2.0, 1.0, 1.0)) == "█▅▁▁"
    assert sparkline((3.0, math.nan, math.inf, 1.0), ascii=True) == "#!!_"
    assert sparkline(()) == "" and sparkline((2.5,)) == "▁" and sparkline((math.nan,)) == "×"
    assert sparkline((1.7e308, -1.7e308, 0.0)) == "█▁▅"


async def test_ascii_only(runs: Path) -> None:
    """For terminals without block characters and signs."""
    some_runs(runs)
    app = Asked()
    app.settings = Settings(ascii=True)
    async with app.run_test(size=(120, 36)) as pilot:
        await in_the_runs(pilot)
        await pilot.press("s", "s", "space")
        table = app.screen.query_one(RunTable)
        shown_text = "".join("".join(table.texts(row)) for row in range(table.row_count))
        assert (shown_text.replace("…", "") + "".join(table.labels)).isascii(), "but for names that are too long"


def test_cut_names() -> None:
    assert without_middle("2026-11-20-quickstart-brave-otter", 21) == "2026-11-20…rave-otter"
    assert without_middle("short", 8) == "short"


def test_the_first_frame_needs_neither_torch_nor_pydantic_nor_tyro(runs: Path) -> None:
    """Guards the start: each of them takes longer to import than the rest of the program."""
    program = """
import asyncio, sys
from tui.app import MiniGPTApp

async def main():
    app = MiniGPTApp()
    seen = []
    app.first_frame_painted = lambda: seen.extend(sorted({"torch", "numpy", "pydantic", "tyro"} & set(sys.modules)))
    async with app.run_test() as pilot:
        await pilot.pause()
        print("loaded:", *seen)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "loaded:\n"


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize(
    "keys", ["slash 2 0 2 6 enter s s s s space", "delete", "f2 slash"], ids=["filtered", "deletion", "name"]
)
def test_looks_of_runs(
    snap_compare: Callable[..., bool],
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    keys: str,
) -> None:
    """Guards the table filtered and sorted, and the questions about a run."""
    monkeypatch.setattr("minigpt.run_list.size_on_disk", lambda run: 1_234_567 * len(run.name))
    some_runs(runs)

    async def prepared(pilot: Pilot[Any]) -> None:
        await in_the_runs(pilot)
        await pilot.press(*keys.split())
        await settled(pilot)

    assert snap_compare(Asked(), terminal_size=size, run_before=prepared)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: "x".join(map(str, size)))
def test_looks(
    snap_compare: Callable[..., bool], runs: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Guards the layout: nothing clipped at 80 columns."""
    monkeypatch.setattr("minigpt.run_list.size_on_disk", lambda run: 1_234_567 * len(run.name))
    make_run(runs, "2026-11-20-quickstart-brave-otter", event="finished", hours_ago=2, loss=1.5012)
    make_run(runs, "2026-11-19-quickstart-young-sparrow", event="stopped", hours_ago=25, loss=1.8031)
    make_run(runs, "2026-11-19-shakespeare-cpu-merry-hare", hours_ago=26)
    live = make_run(runs, "2026-11-20-shakespeare-cpu-quiet-lynx", hours_ago=0, loss=2.2)
    with live.locked():
        assert snap_compare(Asked(), terminal_size=size, run_before=settle)


async def test_with_many_presets_the_runs_stay_in_view(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each preset wrapped into two lines at 80 columns, and nine of them left no room for a run."""
    monkeypatch.setattr("tui.screens.home.list_presets", lambda: NINE)
    for number in range(5):
        make_run(runs, f"run-{number}", event="finished", hours_ago=number)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        presets, listed = app.screen.query_one("#presets", RowTable), app.screen.query_one("#runs", RowTable)
        await pilot.press("tab", "home")
        await pilot.pause()
        assert presets.max_scroll_y == 0 and presets.is_cut
        assert listed.size.height == 6
        about = app.screen.query_one("#about", Static)
        await pilot.press(*["down"] * 4)
        await pilot.pause()
        assert str(about.content) == NINE[4].about and about.is_on_screen, "what its row has no room for"
        await pilot.resize_terminal(120, 36)
        await pilot.pause()
        assert not presets.is_cut and not about.display


async def test_a_run_limited_by_time_has_no_number_of_steps(runs: Path) -> None:
    """It was one of 0 steps."""
    run = make_run(runs, "timed", event="finished")
    events = JournalWriter(run.events_file)
    events.append({"event": "started", "step": 1250, "attempt": 2, "max_steps": 0, "max_minutes": 5})
    events.close()
    app = Asked()
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(pilot)
        assert rows(app, "runs")[0][3] == "—"


async def test_the_step_of_a_stopped_run_is_that_of_its_last_checkpoint(runs: Path) -> None:
    """Stopped between two rows it was at 4,381 on the dashboard and at 4,380 here."""
    run = make_run(runs, "only", loss=1.75)
    events = JournalWriter(run.events_file)
    for event, attempt, step in (("saved", 1, 1253), ("stopped", 1, 1253)):
        events.append({"event": event, "step": step, "attempt": attempt})
    app = Asked()
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(pilot)
        assert rows(app, "runs")[0][2] == "1,253"
        # The rows of an attempt that has none yet are those of the one before.
        events.append({"event": "started", "step": 1900, "attempt": 2})
        events.close()
        home_of(app)._read_runs()
        await settle(pilot)
        assert rows(app, "runs")[0][2] == "1,250"


def test_looks_with_nine_presets(
    snap_compare: Callable[..., bool], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the layout with all presets there are, in the smallest terminal."""
    monkeypatch.setattr("tui.screens.home.list_presets", lambda: NINE)
    make_run(runs, "2026-11-20-quickstart-brave-otter", event="finished", hours_ago=2, loss=1.5012)
    assert snap_compare(Asked(), terminal_size=(80, 24), run_before=settle)


def test_looks_without_runs(snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the very first screen."""
    monkeypatch.setattr("tui.screens.home.runs_dir", lambda: Path("/home/somebody/runs"))
    assert snap_compare(Asked(), terminal_size=(80, 24), run_before=settle)
