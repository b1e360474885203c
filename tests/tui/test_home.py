"""The home screen: what it lists, what its keys do, and what its first frame costs."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.files import write_atomically
from minigpt.journal import JournalWriter
from minigpt.presets import Preset
from minigpt.run_list import RunList
from minigpt.rundir import RunDirectory
from tests.recorded import BEGAN
from tui.app import MiniGPTApp
from tui.screens.home import HomeScreen
from tui.widgets.row_table import RowTable, without_middle

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


def rows(app: MiniGPTApp, table: str) -> list[list[str]]:
    widget = app.screen.query_one(f"#{table}", RowTable)
    return [[cell.plain for cell in widget.get_row_at(index)] for index in range(widget.row_count)]


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


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until the threads that read presets and runs have reported."""
    screen = pilot.app.screen
    assert isinstance(screen, HomeScreen)
    for _ in range(200):
        await pilot.pause(0.01)
        if screen._runs is not None and screen._counts and not (screen._reading and screen._reading.is_alive()):
            break
    await pilot.pause()


async def test_enter_starts_quickstart_at_once(runs: Path) -> None:
    """Guards the first minute: one key from the first frame to a training."""
    app = Asked()
    async with app.run_test() as pilot:
        await pilot.press("enter")
        assert app.asked == [("start", "quickstart")]


async def test_arrows_lead_from_presets_to_runs_and_back(runs: Path) -> None:
    """Guards that the keyboard reaches everything without Tab, and that r resumes only what can be resumed."""
    make_run(runs, "newer", event="finished", hours_ago=1)
    make_run(runs, "older", event="stopped", hours_ago=5)
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("r")
        assert not app.asked
        await pilot.press("down", "down", "enter")
        await pilot.press("down", "r")
        await pilot.press("up", "up", "enter")
        assert app.asked == [("open", "newer"), ("resume", "older"), ("start", "shakespeare-cpu")]


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
            assert rows(app, "runs")[0] == ["live", "training", "1,250", "2,000", "1.7500", "now"]
            await pilot.press("r", "R")
            assert not app.asked
            await pilot.press("enter")
            assert app.asked == [("open", "live")]


async def test_the_runs_stand_first_while_one_is_trained(runs: Path) -> None:
    """Whoever comes back in the morning is to find the run with the first key, and the presets below it."""
    make_run(runs, "ended", event="finished", hours_ago=1)
    live = make_run(runs, "live", hours_ago=5)
    app = Asked()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        home = app.screen
        assert isinstance(home, HomeScreen)
        presets, listed = home.query_one("#presets", RowTable), home.query_one("#runs", RowTable)
        assert presets.has_focus and presets.region.y < listed.region.y
        with live.locked():
            await pilot.press("down")
            home._read_runs()
            await settle(pilot)
            assert listed.has_focus and listed.chosen == str(live.path)
            assert listed.region.bottom <= presets.region.y and presets.size.height >= 3
            await pilot.press("down", "down", "enter", "up", "enter")
            assert app.asked == [("start", "quickstart"), ("open", "ended")]
        home._read_runs()
        await settle(pilot)
        assert presets.region.bottom <= listed.region.y and listed.has_focus


@pytest.mark.parametrize(("event", "key", "asked"), [("finished", "r", "ask"), ("stopped", "R", "ask")])
async def test_a_run_is_gone_on_with_under_other_settings(runs: Path, event: str, key: str, asked: str) -> None:
    """A finished run has nothing left to train: `r` asks how much longer."""
    make_run(runs, "only", event=event)
    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("down", "down", key)
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
        await pilot.press("down", "down")
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
    from textual.screen import Screen

    app = Asked()
    async with app.run_test() as pilot:
        await settle(pilot)
        home = app.screen
        assert isinstance(home, HomeScreen)
        await app.push_screen(Screen())
        home._reading = None
        home._read_runs()
        assert home._reading is None


async def test_what_a_thread_could_not_do_is_said(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a list that stays empty without a word."""

    def broken(_: object) -> None:
        raise RuntimeError("no such [b]thing\nat all")

    monkeypatch.setattr(RunList, "read", broken)
    app = Asked()
    async with app.run_test() as pilot:
        for _ in range(50):
            await pilot.pause(0.02)
        status = str(app.screen.query_one("#home-status", Static).content)
        assert status == "the runs cannot be read: RuntimeError: no such [b]thing⏎at all"


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
def test_looks(snap_compare: Callable[..., bool], runs: Path, size: tuple[int, int]) -> None:
    """Guards the layout: nothing clipped at 80 columns."""
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
        assert presets.max_scroll_y == 0 and presets.is_cut
        assert listed.size.height >= 4
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
