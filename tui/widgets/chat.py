"""The chat pane: a prompt, and what the model of a checkpoint makes of it; or a text, and how well it predicts that."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Label, Static, TextArea

from minigpt.errors import UserError
from minigpt.inert import inert, inert_pane
from minigpt.journal import Row
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from tui.asking.answering import Answer, Unknown
from tui.asking.evaluating import EVALUATING, Evaluating
from tui.asking.models import CHANGE_KEY, NEWEST, Models, chosen_title, spread
from tui.asking.transcript import Transcript
from tui.settings import DEFAULTS
from tui.terminal.clipboard import copy
from tui.widgets.exchange import earlier_text, evaluated_text, exchange_text
from tui.widgets.line_input import LineInput
from tui.widgets.prompt import ChatPromptField, PromptField
from tui.widgets.sampling import SamplingRow

DRAW_INTERVAL = 0.08  # seconds between two looks at a growing answer
MOST_ANSWERS = 50
_ANSWERING = "The model is still answering; Esc stops it."
_NO_CHECKPOINT = "No checkpoint yet. Your prompt stays here."
_LOW = 14  # lines of the pane; with fewer a long prompt must not take most of them
MOST_EARLIER = 20  # answers of earlier conversations that are shown


class Conversation(VerticalScroll, can_focus=False):
    """What was asked and answered; calls `resized` when it has become higher or lower."""

    def __init__(self, resized: Callable[[], None]) -> None:
        super().__init__(id="transcript")
        self._resized = resized

    def on_resize(self) -> None:
        self._resized()


class ChatPane(Vertical):
    """Talks to a checkpoint of the run, the newest unless told otherwise; each answer names the one that gave it.

    Ctrl+E evaluates what stands in the prompt instead; the results have their places among the answers.
    """

    class Left(Message):
        """The user has left the chat."""

    class Evaluated(Message):
        """A text was evaluated, with this result."""

        def __init__(self, result: Row) -> None:
            super().__init__()
            self.result = result

    BINDING_GROUP_TITLE = "Chat"
    BINDINGS = [
        Binding("ctrl+n", "again", "again", tooltip="the same again: next seed, or the same one with other settings"),
        Binding("ctrl+g", "go_on", "go on", tooltip="let the model go on from where the last answer ended"),
        Binding("ctrl+y", "copy_answer", "copy", tooltip="copy the last answer, without its prompt"),
        Binding("ctrl+t", "ask_several", "several", tooltip="ask several checkpoints the same, side by side"),
        Binding("ctrl+l", "show_earlier", "earlier conversations, above; again: away", show=False),
        Binding("escape", "leave", "leave", tooltip="stop the answer or evaluation; without one, leave the chat"),
        # With priority, or the field would take ctrl+d for itself; without a refused prompt it still does.
        Binding("ctrl+r", "ask_known('replace')", "ask, unknown characters replaced", show=False, priority=True),
        Binding("ctrl+d", "ask_known('drop')", "ask, unknown characters left out", show=False, priority=True),
        Binding("pageup", "scroll_transcript(-1)", "back in the conversation", show=False),
        Binding("pagedown", "scroll_transcript(1)", "on in the conversation", show=False),
    ]

    def __init__(self, run: RunDirectory, *, read_only: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_directory = run
        self._read_only = read_only
        self._models = Models()
        self._transcript = Transcript(run, read_only=read_only)
        self._which = NEWEST
        self._answer: Answer | None = None
        """The one that is being given."""
        self._last: Answer | None = None
        """The last one that came to something."""
        self._asked: Answer | None = None
        """The last one that was begun."""
        self._evaluation: Evaluating | None = None
        """The one that is going on; never beside an answer."""
        self._refused: tuple[str, Callable[[str, Unknown], bool]] | None = None
        """A text with unknown characters of which the user may say what becomes of them, and what to do with it."""
        self._shown: Static | None = None
        self._on_screen: Answer | None = None
        """The one whose text stands there and may grow."""
        self._drawn = ("", "")
        self._drawing: Timer | None = None
        self._next_drawing = 0.0
        self._follows = True
        """Whether the view stays at the end of the transcript: until the reader scrolls back, and again from there."""
        self._title = ""
        self._said = ""
        self._said_about: list[str] = []
        self._earlier: Static | None = None

    def compose(self) -> ComposeResult:
        with Conversation(self._conversation_resized):
            yield Static(id="chat-empty", markup=False)
        yield Static(id="chat-problem", markup=False)
        with Horizontal(classes="prompt-row"):
            yield Label("› ", classes="prompt-mark")
            yield ChatPromptField(self.ask, self.evaluate)
        yield SamplingRow()

    def on_mount(self) -> None:
        self.query_one(PromptField).set_history(self._transcript.earlier_prompts())
        self._drawing = self.set_interval(DRAW_INTERVAL, self._draw, pause=True)
        self.watch(self.query_one("#transcript"), "scroll_y", self._has_scrolled, init=False)
        self._say("")
        self.refresh_checkpoint()

    def on_unmount(self) -> None:
        if going_on := self._answer or self._evaluation:
            going_on.cancel()

    def focus(self, scroll_visible: bool = True) -> "ChatPane":
        """Put the cursor into the prompt."""
        # At once: `focus()` of the prompt would take effect only after the keys that have been typed meanwhile.
        self.screen.set_focus(self.query_one(PromptField), scroll_visible)
        return self

    def choose(self, which: str) -> None:
        """Let another checkpoint answer from now on: "last", "best" or a step."""
        self._which = which
        self.refresh_checkpoint()

    def refresh_checkpoint(self) -> None:
        """Name the checkpoint that answers now in the pane's title."""
        title = chosen_title(self._run_directory, self._which, "chat", self.size.width - 2)
        if title != self._title:
            self._title = title
            self.border_title = f" {title} "
            self.query_one("#chat-empty", Static).update(
                "Type the beginning of a text, and the model continues it.\n"
                f"Ctrl+E evaluates it instead, {CHANGE_KEY} chooses another checkpoint."
                if self._run_directory.checkpoints()
                else "No checkpoint yet."
            )
        if self._said == _NO_CHECKPOINT and self._run_directory.checkpoints():
            self._say("")

    def on_resize(self) -> None:
        self.set_class(self.size.height < _LOW, "-low")
        self.refresh_checkpoint()

    @property
    def _ascii(self) -> bool:
        return bool(getattr(self.app, "settings", DEFAULTS).ascii)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, prompt: str) -> bool:
        """Start the answer to a prompt; False, with a message, if that cannot be now."""
        return self._ask(prompt or "\n", "refuse")

    def _ask(
        self, prompt: str, unknown: Unknown, *, next_seed_after: Answer | None = None, before: Answer | None = None
    ) -> bool:
        self._notice_the_end()
        row = self.query_one(SamplingRow)
        sampling = row.sampling()
        problem = self._what_prevents_asking()
        if isinstance(sampling, str):
            problem = problem or sampling
        elif not problem:
            if next_seed_after is not None and sampling == next_seed_after.sampling:
                sampling = replace(sampling, seed=(sampling.seed + 1) % 1_000_000)
                row.set_seed(sampling.seed)
            self._say("")
            self._show_answer(
                Answer(
                    self._run_directory,
                    prompt,
                    sampling,
                    self._models,
                    self._transcript,
                    which=self._which,
                    unknown=unknown,
                    before=before,
                )
            )
            return True
        self._say(problem)
        return False

    def _what_prevents_asking(self) -> str:
        if self._answer is not None:
            return _ANSWERING
        if self._evaluation is not None:
            return EVALUATING
        return "" if self._run_directory.checkpoints() else _NO_CHECKPOINT

    def _show_answer(self, answer: Answer) -> None:
        if answer.before is None or answer.before is not self._on_screen:
            self._append(exchange_text(answer, ascii=self._ascii))
        self._drawn = ("", "")
        self._answer = self._asked = answer
        self._follow()
        answer.start()
        self._next_drawing = 0.0
        if self._drawing is not None:
            self._drawing.resume()

    def _append(self, content: Content) -> None:
        """Put an answer or an evaluation to the end of the conversation."""
        transcript = self.query_one("#transcript", VerticalScroll)
        self.query_one("#chat-empty").display = False
        old = list(transcript.query(".answer"))
        for exchange in old[: max(0, len(old) - MOST_ANSWERS + 1)]:
            exchange.remove()
        self._shown = Static(content, classes="answer", markup=False)
        transcript.mount(self._shown)

    def evaluate(self, text: str) -> bool:
        """Begin to evaluate a text; False, with a message, if that cannot be now."""
        if text:
            return self._evaluate(text, "refuse")
        self._say("Type or paste a text here first; Ctrl+E then says how well the model predicts it.")
        return False

    def _evaluate(self, text: str, unknown: Unknown) -> bool:
        self._notice_the_end()
        problem = self._what_prevents_asking()
        self._say(problem)
        if problem:
            return False
        self._evaluation = Evaluating(
            self._run_directory,
            self._models,
            which=self._which,
            text=text,
            unknown=unknown,
            read_only=self._read_only,
        )
        self._append(evaluated_text(self._evaluation, ascii=self._ascii))
        self._drawn = ("", "")
        self._on_screen = None  # what goes on from an answer stands behind what came since
        self._follow()
        self._evaluation.start()
        if self._drawing is not None:
            self._drawing.resume()
        return True

    def _has_scrolled(self) -> None:
        # Asked when the view moves and not when the text grows: then it is not at the end until the layout is done.
        transcript = self.query_one("#transcript", VerticalScroll)
        self._follows = transcript.max_scroll_y - transcript.scroll_y <= 1

    def _conversation_resized(self) -> None:
        # Lower it shows less of the end, and nothing has scrolled.
        if self._follows:
            self._follow()

    def _follow(self) -> None:
        def scroll() -> None:
            if self._follows:  # the reader may have scrolled back meanwhile
                self.query_one("#transcript", VerticalScroll).scroll_end(animate=False, immediate=True)

        self._follows = True
        self.call_after_refresh(scroll)

    def _draw(self) -> None:
        """Show what has come of the answer or the evaluation that is going on."""
        self._draw_answer()
        self._draw_evaluation()
        if self._answer is None and self._evaluation is None:
            if self._drawing is not None:
                self._drawing.pause()
            if self._said in {_ANSWERING, EVALUATING}:
                self._say("")

    def _draw_evaluation(self) -> None:
        job, shown = self._evaluation, self._shown
        if job is None or shown is None:
            return
        over = not job.going_on
        if self._drawn != (job.words, job.state):
            self._drawn = (job.words, job.state)
            shown.update(evaluated_text(job, ascii=self._ascii))
            if self._follows:
                self._follow()
        if over:
            self._evaluation = None
            if job.state == "failed":
                self._give_back(job.text or "", self._evaluate if job.refused_characters else None)
            elif job.state == "done" and job.result is not None:
                if job.error:
                    self._say(job.error)
                self.post_message(self.Evaluated(job.result))

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
            shown.update(exchange_text(answer, ascii=self._ascii))
            if self._follows:
                self._follow()
        if over:
            self._answer = None
            if answer.state != "failed" and answer.described is not None:
                self._last = self._on_screen = answer
                return
            self._on_screen = answer.before
            if answer.state == "failed":
                self._asked = self._last
            if answer.state == "failed" and answer.before is None:
                self._give_back(answer.prompt, self._ask if answer.refused_characters else None)

    def _notice_the_end(self) -> None:
        """Take in at once that the answer or evaluation is over: a key may come before the next look at it."""
        going_on = self._answer or self._evaluation
        if going_on is not None and not going_on.going_on:
            self._draw()

    def _give_back(self, text: str, do_again: Callable[[str, Unknown], bool] | None) -> None:
        """Put a text of which nothing came back into the line, to be mended, or to be taken with other characters."""
        field = self.query_one(PromptField)
        if not field.text:
            field.put(text if text != "\n" else "")  # what is asked where nothing is typed
        if do_again is not None:
            what = "asks" if do_again == self._ask else "evaluates"
            self._say(f"Ctrl+R {what} with these characters replaced, Ctrl+D without them.")
            self._refused = text, do_again

    def _say(self, text: str) -> None:
        self._refused = None
        self._said, self._said_about = text, self._typed()
        problem = self.query_one("#chat-problem", Static)
        problem.update(inert_pane(text))
        problem.display = bool(text)

    def _typed(self) -> list[str]:
        return [self.query_one(PromptField).text, *(field.value for field in self.query(LineInput))]

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    @on(Input.Changed)
    @on(TextArea.Changed)
    def typing(self, event: Input.Changed | TextArea.Changed) -> None:
        """Take the last message away once the user goes on, and say what is wrong with a setting."""
        event.stop()
        if self._typed() == self._said_about:
            return  # letters that stood there already when the message came
        sampling = self.query_one(SamplingRow).sampling()
        self._say(sampling if isinstance(sampling, str) else "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "ask_known" or self._refused is not None

    def action_ask_known(self, unknown: Unknown) -> None:
        """Ask or evaluate the refused text again, with its unknown characters replaced or dropped."""
        field = self.query_one(PromptField)
        if self._refused is not None:
            text, do_again = self._refused
            if do_again(text, unknown) and field.text == text:
                field.load_text("")

    def action_again(self) -> None:
        """Ask the last prompt again: with the next seed, or with the same one where settings or checkpoint differ."""
        self._notice_the_end()
        last = self._asked
        if last is None:
            self._say(self._what_prevents_asking() or "Nothing has been asked yet.")
            return
        try:
            now = self._run_directory.checkpoint(self._which)
        except UserError:
            now = None  # the answer will say so
        # Of one that was stopped before its checkpoint was open nothing is known yet: the same seed.
        same = last.described is not None and now == last.described.checkpoint
        self._ask(last.prompt, "refuse", next_seed_after=last if same else None, before=last.before)

    def action_go_on(self) -> None:
        """Let the model go on from the last prompt and answer, as one text."""
        self._notice_the_end()
        if self._last is None:
            said = "There is no answer yet to go on from."
            self._say(said if self._answer is None else self._what_prevents_asking())
        else:
            # With the same seed it would draw the same numbers again, and say nearly the same.
            self._ask(self._last.prompt, "refuse", next_seed_after=self._last, before=self._last)

    def action_copy_answer(self) -> None:
        """Copy the last answer, as far as it has come, into the terminal's clipboard."""
        answer = self._answer or self._last
        if answer is None or not answer.text:
            self._say("There is no answer yet to copy.")
            return
        text = inert(answer.text, tabs=True)
        copy(self.app, text, f"The answer is copied: {len(text):,} characters")

    def action_ask_several(self) -> None:
        """Open the screen where several checkpoints answer the same prompt."""
        from tui.screens.ask_several import AskSeveralScreen

        self._notice_the_end()
        sampling = self.query_one(SamplingRow).sampling()
        problem = self._what_prevents_asking() or (sampling if isinstance(sampling, str) else "")
        if problem or isinstance(sampling, str):
            self._say(problem)
            return
        run = self._run_directory
        prompt = self.query_one(PromptField).text or (self._last.prompt if self._last is not None else "")
        self.app.push_screen(
            AskSeveralScreen(
                [(run, step) for step in spread(run)],
                prompt=prompt,
                sampling=sampling,
                models=self._models,
                read_only=self._read_only,
            ),
            self._take_sampling,
        )

    def _take_sampling(self, sampling: Sampling | None) -> None:
        if sampling is not None:
            self.query_one(SamplingRow).set(sampling)

    def action_show_earlier(self) -> None:
        """Show what was answered in earlier conversations above this one, or take it away again."""
        if self._earlier is not None:
            self._earlier.remove()
            self._earlier = None
            return
        rows = self._transcript.earlier_answers(MOST_EARLIER)
        if not rows:
            self._say("There was no earlier conversation with this run.")
            return
        self._earlier = Static(earlier_text(rows, ascii=self._ascii), id="earlier", markup=False)
        self.query_one("#chat-empty").display = False
        transcript = self.query_one("#transcript", VerticalScroll)
        transcript.mount(self._earlier, before=0)
        # From its end it is read upwards; with a conversation below, that stays where it is on the screen.
        self.call_after_refresh(transcript.scroll_end, animate=False)

    def action_leave(self) -> None:
        """Stop the answer or the evaluation that is going on; without one, leave the chat."""
        self._notice_the_end()
        if going_on := self._answer or self._evaluation:
            going_on.cancel()
            self._say("")
            self._notice_the_end()
        else:
            self.screen.set_focus(None)
            self.post_message(self.Left())

    def action_scroll_transcript(self, pages: int) -> None:
        """Scroll the conversation by so many pages."""
        transcript = self.query_one("#transcript", VerticalScroll)
        transcript.scroll_relative(y=pages * max(1, transcript.size.height - 1), animate=False)
