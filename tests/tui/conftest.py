"""What the tests of the screens share: pictures that are compared once they are finished."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pytest_textual_snapshot import SVGImageExtension, normalize_svg
from syrupy.assertion import SnapshotAssertion
from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot

from tests.tui.panes import settled
from tui.app import MiniGPTApp
from tui.cost import Cost


def remember_parsed_styles() -> None:
    """Have each style sheet parsed once for all apps of this process: hundreds of them start here."""
    parse = Stylesheet._parse_rules
    parsed: dict[Any, list[RuleSet]] = {}

    def parse_once(sheet: Stylesheet, css: str, *arguments: Any, **named: Any) -> list[RuleSet]:
        key = (frozenset(sheet._variables.items()), css, *arguments, *named.values())
        if key not in parsed:
            parsed[key] = parse(sheet, css, *arguments, **named)
        return parsed[key]

    Stylesheet._parse_rules = parse_once  # type: ignore[method-assign]


remember_parsed_styles()

FINISHED_WITHIN = 15.0
"""Seconds in which a picture has to become the one that was accepted."""


@pytest.fixture(autouse=True)
def keys_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pilot.press` returns when each key has been handed over: it does not know of those that wait for others."""
    press = MiniGPTApp._press_keys

    async def press_and_wait(app: MiniGPTApp, keys: Iterable[str]) -> None:
        for key in keys:
            await press(app, [key])
            while app.is_running and not app._exit and not app._typed.idle:
                await asyncio.sleep(0)

    monkeypatch.setattr(MiniGPTApp, "_press_keys", press_and_wait)


@pytest.fixture(autouse=True)
def questions_hear_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test answers a question as soon as it is there, as no hand does; the time for that has a test of its own."""
    monkeypatch.setattr("tui.screens.dialogs.GRACE", 0.0)


@pytest.fixture
def snap_compare(
    snap_compare: Callable[..., bool],
    snapshot: SnapshotAssertion,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., bool]:
    """The plugin's `snap_compare`, which looks once; this one waits until the picture is the accepted one.

    What comes from threads and with the next look at the files would else be missing on a slow machine. What tells of
    the time that has passed here is left out.
    """
    monkeypatch.setattr(Cost, "words", lambda _: "")
    monkeypatch.setattr("tui.widgets.memory.monotonic", lambda: 0.0)

    def compare(
        app: App[Any],
        *,
        press: Iterable[str] = (),
        terminal_size: tuple[int, int] = (80, 24),
        run_before: Callable[[Pilot[Any]], Awaitable[None] | None] | None = None,
    ) -> bool:
        location = SVGImageExtension.get_location(test_location=snapshot.test_location, index=0)
        file = Path(location)
        accepted = file.read_text(encoding="utf-8") if file.exists() else None
        if pytestconfig.option.update_snapshots:
            accepted = None

        async def until_finished(pilot: Pilot[Any]) -> None:
            if press or run_before:
                await settled(pilot)
            if run_before is not None and inspect.isawaitable(result := run_before(pilot)):
                await result
            await pilot.pause()
            await pilot.press(*press)
            if accepted is None:
                await settled(pilot)
                return
            end = time.monotonic() + FINISHED_WITHIN
            while normalize_svg(pilot.app.export_screenshot(title=pilot.app.title, simplify=True)) != normalize_svg(
                accepted
            ):
                if time.monotonic() > end:
                    return  # the comparison says in what it differs
                await pilot.pause(0.05)

        return snap_compare(app, terminal_size=terminal_size, run_before=until_finished)

    return compare
