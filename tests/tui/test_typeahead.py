"""Over a slow connection keys come in a bunch: each goes where the ones before it have led."""

import asyncio
from pathlib import Path

import pytest
from textual import events
from textual.dom import DOMNode
from textual.pilot import Pilot

from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import BareApp, until
from tui.screens.dashboard import DashboardScreen
from tui.screens.dialogs import Choice, ConfirmScreen, KeysScreen
from tui.terminal import typeahead
from tui.widgets.prompt import PromptField


def type_at_once(pilot: Pilot[None], *keys: str) -> None:
    """All of them before the first has been looked at, as one read from the terminal hands them over."""
    for key in keys:
        pilot.app.post_message(events.Key(key, key if len(key) == 1 else None))


async def opened(pilot: Pilot[None], run: RunDirectory) -> DashboardScreen:
    screen = DashboardScreen(run)
    await pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.query(PromptField))
    return screen


async def test_letters_behind_the_key_that_opens_a_field_are_text(tmp_path: Path) -> None:
    """They were commands: `salt` began with `s`, and `quit` with `q`."""
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot, recorded_run(tmp_path, steps=200))
        type_at_once(pilot, "c", *"quiet")
        field = screen.query_one(PromptField)
        await until(pilot, lambda: field.text == "quiet")
        assert app.screen is screen


async def test_what_is_pasted_keeps_its_turn(tmp_path: Path) -> None:
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot, recorded_run(tmp_path, steps=200))
        type_at_once(pilot, "c", "a")
        app.post_message(events.Paste("pasted"))
        type_at_once(pilot, "b")
        field = screen.query_one(PromptField)
        await until(pilot, lambda: field.text == "apastedb")


async def test_keys_behind_the_one_that_opens_a_window_go_to_it(tmp_path: Path) -> None:
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot, recorded_run(tmp_path, steps=200))
        type_at_once(pilot, "question_mark", "escape", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        assert [type(each) for each in app.screen_stack[1:]] == [type(screen), KeysScreen]


@pytest.mark.parametrize("question", [False, True])
async def test_what_was_typed_while_another_screen_was_opened(tmp_path: Path, question: bool) -> None:
    """`minigpt-tui RUN`, and `?` before the run was there: it was thrown away. Under a question it must be."""
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        run = recorded_run(tmp_path, steps=200)
        below = await opened(pilot, run)
        busy = asyncio.Event()
        below.call_later(busy.wait)  # opening the other one keeps it from taking the key
        type_at_once(pilot, "y" if question else "question_mark")
        await asyncio.sleep(0.05)
        choices = (Choice("delete", "d", "delete"), Choice("keep", "escape", "keep it"))
        above = ConfirmScreen("sure?", "", choices) if question else DashboardScreen(run)
        await app.push_screen(above)
        busy.set()
        if question:
            await until(pilot, lambda: app._typed.idle)
            assert app.screen is above, "the `y` was no answer to it"
        else:
            await until(pilot, lambda: isinstance(app.screen, KeysScreen))


async def test_a_key_whose_doing_takes_long_does_not_hold_up_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typeahead, "PATIENCE", 0.1)
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot, recorded_run(tmp_path, steps=200))
        stuck = asyncio.Event()
        screen.call_later(stuck.wait)
        type_at_once(pilot, "up", "down")
        async with asyncio.timeout(20):
            await asyncio.sleep(0.05)
            while not app._typed.idle:
                await asyncio.sleep(0.05)
        stuck.set()
        await pilot.pause()


async def test_a_long_text_in_single_keys_takes_no_longer_than_its_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a paste is not told apart from typing, each letter waited for the one before: five seconds for a page."""
    waits: list[object] = []
    caught_up = typeahead._caught_up

    async def counted(node: DOMNode) -> None:
        waits.append(node)
        await caught_up(node)

    monkeypatch.setattr(typeahead, "_caught_up", counted)
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot, recorded_run(tmp_path, steps=200))
        type_at_once(pilot, "c", *"abcdefghij" * 30)
        field = screen.query_one(PromptField)
        await until(pilot, lambda: field.text == "abcdefghij" * 30)
        assert len(waits) < 100


async def test_the_mouse_does_not_overtake_the_keys(tmp_path: Path) -> None:
    """A click behind a typed word took the focus before the word came, and its letters were commands."""
    app = BareApp()
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot, recorded_run(tmp_path, steps=200))
        field = screen.query_one(PromptField)
        x, y = screen.query_one("#charts").region.center
        type_at_once(pilot, "c", *"salts")
        for kind in (events.MouseDown, events.MouseUp):
            app.post_message(kind(None, x, y, 0, 0, 1, False, False, False, x, y))
        await until(pilot, lambda: field.text == "salts" and screen.query_one("#charts").has_focus)
