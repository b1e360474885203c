"""A pane alone under the app's styles, and waiting for what it does."""

import time
from collections.abc import Callable
from typing import Any

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from tui import styles
from tui.app import MiniGPTApp
from tui.theme import DARK


class PaneApp(App[None]):
    """Shows one widget, which gets the focus."""

    CSS_PATH = styles.ALL

    def __init__(self, make: Callable[[], Widget]) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self._make = make

    def compose(self) -> ComposeResult:
        self.pane = self._make()
        yield self.pane

    def on_mount(self) -> None:
        self.pane.styles.height = "1fr"
        self.pane.focus()


class BareApp(MiniGPTApp):
    """The app with nothing under the screen that a test opens: the home screen costs more than most tests do."""

    CSS_PATH = styles.ALL

    def get_default_screen(self) -> Screen[None]:  # type: ignore[override]
        return Screen()


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that comes with a thread's doing, or with the next look at the files."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await pilot.pause(0.03)


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until the screen stays as it is: panes get their sizes, and the footer its keys, a while after the first."""
    still = 0
    before: list[str] = []
    while still < 4:
        await pilot.pause(0.05)
        now = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        still = still + 1 if now == before else 0
        before = now
