"""The small window in which one gives a run another name."""

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.run_files import require_free_name
from minigpt.rundir import RunDirectory
from tui.widgets.line_input import LineInput

_LONGEST = 200  # characters


class RenameScreen(ModalScreen[str]):
    """Returns the name that was typed, which no other run has; None for the old one."""

    BINDING_GROUP_TITLE = "Another name"
    AUTO_FOCUS = "LineInput"
    BINDINGS = [
        Binding("enter", "rename", "take this name", show=False),
        Binding("escape", "dismiss(None)", "leave the old name", show=False),
    ]

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run_directory = run

    def compose(self) -> ComposeResult:
        with Vertical(id="rename") as window:
            window.border_title = Text(f"another name for {inert_line(self._run_directory.name, 44)}")
            window.border_subtitle = "Enter renames, Esc leaves it"
            yield (field := LineInput(inert_line(self._run_directory.name), max_length=_LONGEST))
            field.select_on_focus = False
            yield Static(id="rename-said", markup=False)

    def on_input_changed(self) -> None:
        self.query_one("#rename-said", Static).update(self._refusal(self.query_one(LineInput).value))

    def on_input_submitted(self, event: LineInput.Submitted) -> None:
        self._take(event.value)  # not what was typed behind Enter, which may stand in the field by now

    def action_rename(self) -> None:
        """Close with the name, unless it cannot be taken; with the old one nothing is to be done."""
        self._take(self.query_one(LineInput).value)

    def _take(self, name: str) -> None:
        if name == self._run_directory.name:
            self.dismiss(None)
        elif not self._refusal(name):
            self.dismiss(name)

    def _refusal(self, name: str) -> str:
        if name == self._run_directory.name:
            return ""
        try:
            require_free_name(self._run_directory, name)
        except UserError as error:
            return f"✗ {error}"
        return ""
