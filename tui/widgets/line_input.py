"""A line to type in that takes its keys in the order in which they were typed."""

from textual import events
from textual.widgets import Input


class LineInput(Input):
    """An `Input` that obeys keys that come in one burst, as a slow connection bundles them, one after the other.

    Textual's own inserts letters at once, but lets every other key wander up to the app, which only then carries out
    its binding: a backspace came after the letters typed behind it, and these went into a field already left.
    """

    def __init__(self, value: str = "", *, placeholder: str = "", max_length: int = 0, name: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, max_length=max_length, name=name, compact=True)
        self.cursor_blink = False

    async def on_key(self, event: events.Key) -> None:
        focused = self.screen.focused
        if focused is not self:
            event.stop()
            event.prevent_default()
            (focused or self.screen)._forward_event(events.Key(event.key, event.character))
            return
        active = None if event.is_printable else self.screen.active_bindings.get(event.key)
        if active is not None:
            event.stop()
            event.prevent_default()
            if active.enabled:
                await self.app.run_action(active.binding.action, active.node)
