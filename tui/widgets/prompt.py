"""The field for a prompt of one line or several, in which Enter asks."""

from collections.abc import Callable

from textual import events
from textual.binding import Binding
from textual.widgets import TextArea

from minigpt.inert import inert
from tui.asking.transcript import LONGEST_TEXT
from tui.widgets.line_input import obey_in_order

NEW_LINE_KEY = "Ctrl+J"


class PromptField(TextArea):
    """Grows with its lines; at the first and the last of them up and down bring back other prompts.

    Enter gives the text to `ask`, and if that takes it, makes room for the next.
    """

    BINDING_GROUP_TITLE = "Prompt"
    BINDINGS = [
        Binding("enter", "submit", "ask", tooltip="let the model continue the prompt"),
        # Most terminals send the same for Enter with and without Shift or Alt; those that don't may use them.
        Binding("ctrl+j", "break_line", "new line", tooltip="begin a new line of the prompt"),
        Binding("shift+enter,alt+enter", "break_line", "new line, where the terminal tells it", show=False),
        Binding("up", "earlier", "an earlier prompt, from the first line", show=False),
        Binding("down", "later", "a later prompt, from the last line", show=False),
    ]

    def __init__(self, ask: Callable[[str], bool], text: str = "") -> None:
        super().__init__(
            text,
            id="prompt",
            compact=True,
            highlight_cursor_line=False,
            placeholder=f"beginning of a text; {NEW_LINE_KEY} breaks the line",
        )
        self.cursor_blink = False
        self.match_cursor_bracket = False
        self._ask = ask
        self.history_of_prompts: list[str] = []
        self._place = 0
        self._draft = ""

    def on_mount(self) -> None:
        self.move_cursor(self.document.end)

    def set_history(self, prompts: list[str]) -> None:
        """Take these prompts as the earlier ones, oldest first."""
        self.history_of_prompts = prompts
        self._place = len(prompts)

    def put(self, text: str) -> None:
        """Replace what stands here, and go to its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # So few lines have no pages: these keys are the transcript's. And Ctrl+Y copies, wherever one can ask.
        return action not in {"cursor_page_up", "cursor_page_down", "redo"}

    def action_submit(self) -> None:
        """Ask, and empty the field at once: what is typed behind Enter belongs to the next prompt."""
        self._hand_over(self._ask)

    def _hand_over(self, take: Callable[[str], bool]) -> None:
        text = self.text
        if take(text):
            if text:
                self._remember(text)
            self.load_text("")

    def action_break_line(self) -> None:
        """Begin a new line."""
        self._put_in("\n")

    def action_earlier(self) -> None:
        """Go up a line, or from the first one to the prompt before this one."""
        if self.navigator.is_first_wrapped_line(self.cursor_location):
            self._go(-1)
        else:
            self.action_cursor_up()

    def action_later(self) -> None:
        """Go down a line, or from the last one to the prompt after this one."""
        if self.navigator.is_last_wrapped_line(self.cursor_location):
            self._go(1)
        else:
            self.action_cursor_down()

    def _remember(self, prompt: str) -> None:
        if prompt in self.history_of_prompts:
            self.history_of_prompts.remove(prompt)
        self.history_of_prompts.append(prompt)
        self._place = len(self.history_of_prompts)

    def _go(self, by: int) -> None:
        place, newest = self._place + by, len(self.history_of_prompts)
        if not 0 <= place <= newest:
            return
        if self._place == newest:
            self._draft = self.text
        self._place = place
        self.put(self._draft if place == newest else self.history_of_prompts[place])

    async def on_key(self, event: events.Key) -> None:
        await obey_in_order(self, event)

    def on_paste(self, event: events.Paste) -> None:
        # What is shown is what is asked: so it is made printable before, not only on the screen. The end of a text is
        # what the model goes on from, and more than its context it never sees.
        event.prevent_default()
        event.stop()
        room = max(0, LONGEST_TEXT - len(self.text) + len(self.selected_text))
        end = event.text[-2 * room - 2 :] if room else ""
        text = inert(end.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n"), tabs=True)
        if len(event.text) > len(end) or len(text) > room:
            self.notify(
                f"A prompt takes {LONGEST_TEXT:,} characters: only the end of the text was pasted, "
                "from which the model goes on.",
                severity="warning",
                markup=False,
            )
        self._put_in(text[-room:] if room else "")

    def _put_in(self, text: str) -> None:
        result = self.replace(text, *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)


class ChatPromptField(PromptField):
    """The chat's, in which Ctrl+E gives the text to `evaluate` instead, in the same way."""

    BINDINGS = [
        # Not the pane's with priority: that would overtake the letters typed before it.
        Binding("ctrl+e", "evaluate", "evaluate", tooltip="evaluate the text: its loss, perplexity, bits per character")
    ]

    def __init__(self, ask: Callable[[str], bool], evaluate: Callable[[str], bool]) -> None:
        super().__init__(ask)
        self._evaluate = evaluate
        # Textual's field has that key too, and there it would stand before Enter in the line of keys.
        keys = self._bindings.key_to_bindings
        keys["ctrl+e"] = keys.pop("ctrl+e")

    def action_evaluate(self) -> None:
        """Evaluate what stands here, and empty the field."""
        self._hand_over(self._evaluate)
