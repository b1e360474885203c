"""The chat pane: a prompt, and what the model of a checkpoint makes of it."""

from collections.abc import Callable
from time import monotonic

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Label, Static

from minigpt.inert import inert, inert_line, inert_pane
from minigpt.prompt import typed_prompt
from minigpt.rundir import RunDirectory
from tui.answering import Answer, Transcript, Unknown
from tui.models import CHANGE_KEY, NEWEST, Models, chosen_title
from tui.widgets.line_input import LineInput
from tui.widgets.sampling import SamplingRow

DRAW_INTERVAL = 0.08  # seconds between two looks at a growing answer
MOST_ANSWERS = 50


class PromptInput(LineInput):
    """One line for the prompt, in which a line break is written `\\n`; up and down bring back earlier prompts.

    Enter gives the line to `ask`, and if that takes it, makes room for the next.
    """

    BINDING_GROUP_TITLE = "Prompt"
    BINDINGS = [
        Binding("enter", "submit", "ask", tooltip="let the model continue the prompt"),
        Binding("up", "earlier", "an earlier prompt", show=False),
        Binding("down", "later", "a later prompt", show=False),
    ]

    def __init__(self, ask: Callable[[str], bool]) -> None:
        super().__init__(placeholder="the beginning of a text; \\n breaks the line")
        self.id = "prompt"
        self._ask = ask
        self.select_on_focus = False  # coming back to a draft, the next letter must not replace it
        self.history: list[str] = []
        self._place = 0
        self._draft = ""

    def set_history(self, prompts: list[str]) -> None:
        """Take these prompts as the earlier ones, oldest first."""
        self.history = [to_line(prompt) for prompt in prompts]
        self._place = len(self.history)

    def remember(self, line: str) -> None:
        """Add a line to the history."""
        if line in self.history:
            self.history.remove(line)
        self.history.append(line)
        self._place = len(self.history)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # One line has no pages: these keys are the transcript's.
        return action not in {"page_up", "page_down"}

    async def action_submit(self) -> None:
        """Ask, and empty the line at once: what is typed behind Enter belongs to the next prompt."""
        line = self.value
        if self._ask(line):
            if line:
                self.remember(line)
            self.value = ""

    def action_earlier(self) -> None:
        """Bring back the prompt before this one."""
        self._go(-1)

    def action_later(self) -> None:
        """Bring back the prompt after this one."""
        self._go(1)

    def _go(self, by: int) -> None:
        place = self._place + by
        if not 0 <= place <= len(self.history):
            return
        if self._place == len(self.history):
            self._draft = self.value
        self._place = place
        self.value = self._draft if place == len(self.history) else self.history[place]
        self.cursor_position = len(self.value)

    def on_paste(self, event: events.Paste) -> None:
        # Input would keep the first line only.
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor(to_line(inert("\n".join(event.text.splitlines()).rstrip("\n"))))


class ChatPane(Vertical):
    """Talks to a checkpoint of the run, the newest unless told otherwise; each answer names the one that gave it."""

    BINDING_GROUP_TITLE = "Chat"
    BINDINGS = [
        Binding("escape", "leave", "stop or leave", tooltip="stop the answer; without one, leave the chat"),
        # With priority, or the line would take ctrl+d for itself; without a refused prompt it still does.
        Binding("ctrl+r", "ask_known('replace')", "ask, unknown characters replaced", show=False, priority=True),
        Binding("ctrl+d", "ask_known('drop')", "ask, unknown characters left out", show=False, priority=True),
        Binding("pageup", "scroll_transcript(-1)", "back in the conversation", show=False),
        Binding("pagedown", "scroll_transcript(1)", "on in the conversation", show=False),
    ]

    def __init__(self, run: RunDirectory, *, read_only: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_directory = run
        self._models = Models()
        self._transcript = Transcript(run, read_only=read_only)
        self._which = NEWEST
        self._answer: Answer | None = None
        self._refused: Answer | None = None
        """The prompt with unknown characters of which the user may say what becomes of them."""
        self._shown: Static | None = None
        self._drawn = ("", "")
        self._drawing: Timer | None = None
        self._next_drawing = 0.0
        self._scrolls = False
        """Whether the end of the transcript is about to be shown: until then it is not where the view is."""
        self._title = ""
        self._said_about: list[str] = []

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="transcript", can_focus=False):
            yield Static(id="chat-empty", markup=False)
        yield Static(id="chat-problem", markup=False)
        with Horizontal(id="prompt-row"):
            yield Label("› ", id="prompt-mark")
            yield PromptInput(self.ask)
        yield SamplingRow()

    def on_mount(self) -> None:
        self.query_one(PromptInput).set_history(self._transcript.earlier_prompts())
        self._drawing = self.set_interval(DRAW_INTERVAL, self._draw_answer, pause=True)
        self._say("")
        self.refresh_checkpoint()

    def on_unmount(self) -> None:
        if self._answer is not None:
            self._answer.cancel()

    def focus(self, scroll_visible: bool = True) -> "ChatPane":
        """Put the cursor into the prompt."""
        # At once: `focus()` of the prompt would take effect only after the keys that have been typed meanwhile.
        self.screen.set_focus(self.query_one(PromptInput), scroll_visible)
        return self

    def choose(self, which: str) -> None:
        """Let another checkpoint answer from now on: "last", "best" or a step."""
        self._which = which
        self.refresh_checkpoint()

    def refresh_checkpoint(self) -> None:
        """Name the checkpoint that answers now in the pane's title."""
        title = chosen_title(self._run_directory, self._which, "chat", self.size.width - 4)
        if title != self._title:
            self._title = title
            self.border_title = f" {title} "
            self.query_one("#chat-empty", Static).update(
                f"Type the beginning of a text, and the model continues it.\n{CHANGE_KEY} chooses another checkpoint."
                if self._run_directory.checkpoints()
                else "No checkpoint yet."
            )

    def on_resize(self) -> None:
        self.refresh_checkpoint()

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, line: str) -> bool:
        """Start the answer to a prompt as it was typed; False, with a message, if that cannot be now."""
        return self._ask(typed_prompt(line) or "\n", "refuse")

    def _ask(self, prompt: str, unknown: Unknown) -> bool:
        sampling = self.query_one(SamplingRow).sampling()
        if self._answer is not None and self._answer.going_on:
            problem = "The model is still answering; Esc stops it."
        elif isinstance(sampling, str):
            problem = sampling
        elif not self._run_directory.checkpoints():
            problem = "No checkpoint yet. Your prompt stays here."
        else:
            self._say("")
            run, models, transcript = self._run_directory, self._models, self._transcript
            self._show_answer(Answer(run, prompt, sampling, models, transcript, which=self._which, unknown=unknown))
            return True
        self._say(problem)
        return False

    def _show_answer(self, answer: Answer) -> None:
        transcript = self.query_one("#transcript", VerticalScroll)
        self.query_one("#chat-empty").display = False
        old = list(transcript.query(".answer"))
        for exchange in old[: max(0, len(old) - MOST_ANSWERS + 1)]:
            exchange.remove()
        self._shown = Static(exchange_text(answer), classes="answer", markup=False)
        self._drawn = ("", "")
        self._answer = answer
        transcript.mount(self._shown)
        self._follow()
        answer.start()
        self._next_drawing = 0.0
        if self._drawing is not None:
            self._drawing.resume()

    def _follow(self) -> None:
        def scroll() -> None:
            self._scrolls = False
            self.query_one("#transcript", VerticalScroll).scroll_end(animate=False)

        self._scrolls = True
        self.call_after_refresh(scroll)

    def _draw_answer(self) -> None:
        answer, shown = self._answer, self._shown
        if answer is None or shown is None:
            return
        over = not answer.going_on
        text = answer.text
        # Wrapping a long answer again costs more: then less often.
        if (over or monotonic() >= self._next_drawing) and self._drawn != (text, answer.state):
            self._next_drawing = monotonic() + len(text) / 40_000
            self._drawn = (text, answer.state)
            transcript = self.query_one("#transcript", VerticalScroll)
            follows = self._scrolls or transcript.max_scroll_y - transcript.scroll_y <= 1
            shown.update(exchange_text(answer))
            if follows:
                self._follow()
        if over:
            self._answer = None
            if self._drawing is not None:
                self._drawing.pause()
            if answer.state == "failed":
                self._give_back(answer)

    def _give_back(self, answer: Answer) -> None:
        """Put a prompt that got no answer back into the line, to be mended."""
        field = self.query_one(PromptInput)
        if not field.value:
            field.value = to_line(answer.prompt) if answer.prompt != "\n" else ""
            field.cursor_position = len(field.value)
        if answer.refused_characters:
            self._say("Ctrl+R asks with these characters replaced, Ctrl+D without them.")
            self._refused = answer

    def _say(self, text: str) -> None:
        self._refused = None
        self._said_about = self._typed()
        problem = self.query_one("#chat-problem", Static)
        problem.update(inert_pane(text))
        problem.display = bool(text)

    def _typed(self) -> list[str]:
        return [field.value for field in self.query(LineInput)]

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    @on(Input.Changed)
    def typing(self, event: Input.Changed) -> None:
        """Take the last message away once the user goes on, and say what is wrong with a setting."""
        event.stop()
        if self._typed() == self._said_about:
            return  # letters that stood there already when the message came
        sampling = self.query_one(SamplingRow).sampling()
        self._say(sampling if isinstance(sampling, str) else "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "ask_known" or self._refused is not None

    def action_ask_known(self, unknown: Unknown) -> None:
        """Ask the refused prompt again, with its unknown characters replaced or dropped."""
        field = self.query_one(PromptInput)
        refused = self._refused
        if refused is not None and self._ask(refused.prompt, unknown) and typed_prompt(field.value) == refused.prompt:
            field.value = ""

    def action_leave(self) -> None:
        """Stop an answer that is being written; without one, leave the chat."""
        if self._answer is not None and self._answer.going_on:
            self._answer.cancel()
            self._say("")
        else:
            self.screen.set_focus(None)

    def action_scroll_transcript(self, pages: int) -> None:
        """Scroll the conversation by so many pages."""
        transcript = self.query_one("#transcript", VerticalScroll)
        transcript.scroll_relative(y=pages * max(1, transcript.size.height - 1), animate=False)


def exchange_text(answer: Answer) -> Content:
    """A prompt and what came of it: first who answers, then the text, and last how it ended if not by its length."""
    who = ""
    if answer.described is not None:
        who = answer.described.named
        who += {"refuse": "", "replace": " · unknown characters replaced", "drop": " · unknown characters left out"}[
            answer.unknown
        ]
    elif answer.state == "loading":
        who = "opening the checkpoint …"
    parts = [
        Content.styled(f"› {inert_line(answer.prompt)}", "bold $primary"),
        Content.styled(f"  {who}", "$foreground 60%"),
    ]
    text = inert_pane(answer.text)
    if text:
        # A line break between prompt and continuation is part of the text; the heading ends its line anyway.
        parts += [Content("\n"), Content(text.removeprefix("\n"))]
    match answer.state:
        case "failed":
            parts.append(Content.styled(f"\n✗ {inert_pane(answer.error)}", "$text-error"))
        case "stopped":
            parts.append(Content.styled("\n(stopped)" if text else "  (stopped)", "$foreground 60%"))
    return Content.assemble(*parts)


def to_line(text: str) -> str:
    """Text as it is typed into the one line of the prompt: a line break as `\\n`."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")
