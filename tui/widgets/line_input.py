"""Fields to type in that take their keys in the order in which they were typed."""

from textual import events
from textual.widget import Widget
from textual.widgets import Input


class LineInput(Input):
    """An `Input` that obeys keys that come in one burst, as a slow connection bundles them, one after the other."""

    def __init__(self, value: str = "", *, placeholder: str = "", max_length: int = 0, name: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, max_length=max_length, name=name, compact=True)
        self.cursor_blink = False

    async def on_key(self, event: events.Key) -> None:
        await obey_in_order(self, event)


async def obey_in_order(field: Widget, event: events.Key) -> None:
    """Carry out a key's binding here and now, and hand a key that came too late for `field` to where the focus went.

    Textual's own fields insert letters at once, but let every other key wander up to the app, which only then carries
    out its binding: a backspace came after the letters typed behind it, and these went into a field already left.
    """
    focused = field.screen.focused
    if focused is not field:
        event.stop()
        event.prevent_default()
        (focused or field.screen)._forward_event(events.Key(event.key, event.character))
        return
    active = None if event.is_printable else field.screen.active_bindings.get(event.key)
    if active is not None:
        event.stop()
        event.prevent_default()
        if active.enabled:
            await field.app.run_action(active.binding.action, active.node)
