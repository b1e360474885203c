"""Keys that come faster than they are answered: each waits until what the key before it did has been done.

Textual hands a key to what has the focus when the key comes. Over a slow connection, or beside a training, several come
at once: the letters behind the key that opens a field would go to what had the focus before, as commands.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from textual import events
from textual.app import App, ScreenStackError
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

Typed = events.Key | events.Paste

PATIENCE = 1.0
"""Seconds after which the next key is handed over in any case."""


class TypeAhead:
    """Hands what is typed to `handle`, one after the other. For the app's `on_event`."""

    def __init__(self, app: App[Any], handle: Callable[[Typed], Awaitable[None]]) -> None:
        self._app = app
        self._handle = handle
        self._waiting: deque[Typed] = deque()
        self._under_way = False
        self._typed_for: WeakKeyDictionary[Typed, Screen[Any]] = WeakKeyDictionary()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether all that was typed is done."""
        return not self._under_way

    async def take(self, event: Typed) -> None:
        """Hand it over now, or once those before it are done."""
        self._waiting.append(event)
        if not self._under_way:
            await self._next()

    def is_stray(self, event: events.Event) -> bool:
        """Whether it comes up from a screen that has been closed since: what is under it was not meant.

        Textual would look for its binding on the screen that is there now: a `q` typed into a closing window quit.
        """
        screen = self._typed_for.get(event) if isinstance(event, Typed) else None
        return screen is not None and screen is not self._app.screen

    async def _next(self) -> None:
        # In the app's own task, as Textual does it.
        self._under_way = bool(self._waiting) and self._app.is_running
        if self._under_way:
            focus = (self._app.screen, self._app.focused)
            event = self._waiting.popleft()
            self._typed_for[event] = focus[0]
            await self._handle(event)
            self._task = asyncio.create_task(self._until_done(focus))

    async def _until_done(self, focus: tuple[Screen[Any], Widget | None]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                before = None
                while focus != before:
                    before = focus
                    for node in (focus[1] or focus[0]).ancestors_with_self:
                        await _caught_up(node)
                    focus = (self._app.screen, self._app.focused)
        except TimeoutError:
            pass
        except ScreenStackError:
            return  # the app is ending
        self._app.call_later(self._next)


async def _caught_up(node: DOMNode) -> None:
    """Wait until a widget has taken in what it was sent so far: a key goes up from one to the next."""
    caught_up = asyncio.Event()
    if node.call_later(caught_up.set):
        await caught_up.wait()
