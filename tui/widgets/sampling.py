"""The row under the prompt: how the model chooses its tokens."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal
from textual.widgets import Label

from minigpt.inert import inert_line
from minigpt.sampling import Sampling
from tui.widgets.line_input import LineInput


@dataclass(frozen=True)
class Setting:
    """One number: its label and full name, its range, and by how much the arrow keys change it."""

    label: str
    name: str
    least: float
    most: float
    step: float
    width: int
    whole: bool = True

    def read(self, text: str) -> float | None:
        """The number that was typed, or None if it is none or out of range."""
        try:
            value: float = int(text) if self.whole else float(text)
        except ValueError:
            return None
        return value if self.least <= value <= self.most else None

    def write(self, value: float) -> str:
        """The number as it stands in its field."""
        return str(int(value)) if self.whole else f"{value:g}"

    def problem(self, text: str) -> str:
        """What is wrong with what was typed."""
        kind = "a whole number" if self.whole else "a number"
        return f"{self.name} {inert_line(text, 20) or 'is empty'}: must be {kind} from {self.least:g} to {self.most:g}"


SETTINGS = {
    "temperature": Setting("temp", "temperature", 0, 10, 0.1, 5, whole=False),
    "top_k": Setting("top-k", "top-k", 0, 9_999, 5, 5),
    "top_p": Setting("top-p", "top-p", 0.01, 1, 0.05, 5, whole=False),
    "max_new_tokens": Setting("length", "length", 1, 9_999, 50, 5),
    "seed": Setting("seed", "seed", 0, 999_999, 1, 7),
}


class SamplingInput(LineInput):
    """One of the numbers; up and down change it."""

    BINDING_GROUP_TITLE = "Setting"
    BINDINGS = [
        Binding("up", "change(1)", "more", show=False),
        Binding("down", "change(-1)", "less", show=False),
        Binding("enter", "submit", "back to the prompt, if the number is right", show=False),
    ]

    def __init__(self, name: str, value: float) -> None:
        self.setting = SETTINGS[name]
        text = self.setting.write(value)
        super().__init__(text, name=name, max_length=self.setting.width - 1)
        self.styles.width = self.setting.width

    async def action_submit(self) -> None:
        """Go back to the prompt; a wrong number is mended first."""
        if self.setting.read(self.value) is None:
            return
        # At once: `focus()` would take effect only after the letters that have been typed meanwhile.
        self.screen.set_focus(self.screen.query_one("#prompt"))

    def action_change(self, direction: int) -> None:
        """Change the number by one step, within its range."""
        setting = self.setting
        value = setting.read(self.value)
        if value is not None:
            # 0.1 + 0.2 is not to be seen.
            changed = round(value + direction * setting.step, 6)
            self.value = setting.write(min(setting.most, max(setting.least, changed)))


# So many cells for all of them in one row.
_WIDE = 62


class SamplingRow(Container):
    """Temperature, top-k, top-p, length and seed, to be reached with Tab; in two rows where one is too short."""

    def compose(self) -> ComposeResult:
        defaults = Sampling()
        for names in (("temperature", "top_k", "top_p"), ("max_new_tokens", "seed")):
            with Horizontal():
                for name in names:
                    yield Label(SETTINGS[name].label)
                    yield SamplingInput(name, getattr(defaults, name))

    def on_resize(self) -> None:
        self.set_class(self.size.width < _WIDE, "-two-rows")

    def sampling(self) -> Sampling | str:
        """What is set, or the one message about what is wrong with it."""
        values = {}
        for field in self.query(SamplingInput):
            value = field.setting.read(field.value)
            field.set_class(value is None, "-invalid")
            values[field.name or ""] = value
        for field in self.query(SamplingInput):
            if values[field.name or ""] is None:
                return field.setting.problem(field.value)
        return Sampling(**values)  # type: ignore[arg-type]
