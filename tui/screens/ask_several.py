"""One prompt and seed, answered by several checkpoints of a run or of several, side by side."""

from collections.abc import Sequence
from math import ceil
from time import monotonic

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Label, Static, TextArea

from minigpt.errors import UserError
from minigpt.inert import inert, inert_line, inert_pane
from minigpt.journal import number_in
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.sampling import Sampling
from tui.asking.answering import Answer, AnswersInTurn, Unknown
from tui.asking.models import Described, Models
from tui.asking.transcript import Transcript
from tui.figures import loss_figure
from tui.terminal.clipboard import copy
from tui.widgets.exchange import speed_of
from tui.widgets.key_line import KeyLine
from tui.widgets.prompt import PromptField
from tui.widgets.row_table import Entry, Field, RowTable
from tui.widgets.sampling import SamplingRow

DRAW_INTERVAL = 0.08  # seconds between two looks at a growing answer
MOST_CHOSEN = 12
MOST_LISTED = 200  # checkpoints of all runs, evenly chosen from more: each is a small file to read
_ANSWERING = "The models are still answering; Esc stops them."
_NARROWEST, _LOWEST = 24, 8  # cells and lines of a column; where there are fewer the answers stand below each other
_AROUND = 6  # lines of the screen that are not the answers'


class CheckpointTable(RowTable):
    """The checkpoints that may answer; those that will are ticked."""

    BINDING_GROUP_TITLE = "Checkpoints"
    BINDINGS = [
        Binding("space", "screen.tick", "tick", tooltip="let this checkpoint answer, or not"),
        Binding("enter", "screen.ask", "ask", tooltip="let the ticked checkpoints answer the prompt"),
    ]


class AskSeveralScreen(Screen[Sampling | None]):
    """Asks the checkpoints that are ticked in a list, one after the other: one model at a time is in memory.

    `choices` are those ticked at first, as a run and "last", "best" or a step; the list has all that their runs keep.
    The answers go into the runs' transcripts too, unless `read_only`. It returns the settings as they were left; None
    if they are no numbers that can be used.
    """

    BINDING_GROUP_TITLE = "Ask several"
    AUTO_FOCUS = "#prompt"
    BINDINGS = [
        Binding("ctrl+o", "choose", "checkpoints", tooltip="back to the list of checkpoints"),
        Binding("ctrl+n", "again", "again", tooltip="the same prompt and checkpoints with the next seed"),
        Binding("ctrl+y", "copy_answers", "copy", tooltip="copy all answers"),
        Binding("escape", "leave", "stop/leave", tooltip="stop the answers; without any going on, leave"),
        Binding("ctrl+r", "ask_known('replace')", "ask, unknown characters replaced", show=False, priority=True),
        Binding("ctrl+d", "ask_known('drop')", "ask, unknown characters left out", show=False, priority=True),
        Binding("pageup", "scroll_answers(-1)", "up in the answers", show=False),
        Binding("pagedown", "scroll_answers(1)", "down in the answers", show=False),
    ]

    def __init__(
        self,
        choices: Sequence[tuple[RunDirectory, str]],
        *,
        prompt: str = "",
        sampling: Sampling = Sampling(),  # noqa: B008 - it is frozen
        models: Models | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__()
        self._runs = list({run.path: run for run, _ in choices}.values())
        self._read_only = read_only
        self._transcripts = [Transcript(run, read_only=read_only) for run in self._runs]
        self._models = models or Models()
        self._prompt = prompt
        self._sampling = sampling
        self._kept: dict[str, tuple[int, Described]] = {}
        """By its key in the list each checkpoint, and which of the runs has it."""
        self._ticked: set[str] = set()
        self._columns: list[Column] = []
        self._job: AnswersInTurn | None = None
        self._refused = ""
        """The prompt with unknown characters of which the user may say what becomes of them."""
        self._drawing: Timer | None = None
        self._next_drawing = 0.0
        self._said = ""
        self._said_about: list[str] = []
        self._begin_with(choices)

    def _begin_with(self, choices: Sequence[tuple[RunDirectory, str]]) -> None:
        paths = [run.path for run in self._runs]
        for run, which in choices:
            try:
                checkpoint = run.checkpoint(which)
            except UserError:
                continue  # gone meanwhile: there are others to tick
            self._ticked.add(_key(paths.index(run.path), checkpoint))
        self._list_checkpoints()

    def _list_checkpoints(self) -> None:
        best = [run.best_step() for run in self._runs]
        kept = [(index, one) for index, run in enumerate(self._runs) for one in run.checkpoints()]
        before, self._kept = self._kept, {}
        spacing = max(1.0, len(kept) / MOST_LISTED)
        listed = {int(spacing * place) for place in range(min(len(kept), MOST_LISTED))}
        for place, (index, one) in enumerate(kept):
            key = _key(index, one)
            if place not in listed and key not in self._ticked and one.step != best[index]:
                continue
            loss = before[key][1].val_loss if key in before else number_in(one.info(), "val_loss")
            self._kept[key] = index, Described(one, loss, one.step == best[index])
        self._ticked &= self._kept.keys()

    def compose(self) -> ComposeResult:
        yield Static(id="several-title", markup=False)
        several = len(self._runs) > 1
        fields = [Field(""), Field("step", "right"), Field("val loss", "right"), Field("", flexible=not several)]
        yield CheckpointTable([*fields, *([Field("run", flexible=True, cut=True)] if several else [])], id="kept")
        yield Container(id="answers")
        yield Static(id="several-said", markup=False)
        with Horizontal(classes="prompt-row"):
            yield Label("› ", classes="prompt-mark")
            yield PromptField(self.ask, self._prompt)
        yield SamplingRow(self._sampling)
        yield KeyLine()

    def on_mount(self) -> None:
        prompts = [prompt for transcript in self._transcripts[:1] for prompt in transcript.earlier_prompts()]
        self.query_one(PromptField).set_history(prompts)
        self._drawing = self.set_interval(DRAW_INTERVAL, self._draw, pause=True)
        self._say("")
        self._show_title()
        self.call_after_refresh(self._show_list)

    def on_unmount(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _show_title(self) -> None:
        names = ", ".join(inert_line(run.name, 60) for run in self._runs)
        words = f"{len(self._ticked)} of {len(self._kept)} checkpoints · {names}"
        self.query_one("#several-title", Static).update(
            Content.assemble(("ask several  ", "bold"), (words, "$foreground 60%"))
        )

    def _show_list(self) -> None:
        self.query_one(CheckpointTable).show([self._entry(key) for key in self._kept])

    def _entry(self, key: str) -> Entry:
        index, described = self._kept[key]
        loss = "–" if described.val_loss is None else loss_figure(described.val_loss)
        best = "best" if described.is_best else ""
        cells = ["[x]" if key in self._ticked else "[ ]", f"{described.checkpoint.step:,}", loss, best]
        return Entry(key, (*cells, *([self._runs[index].name] if len(self._runs) > 1 else [])))

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, prompt: str) -> bool:
        """Let the ticked checkpoints answer; the prompt stays where it is."""
        self._ask(prompt or "\n", "refuse")
        return False

    def _ask(self, prompt: str, unknown: Unknown) -> None:
        sampling = self.query_one(SamplingRow).sampling()
        if self._job is not None:
            self._say(_ANSWERING)
        elif isinstance(sampling, str):
            self._say(sampling)
        elif not self._kept:
            self._say("No checkpoint yet.")
        elif not self._ticked:
            self._say("No checkpoint is ticked: Space ticks one in the list.")
            self.action_choose()
        else:
            self._say("")
            ticked = [key for key in self._kept if key in self._ticked]
            self._show_answers({key: self._answer(key, prompt, sampling, unknown) for key in ticked})

    def _answer(self, key: str, prompt: str, sampling: Sampling, unknown: Unknown) -> Answer:
        index, described = self._kept[key]
        run, transcript, step = self._runs[index], self._transcripts[index], str(described.checkpoint.step)
        return Answer(run, prompt, sampling, self._models, transcript, which=step, unknown=unknown)

    def _show_answers(self, answers: dict[str, Answer]) -> None:
        place = self.query_one("#answers", Container)
        place.remove_children()
        self._columns = []
        for key, answer in answers.items():
            index, described = self._kept[key]
            best = " · best" if described.is_best else ""
            if len(self._runs) > 1:
                column = Column(answer, self._runs[index].name, described.named + best)
            else:  # a narrow column has no room for more than that in its frame
                loss = "" if described.val_loss is None else f"val {loss_figure(described.val_loss)}"
                column = Column(answer, f"step {described.checkpoint.step:,}{best}", loss)
            place.mount(column)
            self._columns.append(column)
        self.add_class("-answers")
        self._arrange()
        self.refresh_bindings()
        self._job = AnswersInTurn(list(answers.values()))
        self._job.start()
        self._next_drawing = 0.0
        if self._drawing is not None:
            self._drawing.resume()

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Side by side, in several rows if need be; below each other where the rows would be too low."""
        count = max(1, len(self._columns))
        rows = ceil(count / max(1, self.size.width // _NARROWEST))
        self.set_class(rows == 1 or self.size.height - _AROUND >= _LOWEST * rows, "-columns")
        self.query_one("#answers").styles.grid_size_columns = ceil(count / rows)

    def _draw(self) -> None:
        job = self._job
        if job is None:
            return
        over = not job.going_on
        if not over and monotonic() < self._next_drawing:
            return
        written = sum(column.draw() for column in self._columns)
        # Wrapping a long answer again costs more: then less often.
        self._next_drawing = monotonic() + written / 40_000
        if over:
            self._job = None
            if self._drawing is not None:
                self._drawing.pause()
            if self._said == _ANSWERING:
                self._say("")
            refused = [column.answer.prompt for column in self._columns if column.answer.refused_characters]
            if refused:
                self._say("Ctrl+R asks with these characters replaced, Ctrl+D without them.")
                self._refused = refused[0]

    def _say(self, text: str) -> None:
        self._refused = ""
        self._said, self._said_about = text, self._typed()
        said = self.query_one("#several-said", Static)
        said.update(inert_pane(text))
        said.display = bool(text)

    def _typed(self) -> list[str]:
        return [self.query_one(PromptField).text, *(field.value for field in self.query(Input))]

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    @on(Input.Changed)
    @on(TextArea.Changed)
    def typing(self, event: Input.Changed | TextArea.Changed) -> None:
        """Take the last message away once the user goes on, and say what is wrong with a setting."""
        event.stop()
        if self._typed() != self._said_about:
            sampling = self.query_one(SamplingRow).sampling()
            self._say(sampling if isinstance(sampling, str) else "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "ask_known":
            return bool(self._refused)
        return bool(self._columns) if action in {"again", "copy_answers"} else True

    def action_tick(self) -> None:
        """Tick the checkpoint under the cursor, or take its tick away."""
        key = self.query_one(CheckpointTable).chosen
        if key is None:
            return
        if key not in self._ticked and len(self._ticked) >= MOST_CHOSEN:
            self._say(f"At most {MOST_CHOSEN} at a time.")
            return
        self._ticked ^= {key}
        self._say("")
        self._show_list()
        self._show_title()

    @on(RowTable.Chosen)
    def clicked(self) -> None:
        """Tick by mouse."""
        self.action_tick()

    def action_ask(self) -> None:
        """Ask what stands in the prompt."""
        self.ask(self.query_one(PromptField).text)

    def action_ask_known(self, unknown: Unknown) -> None:
        """Ask the refused prompt again, with its unknown characters replaced or dropped."""
        self._ask(self._refused, unknown)

    def action_again(self) -> None:
        """Ask the same again with the next seed."""
        row = self.query_one(SamplingRow)
        sampling = row.sampling()
        asked = self._columns[0].answer.sampling if self._columns else None
        if self._job is None and not isinstance(sampling, str) and sampling == asked:
            row.set_seed((sampling.seed + 1) % 1_000_000)
        self.action_ask()

    def action_choose(self) -> None:
        """Show the list again, with the checkpoints that there are by now."""
        self.remove_class("-answers")
        self._list_checkpoints()
        self._show_title()
        self.set_focus(self.query_one(CheckpointTable))
        self.call_after_refresh(self._show_list)

    def action_copy_answers(self) -> None:
        """Copy the prompt, the settings and all answers into the terminal's clipboard."""
        if not self._columns:
            return
        first = self._columns[0].answer
        parts = [f"prompt: {first.prompt}", f"seed {first.sampling.seed}, temperature {first.sampling.temperature:g}"]
        for column in self._columns:
            parts += ["", f"== {column.named} ==", column.answer.error or column.answer.text]
        text = inert("\n".join(parts), tabs=True)
        copy(self.app, text, f"{len(self._columns)} answers are copied")

    def action_leave(self) -> None:
        """Stop the answers; without any going on, leave."""
        if self._job is not None:
            self._job.cancel()
            self._next_drawing = 0.0
            self._draw()
        else:
            sampling = self.query_one(SamplingRow).sampling()
            self.dismiss(None if isinstance(sampling, str) else sampling)

    def action_scroll_answers(self, pages: int) -> None:
        """Scroll the answers, columns all together."""
        side_by_side = self.has_class("-columns")
        for place in self._columns if side_by_side else [self.query_one("#answers")]:
            place.scroll_relative(y=pages * max(1, place.size.height - 1), animate=False)


class Column(VerticalScroll):
    """What one checkpoint makes of the prompt."""

    def __init__(self, answer: Answer, title: str, details: str) -> None:
        super().__init__(Static(column_text(answer, details), markup=False), can_focus=False)
        self.answer = answer
        self.named = " · ".join(words for words in (title, details) if words)
        self._details = details
        self.border_title = Content(f" {inert_line(title)} ")

    def draw(self) -> int:
        """Show what has come meanwhile; returns the length of what was drawn."""
        shown, content = self.query_one(Static), column_text(self.answer, self._details)
        if content == shown.content:
            return 0
        shown.update(content)
        return len(content)


def column_text(answer: Answer, details: str) -> Content:
    """Who answers how fast, and what has come of the prompt, or why nothing yet."""
    muted = "$foreground 60%"
    state = {"waiting": "waits for its turn", "loading": "opening the checkpoint …"}.get(answer.state, "")
    said = [details, state or f"seed {answer.sampling.seed}", speed_of(answer)]
    parts = [
        Content.styled(" · ".join(words for words in said if words) + "\n", muted),
        Content(inert_pane(answer.text.removeprefix("\n"))),
    ]
    match answer.state:
        case "failed":
            gap = "\n" if answer.text else ""
            parts.append(Content.styled(f"{gap}✗ {inert_pane(answer.error)}", "$text-error"))
        case "stopped":
            parts.append(Content.styled("\n(stopped)" if answer.text else "(stopped)", muted))
    return Content.assemble(*parts)


def _key(index: int, checkpoint: Checkpoint) -> str:
    return f"{index}:{checkpoint.step}"
