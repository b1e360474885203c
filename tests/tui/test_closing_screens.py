"""What is typed for a screen that is being closed does not become a command of the one under it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.screen import Screen

from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import BareApp, until
from tui.screens.changes import ChangesScreen
from tui.screens.choose import ChooseScreen, Option
from tui.screens.compare import CompareScreen
from tui.screens.dashboard import DashboardScreen
from tui.screens.dialogs import Choice, ConfirmScreen, KeysScreen
from tui.screens.files import FilesScreen
from tui.screens.launch import LaunchScreen
from tui.screens.rename import RenameScreen
from tui.widgets.key_line import KeyLine
from tui.widgets.prompt import PromptField

SCREENS: list[Callable[[RunDirectory], Screen[Any]]] = [
    lambda run: ConfirmScreen("sure?", "", (Choice("yes", "s", "do it"), Choice("no", "escape", "leave it"))),
    lambda run: KeysScreen([]),
    lambda run: FilesScreen(run.path),
    lambda run: ChooseScreen("one of them", [Option("a", "a")]),
    RenameScreen,
    ChangesScreen,
    lambda run: LaunchScreen(),
    lambda run: CompareScreen([run]),
]


class Leaving(BareApp):
    """Notes when it would be left."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    def action_quit_or_ask(self) -> None:
        self.left.append("quit")

    def action_detach(self) -> None:
        self.left.append("detach")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return True if action == "detach" else super().check_action(action, parameters)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path, ended="stopped", steps=100)


async def test_letters_for_a_closing_screen_are_no_commands(run: RunDirectory) -> None:
    """A key wanders up from the screen that it was typed into; if that is gone by then, the app took it for its own."""
    app = Leaving()
    async with app.run_test(size=(100, 30)) as pilot:
        for make in SCREENS:
            for key in "qd":
                screen = make(run)
                await app.push_screen(screen)
                await until(pilot, lambda: app._typed.idle)
                await app._typed.take(events.Key(key, key))  # handed over, not answered yet
                if app.screen is screen:
                    app.pop_screen()
                await pilot.pause()
                await until(pilot, lambda: app._typed.idle)
                assert not app.left, f"{key} in {type(screen).__name__}"
        await pilot.press("q")
        assert app.left == ["quit"], "there it is meant"


async def test_escape_leads_back_one_screen(run: RunDirectory) -> None:
    """From a dashboard opened in the comparison it went home, and the comparison was lost."""
    app = BareApp()
    async with app.run_test(size=(100, 30)) as pilot:
        comparison = CompareScreen([run])
        await app.push_screen(comparison)
        app.open_run(run)
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen) and app.screen.focused is not None)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is comparison)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)


async def test_the_way_out_of_a_field_is_named_on_a_short_line(run: RunDirectory) -> None:
    """In 80 columns the line of keys ended before `esc leave`, and no letter leads out of the chat."""
    app = BareApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_run(run)
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen) and app.screen.focused is not None)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen.focused, PromptField))
        line = app.screen.query_one(KeyLine)
        await until(pilot, lambda: "leave" in str(line.render()))
        assert str(line.render()).split("  ")[1] == "esc leave"
