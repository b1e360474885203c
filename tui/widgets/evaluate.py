"""The evaluate pane: how well a checkpoint predicts the validation split, or a text that is typed or pasted here."""

from collections.abc import Callable

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static, TextArea

from minigpt.inert import inert, inert_pane
from minigpt.journal import Row
from minigpt.rundir import RunDirectory
from tui.asking.answering import Unknown
from tui.asking.evaluating import EVALUATING, MOST_RESULTS, Evaluating, kept_results
from tui.asking.models import CHANGE_KEY, NEWEST, Models, chosen_title
from tui.asking.transcript import LONGEST_TEXT
from tui.widgets.exchange import result_text
from tui.widgets.line_input import obey_in_order

LOOK_INTERVAL = 0.2  # seconds between two looks at an evaluation
_NO_CHECKPOINT = "No checkpoint yet."


class TextField(TextArea):
    """Takes the text to be evaluated: typed, or pasted with all its lines. Ctrl+E calls `evaluate`."""

    BINDING_GROUP_TITLE = "Text"
    BINDINGS = [
        # Not the pane's with priority: that would overtake the letters typed before it.
        Binding("ctrl+e", "evaluate", "evaluate text", key_display="^e", tooltip="evaluate the text"),
    ]

    def __init__(self, evaluate: Callable[[], None]) -> None:
        super().__init__(
            id="evaluate-text",
            compact=True,
            highlight_cursor_line=False,
            placeholder="Enter or Tab, then type or paste a text.\nCtrl+E evaluates it, Ctrl+S the validation split.",
        )
        self.cursor_blink = False
        self._evaluate = evaluate

    def action_evaluate(self) -> None:
        """Evaluate what stands here."""
        self._evaluate()

    async def on_key(self, event: events.Key) -> None:
        await obey_in_order(self, event)

    def on_paste(self, event: events.Paste) -> None:
        # What is shown is what is evaluated: so it is made printable before, not only on the screen.
        event.prevent_default()
        event.stop()
        text = inert(event.text.replace("\r\n", "\n").replace("\r", "\n"), tabs=True)
        room = max(0, LONGEST_TEXT - len(self.text) + len(self.selected_text))
        if len(text) > room:
            self.notify(
                f"The field takes {LONGEST_TEXT:,} characters: the rest was left out. "
                "`minigpt evaluate RUN --split FILE` takes files of any length.",
                severity="warning",
                markup=False,
            )
        result = self.replace(text[:room], *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)


class Results(VerticalScroll, can_focus=True):
    """The results. Here, and not in the field, the pane begins: so the keys that switch panes go on working."""

    BINDING_GROUP_TITLE = "Results"
    BINDINGS = [
        Binding("enter", "write", "write a text", tooltip="go into the field for a text of yours; so does Tab"),
        Binding("ctrl+e", "evaluate", "evaluate text", key_display="^e", tooltip="evaluate the text"),
    ]

    def __init__(self, field: TextField, *children: Widget) -> None:
        super().__init__(*children, id="results")
        self._field = field

    def action_write(self) -> None:
        """Go into the field."""
        # At once: `focus()` would take effect only after the letters that have been typed meanwhile.
        self.screen.set_focus(self._field)

    def action_evaluate(self) -> None:
        """Evaluate what stands in the field."""
        self._field.action_evaluate()

    def on_paste(self, event: events.Paste) -> None:
        self.action_write()
        self._field.on_paste(event)


class EvaluatePane(Vertical):
    """Evaluates the chosen checkpoint, in a thread, and lists the results; the newest is the last."""

    BINDING_GROUP_TITLE = "Evaluate"
    BINDINGS = [
        Binding(
            "ctrl+s", "evaluate_split", "validation split", key_display="^s", tooltip="evaluate the validation split"
        ),
        # With priority, or the field would take ctrl+d for itself.
        Binding("ctrl+r", "evaluate_known('replace')", "evaluate, unknown ones replaced", show=False, priority=True),
        Binding("ctrl+d", "evaluate_known('drop')", "evaluate, unknown ones left out", show=False, priority=True),
        Binding("escape", "leave", "stop or leave", tooltip="stop the evaluation; without one, leave the field"),
    ]

    def __init__(self, run: RunDirectory, *, read_only: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_directory = run
        self._read_only = read_only
        self._which = NEWEST
        self._models = Models()
        self._job: Evaluating | None = None
        self._refused: Evaluating | None = None
        """The text with unknown characters of which the user may say what becomes of them."""
        self._looking: Timer | None = None
        self._title = ""
        self._listed = False

    def compose(self) -> ComposeResult:
        field = TextField(self.evaluate_text)
        yield Results(
            field,
            Static(
                "How well does this checkpoint predict a text? Loss, perplexity, accuracy, bits per character and "
                f"byte: of the validation split, or of a text of yours. {CHANGE_KEY} chooses another checkpoint.",
                id="evaluate-empty",
                markup=False,
            ),
        )
        yield Static(id="evaluate-status", markup=False)
        yield field

    def on_mount(self) -> None:
        self._looking = self.set_interval(LOOK_INTERVAL, self._look, pause=True)
        self._say("")
        self.refresh_checkpoint()

    def on_unmount(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def on_resize(self) -> None:
        self.refresh_checkpoint()

    def focus(self, scroll_visible: bool = True) -> "EvaluatePane":
        """Give the keys to the results; the first time, list what was evaluated before."""
        if not self._listed:
            self._listed = True
            if rows := kept_results(self._run_directory):
                self._show(rows)
        self.screen.set_focus(self.query_one(Results), scroll_visible)
        return self

    def choose(self, which: str) -> None:
        """Evaluate another checkpoint from now on: "last", "best" or a step."""
        self._which = which
        self.refresh_checkpoint()

    def refresh_checkpoint(self) -> None:
        """Name the checkpoint that is evaluated now in the pane's title."""
        title = chosen_title(self._run_directory, self._which, "evaluate", self.size.width - 2)
        if title != self._title:
            self._title = title
            self.border_title = f" {title} "
        said = str(self.query_one("#evaluate-status", Static).content)
        if said == _NO_CHECKPOINT and self._run_directory.checkpoints():
            self._say("")

    # ── evaluating ────────────────────────────────────────────────────────────────────────────────────────────

    def evaluate_text(self) -> None:
        """Evaluate what stands in the field."""
        if text := self.query_one(TextField).text:
            self._evaluate(text, "refuse")
        else:
            self._say("There is no text yet. Ctrl+S evaluates the validation split.")

    def action_evaluate_split(self) -> None:
        """Evaluate the validation split of the run's own corpus."""
        self._evaluate(None, "refuse")

    def action_evaluate_known(self, unknown: Unknown) -> None:
        """Evaluate the refused text, with its unknown characters replaced or dropped."""
        if self._refused is not None:
            self._evaluate(self._refused.text, unknown)

    def _evaluate(self, text: str | None, unknown: Unknown) -> None:
        if self._job is not None:
            self._say(EVALUATING)
        elif not self._run_directory.checkpoints():
            self._say(_NO_CHECKPOINT)
        else:
            self._job = Evaluating(
                self._run_directory,
                self._models,
                which=self._which,
                text=text,
                unknown=unknown,
                read_only=self._read_only,
            )
            self._job.start()
            self._look()
            if self._looking is not None:
                self._looking.resume()

    def _look(self) -> None:
        job = self._job
        if job is None:
            return
        if job.going_on:
            self._say(f"{job.words} … Esc stops it.")
            return
        self._job = None
        if self._looking is not None:
            self._looking.pause()
        match job.state:
            case "failed":
                choice = "\nCtrl+R goes on with these characters replaced, Ctrl+D without them."
                self._say(f"✗ {job.error}" + (choice if job.refused_characters else ""))
                self._refused = job if job.refused_characters else None
            case "stopped":
                self._say("Stopped.")
            case _:
                self._say(job.error)
                if job.result is not None:
                    self.add(job.result)

    def add(self, result: Row) -> None:
        """List a new result."""
        self._show([result])

    def _show(self, rows: list[Row]) -> None:
        results = self.query_one("#results", VerticalScroll)
        self.query_one("#evaluate-empty").display = False
        old = list(results.query(".result"))
        for result in old[: max(0, len(old) + len(rows) - MOST_RESULTS)]:
            result.remove()
        results.mount(*(Static(result_text(row), classes="result", markup=False) for row in rows))
        self.call_after_refresh(results.scroll_end, animate=False)

    def _say(self, text: str) -> None:
        self._refused = None
        status = self.query_one("#evaluate-status", Static)
        if str(status.content) != (shown := inert_pane(text)):
            status.update(shown)
        status.display = bool(text)

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    @on(TextArea.Changed)
    def typing(self, event: TextArea.Changed) -> None:
        """Take the last message away once the user goes on."""
        event.stop()
        if self._job is None:
            self._say("")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "leave":
            # From the results Escape leads where it leads from everywhere.
            return self._job is not None or isinstance(self.screen.focused, TextField)
        return action != "evaluate_known" or self._refused is not None

    def action_leave(self) -> None:
        """Stop an evaluation that is going on; without one, go from the field back to the results."""
        if self._job is not None:
            self._job.cancel()
            self._look()
        else:
            self.screen.set_focus(self.query_one(Results))
