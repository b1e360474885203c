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

Typed = events.Key | events.Paste | events.MouseDown | events.MouseUp

PATIENCE = 1.0
"""Seconds after which what waits is handed over in any case."""


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
        """Whether it comes up from a screen that has been closed since, or over which a question has opened.

        Textual would look for its binding on the screen that is there now: a `q` typed into a closing window quit. A
        dashboard that opens over the list of runs takes what was typed for it meanwhile.
        """
        screen = self._typed_for.get(event) if isinstance(event, Typed) else None
        if screen is None or screen is self._app.screen:
            return False
        return self._app.screen.is_modal or screen not in self._app.screen_stack

    async def _next(self, *, patient: bool = True) -> None:
        # In the app's own task, as Textual does it.
        self._under_way = bool(self._waiting) and self._app.is_running
        if not self._under_way:
            return
        while True:
            focus = (self._app.screen, self._app.focused)
            event = self._waiting.popleft()
            self._typed_for[event] = focus[0]
            await self._handle(event)
            if not self._waiting or not self._app.is_running:
                break
            # Letters for a field lead nowhere else: a text of thousands of keys need not wait for each of them.
            stays = focus[1] is self._app.focused and _is_text(event, focus[1]) and _is_text(self._waiting[0], focus[1])
            if patient and not stays:
                break
        self._task = asyncio.create_task(self._until_done(focus))

    async def _until_done(self, focus: tuple[Screen[Any], Widget | None]) -> None:
        patient = True
        try:
            async with asyncio.timeout(PATIENCE):
                before = None
                while focus != before:
                    before = focus
                    for node in (focus[1] or focus[0]).ancestors_with_self:
                        await _caught_up(node)
                    focus = (self._app.screen, self._app.focused)
        except TimeoutError:
            patient = False  # something is stuck: what waits is not to wait for it again and again
        except ScreenStackError:
            return  # the app is ending
        finally:
            self._app.call_later(self._next, patient=patient)


def _is_text(event: Typed, focused: Widget | None) -> bool:
    if isinstance(event, events.Key):
        return event.is_printable and focused is not None and focused.check_consume_key(event.key, event.character)
    return isinstance(event, events.Paste)


async def _caught_up(node: DOMNode) -> None:
    """Wait until a widget has taken in what it was sent so far: a key goes up from one to the next."""
    caught_up = asyncio.Event()
    if node.call_later(caught_up.set):
        await caught_up.wait()
