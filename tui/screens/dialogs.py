"""The small windows over a screen: a question or a message, and the help on keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text
from textual import events
from textual._time import get_time
from textual.actions import parse
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Static

from minigpt.inert import inert_pane


@dataclass(frozen=True)
class Choice:
    """One answer: what it means to the asker, the key that gives it, and what the button says."""

    answer: str
    key: str
    label: str


CLOSE = Choice("close", "escape", "close")

GRACE = 0.5
"""Seconds after a question has come up in which what is typed was meant for the screen below it."""
IN_BURST = 0.3
"""Seconds after such a key within which the next one still belongs to the same burst."""

LOOK_INTERVAL = 0.5  # seconds between two looks whether a question still applies

_KEY_NAMES = {"escape": "Esc", "enter": "Enter"}
_MOVING = {"left", "right", "up", "down", "tab", "shift+tab"}


class ConfirmScreen(ModalScreen[str]):
    """Asks one question and returns the `answer` that was chosen; with the one choice `CLOSE` it is a message.

    The last choice is the harmless one: it has the focus, and `n` stands for it too. Of two choices the first has `y`
    besides its own key. Without any choice it stays until the app takes it away. What is typed too early to be an
    answer can only give the harmless one. Once `applies` no longer holds, it gives that answer itself.
    """

    # The last choice is the harmless one: an Enter typed too early must not stop a run.
    AUTO_FOCUS = "Button.-last"
    BINDINGS = [
        Binding("left,up", "app.focus_previous", "the answer before", show=False),
        Binding("right,down", "app.focus_next", "the next answer", show=False),
    ]

    def __init__(
        self,
        title: str,
        text: str,
        choices: Sequence[Choice] = (CLOSE,),
        *,
        applies: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self._title = title
        self._applies = applies
        self._text = text
        self._choices = {choice.answer: choice for choice in choices}
        self._deaf_until = 0.0
        self._keys: dict[str, list[str]] = {}
        for place, choice in enumerate(choices):
            also = "n" if place == len(choices) - 1 else "y" if len(choices) == 2 else ""
            self._keys[choice.answer] = [choice.key, *([also] if also and len(choices) > 1 else [])]
            for key in self._keys[choice.answer]:
                self._bindings.bind(key, f"answer('{choice.answer}')", choice.label)

    def compose(self) -> ComposeResult:
        last = list(self._choices.values())[-1] if self._choices else None
        with Vertical(id="dialog") as dialog:
            dialog.border_title = Text(inert_pane(self._title))
            if self._choices:
                one = len(self._choices) == 1
                dialog.border_subtitle = "Enter closes too" if one else "← → choose, Enter takes the marked answer"
            with VerticalScroll(id="dialog-text", can_focus=False):
                yield Static(inert_pane(self._text), markup=False)
            with Horizontal(id="dialog-choices"):
                for choice in self._choices.values():
                    keys = "/".join(_KEY_NAMES.get(key, key) for key in self._keys[choice.answer])
                    button = Button(Text.assemble((keys, "bold"), " ", choice.label), id=choice.answer, compact=True)
                    yield button.set_class(choice is last, "-last")

    def on_mount(self) -> None:
        self._deaf_until = get_time() + GRACE
        if self._applies is not None:
            self.set_interval(LOOK_INTERVAL, self._withdraw)

    def _withdraw(self) -> None:
        if self._applies is not None and not self._applies() and self.is_current:
            self.dismiss(list(self._choices)[-1])

    def on_key(self, event: events.Key) -> None:
        """Give only the harmless answer to who went on typing when the question came up."""
        # The time at which the key was pressed: it may have waited while the question was drawn.
        if event.time >= self._deaf_until or not self._choices:
            return
        harmless = self._keys[list(self._choices)[-1]]
        # The arrows too: an Enter behind one of them would take the other answer.
        if event.key not in harmless and (event.is_printable or event.key in _MOVING):
            event.stop()
            self._deaf_until = max(self._deaf_until, event.time + IN_BURST)
            self.query_one("#dialog").border_subtitle = "that came too early to be meant: press it again"

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.action_answer(event.button.id or "")

    def action_answer(self, answer: str) -> None:
        """Close with this answer, if it is one of the choices."""
        if answer in self._choices:
            self.dismiss(answer)


class KeysScreen(ModalScreen[None]):
    """The keys that work where the user is, taken from the bindings: of the focused pane first, then further out."""

    BINDINGS = [
        Binding("escape,q,question_mark,f1,enter", "app.pop_screen", "close", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("pageup", "scroll(-10)", "a page up", show=False),
        Binding("pagedown,space", "scroll(10)", "a page down", show=False),
    ]

    def __init__(self, groups: "Sequence[KeyGroup]") -> None:
        super().__init__()
        self._groups = groups

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="keys", can_focus=False) as keys:
            keys.border_title = "keys"
            keys.border_subtitle = "Esc closes"
            for group in self._groups:
                yield Static(group.title, classes="keys-title", markup=False)
                table = Table.grid(padding=(0, 2))
                table.add_column(width=16, justify="right", no_wrap=True)
                table.add_column()
                for key, meaning in group.keys:
                    table.add_row(Text(key, "bold"), Text(meaning))
                yield Static(table)

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines."""
        self.query_one("#keys").scroll_relative(y=lines, animate=False)


@dataclass(frozen=True)
class KeyGroup:
    """The keys of one part of the screen, each with what it does."""

    title: str
    keys: tuple[tuple[str, str], ...]


def keys_of(screen: Screen[object]) -> list[KeyGroup]:
    """Collect the keys that work on a screen now, with their descriptions, innermost part first."""
    groups: dict[DOMNode, dict[str, list[str]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        declared = _declared(type(active.node))
        if (binding.action, binding.description) not in declared:
            continue  # one of Textual's, such as those for editing a line
        if active.node not in groups:
            groups[active.node] = {meaning: [] for meaning in declared.values()}
        keys = groups[active.node][declared[binding.action, binding.description]]
        shown = screen.app.get_key_display(binding)
        if shown not in keys:
            keys.append(shown)
    inside_out = list((screen.focused or screen).ancestors_with_self)
    return [
        KeyGroup(
            node.BINDING_GROUP_TITLE or type(node).__name__,
            (
                *((", ".join(sorted(keys, key=len)), meaning) for meaning, keys in groups[node].items() if keys),
                *([("tab, shift+tab", "to the next part, to the one before")] if node is screen.app else []),
            ),
        )
        for node in inside_out
        if node in groups
    ]


@dataclass(frozen=True)
class Command:
    """What a key does, for the command palette: the action and the part of the screen that it belongs to."""

    title: str
    help: str
    action: str
    node: DOMNode


def commands_of(screen: Screen[object]) -> list[Command]:
    """Everything that a key does on a screen, each once, with its key; moving about within a part is left out.

    First what it does now, then what it would do in the other parts that are in view.
    """
    from textual.widgets import Input, TextArea  # too large for the first frame

    commands: dict[tuple[int, str], Command] = {}

    def add(node: DOMNode, binding: Binding, part: str) -> None:
        meaning = _declared(type(node)).get((binding.action, binding.description))
        if meaning is None or _moves(binding.action):
            return
        key = screen.app.get_key_display(binding)
        title = binding.description[:1].upper() + binding.description[1:]
        named = "" if meaning == binding.description else f"{meaning} · "
        commands.setdefault(
            (id(node), binding.action),
            Command(f"{part}: {title.lower()}" if part else title, f"{named}key {key}", binding.action, node),
        )

    for active in screen.active_bindings.values():
        if active.enabled:
            add(active.node, active.binding, "")
    for node in screen.query("*"):
        part = node.BINDING_GROUP_TITLE
        if part and node.is_on_screen and not isinstance(node, Input | TextArea):  # what is done while typing there
            for bindings in node._bindings.key_to_bindings.values():
                for binding in bindings:
                    _, name, parameters = parse(binding.action)
                    if node.check_action(name, parameters):
                        add(node, binding, part)
    return list(commands.values())


def _moves(action: str) -> bool:
    # Opening the palette from the palette, and keys that only make sense while they are held, would be noise.
    name = action.rpartition(".")[2]
    return name == "command_palette" or name.startswith(("cursor_", "scroll_", "page_", "move_"))


def _declared(node: type[DOMNode]) -> dict[tuple[str, str], str]:
    # What this program's own classes bind, in their order: action and short description, and the one to show.
    found = {}
    for parent in node.__mro__:
        if parent.__module__.startswith("tui."):
            for binding in vars(parent).get("BINDINGS", ()):
                found[binding.action, binding.description] = binding.tooltip or binding.description
    return found
