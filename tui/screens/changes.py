"""The small window in which one changes settings of a run before it is gone on with."""

import asyncio
from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Static
from textual.widgets.input import Selection

from minigpt.display import changed_settings
from minigpt.errors import UserError
from minigpt.inert import inert_line, inert_pane
from minigpt.journal import count_in, number_in
from minigpt.rundir import RunDirectory
from tui.run.following import settings_of
from tui.widgets.line_input import LineInput

CHECK_DELAY = 0.2  # seconds after the last key
_MOST_LINES = 12

_EXAMPLES = (
    "train.learning_rate = 0.0005",
    "train.eval_interval = 500",
    "sample.prompt = Once upon a time",
    "train.max_minutes = 30",
)
"""What stands in the lines in which nothing has been typed yet."""

_KEPT = ("run.", "model.", "data.", "train.batch_size", "train.seed", "train.optimizer")
"""Settings that a run keeps; they are not suggested, and `resumed_config` says why."""


class ChangesScreen(ModalScreen[dict[str, str]]):
    """Asks which settings a run is to go on with; returns them by their dotted keys, as they were typed.

    What is typed is checked as it would be on the command line, and said before anything begins.
    """

    BINDING_GROUP_TITLE = "Settings"
    AUTO_FOCUS = "LineInput"
    BINDINGS = [
        Binding("enter,ctrl+s", "go_on", "go on with these settings", show=False),
        Binding("escape", "dismiss(None)", "leave the run as it is", show=False),
        # With priority: a field would scroll.
        Binding("up", "app.focus_previous", "the line before", show=False, priority=True),
        Binding("down", "app.focus_next", "the next line", show=False, priority=True),
    ]

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run_directory = run
        self._suggester = SuggestFromList(suggested_settings(run), case_sensitive=False)
        self._going_on = False
        """Whether what was there at an Enter is being looked at: what is typed behind it is not meant for it."""

    def compose(self) -> ComposeResult:
        with Vertical(id="changes") as window:
            window.border_title = Text(f"go on with {inert_line(self._run_directory.name, 50)}")
            window.border_subtitle = "Enter goes on, ↓ next line, → completes, Esc leaves it"
            yield Static(
                "Settings to change, one a line, as section.name = value: a longer training, intervals, learning rate "
                "and schedule, sample.*, device.* and so on. Model and text stay.",
                id="changes-hint",
            )
            with Vertical(id="changes-lines"):
                yield (first := self._line(suggested_line(self._run_directory)))
                first.select_on_focus = False
                first.selection = Selection(first.value.rindex(" ") + 1, len(first.value))
                yield self._line(number=1)
            yield Static(id="changes-said", markup=False)

    def on_mount(self) -> None:
        self._check_later()

    def _line(self, value: str = "", number: int = 0) -> LineInput:
        field = LineInput(value, placeholder=f"such as {_EXAMPLES[(number - 1) % len(_EXAMPLES)]}")
        field.suggester = self._suggester
        return field

    def on_input_changed(self) -> None:
        lines = self.query_one("#changes-lines")
        fields = list(self.query(LineInput))
        if fields[-1].value and len(fields) < _MOST_LINES:
            lines.mount(self._line(number=len(fields)))
        if not self._going_on:
            self._check_later()

    def on_input_submitted(self, event: LineInput.Submitted) -> None:
        # Not what was typed behind Enter, which may stand in the field by now.
        self._go_on([event.value if field is event.input else field.value for field in self.query(LineInput)])

    def action_go_on(self) -> None:
        """Return the settings, if the run can go on with them."""
        self._go_on(self._lines)

    @property
    def _lines(self) -> list[str]:
        return [field.value for field in self.query(LineInput)]

    def _go_on(self, lines: Sequence[str]) -> None:
        if not self._going_on:
            self._going_on = True
            self.run_worker(self._check(lines), exclusive=True)

    def _check_later(self) -> None:
        self.run_worker(self._check(), exclusive=True)

    async def _check(self, submitted: Sequence[str] | None = None) -> None:
        if submitted is None:
            await asyncio.sleep(CHECK_DELAY)
        lines = self._lines if submitted is None else submitted
        # In a thread: pydantic may still have to be imported, and a long run's events take a while to read.
        settings, words = await asyncio.to_thread(_examined, self._run_directory, lines)
        for said in self.query("#changes-said").results(Static):  # none if the screen was left meanwhile
            said.update(words)
            said.set_class(settings is None, "-refused")
        if submitted is None:
            return
        self._going_on = False
        if settings is not None and self.is_current:
            self.dismiss(settings)
        elif self._lines != submitted:
            self._check_later()


def suggested_settings(run: RunDirectory) -> list[str]:
    """Each setting of a run that may be changed, as a line with the value it has now."""
    found = []
    for section, values in settings_of(run).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            key = f"{section}.{name}"
            if key.startswith(_KEPT) or not isinstance(value, bool | int | float | str):
                continue
            if isinstance(value, int) and abs(value) >= 2**62:
                continue
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if (line := f"{key} = {text}") == inert_line(line):
                found.append(line)
    return found


def suggested_line(run: RunDirectory) -> str:
    """The length of a run as a line to be changed; twice as much of what has ended it, if that is what has."""
    table = settings_of(run).get("train")
    train = table if isinstance(table, dict) else {}
    kept = run.checkpoints()
    info = kept[-1].info() if kept else {}
    step, elapsed = kept[-1].step if kept else 0, number_in(info, "elapsed") or 0.0
    steps, epochs = count_in(train, "max_steps") or 0, number_in(train, "max_epochs") or 0.0
    minutes, patience = number_in(train, "max_minutes") or 0.0, count_in(train, "patience") or 0
    if steps and step >= steps:
        return f"train.max_epochs = {2 * epochs:g}" if epochs else f"train.max_steps = {2 * step}"
    if minutes and elapsed >= 60 * minutes:
        return f"train.max_minutes = {2 * minutes:g}"
    if patience and (count_in(info, "evaluations_since_best") or 0) >= patience:
        return f"train.patience = {2 * patience}"
    if epochs:
        return f"train.max_epochs = {epochs:g}"
    return f"train.max_steps = {steps}" if steps or not minutes else f"train.max_minutes = {minutes:g}"


def typed_settings(lines: Sequence[str]) -> dict[str, str]:
    """Lines like `train.max_steps = 5000`, or `--train.max-steps 5000` as on the command line. Raises UserError."""
    settings = {}
    for line in filter(None, map(str.strip, lines)):
        key, equals, value = line.partition("=")
        if not equals:
            key, _, value = line.partition(" ")
        value = value.strip()
        if not value:
            raise UserError(f"{inert_line(line, 60)}: write it as train.max_steps = 5000")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        settings[key.strip().removeprefix("--").replace("-", "_")] = value
    return settings


def _examined(run: RunDirectory, lines: Sequence[str]) -> tuple[dict[str, str] | None, str]:
    """The settings, None if the run cannot go on with them, and what is to be said of them."""
    from minigpt.resumption import resumed_config

    try:
        settings = typed_settings(lines)
        _, changes = resumed_config(run, settings)
    except UserError as error:
        # Its first line names the run's configuration and counts the problems.
        first, *problems = str(error).splitlines()
        return None, "\n".join(f"✗ {inert_pane(problem.strip())}" for problem in problems or [first])
    told = changed_settings({"changed": {key: list(values) for key, values in changes.items()}})
    return settings, f"✓ {told}" if told else "✓ nothing is changed: the run goes on as it was"
