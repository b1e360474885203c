"""The last line of a screen: the keys that work where the user is.

Textual's footer makes a widget of each key anew whenever the focus moves, which takes longer than all else that a key
press does; this is one line of text.
"""

from textual import events
from textual.app import ScreenStackError
from textual.binding import ActiveBinding
from textual.content import Content
from textual.screen import Screen

from tui.widgets.status_line import StatusLine

_GAP = 2


class KeyLine(StatusLine):
    """Names the keys of the focused part of the screen, then those further out; a click on one presses it.

    Where the line is short, the app's own keys stay, and the one for the help, whoever has it.
    """

    def __init__(self) -> None:
        super().__init__(id="key-line")
        self._places: list[tuple[int, int, str]] = []
        """First column, last column and key of each that is shown."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self.show_keys)

    def on_resize(self) -> None:
        self.show_keys(self.screen)

    def show_keys(self, screen: Screen[object]) -> None:
        """Write the keys that work on the screen now."""
        if not self.is_attached or not screen.app.app_focus:
            return
        try:
            shown = self._texts(screen)
        except ScreenStackError:
            return  # the app is about to end
        width = self.content_size.width or self.app.size.width - 2
        room = width - sum(len(text) + _GAP for _, _, text, stays in shown if stays)
        taken = []
        for key, name, text, stays in shown:
            if not stays:
                room -= len(text) + _GAP
            if stays or room >= -_GAP:
                taken.append((key, name, text))
        parts: list[Content] = []
        self._places, column = [], 0
        for key, name, text in taken:
            if parts:
                parts.append(Content(" " * _GAP))
                column += _GAP
            parts.append(Content.assemble((name, "bold $accent"), text[len(name) :]))
            self._places.append((column, column + len(text), key))
            column += len(text)
        self.show(Content.assemble(*parts))

    def _texts(self, screen: Screen[object]) -> list[tuple[str, str, str, bool]]:
        """Key, its name, its text and whether it stays on a short line, of what is shown; the app's own last."""
        first: dict[tuple[int, str], ActiveBinding] = {}
        for active in screen.active_bindings.values():
            if active.binding.show and active.enabled:
                first.setdefault((id(active.node), active.binding.action), active)
        inside_out = {node: place for place, node in enumerate((screen.focused or screen).ancestors_with_self)}
        shown = sorted(first.values(), key=lambda active: inside_out.get(active.node, -1))
        focused = screen.focused
        if focused is not None and focused.check_consume_key("a", "a"):
            # Where letters are typed no letter leads out again: the key that does must not fall off a short line.
            ways_out = [active for active in shown if active.binding.key == "escape"]
            shown = [active for active in shown if active not in ways_out]
            shown[1:1] = ways_out
        texts = []
        for active in shown:
            name = self.app.get_key_display(active.binding)
            text = f"{name} {active.binding.description}"
            stays = active.node is self.app or active.binding.action == "show_keys"
            texts.append((active.binding.key, name, text, stays))
        return texts

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        for begin, end, key in self._places:
            if place is not None and begin <= place.x < end:
                self.app.simulate_key(key)
