"""The row under the prompt: how the model chooses its tokens."""

from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal
from textual.widgets import Label

from minigpt.inert import inert_line
from minigpt.prompt import typed_prompt
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
    "min_p": Setting("min-p", "min-p", 0, 1, 0.05, 5, whole=False),
    "repetition_penalty": Setting("penalty", "repetition penalty", 0.01, 10, 0.05, 5, whole=False),
}


class SettingInput(LineInput):
    """One of the settings."""

    BINDING_GROUP_TITLE = "Setting"
    BINDINGS = [Binding("enter", "submit", "back to the prompt, if the number is right", show=False)]

    def is_right(self) -> bool:
        """Whether it can be asked with what stands here."""
        return True

    async def action_submit(self) -> None:
        """Go back to the prompt; a wrong number is mended first."""
        if self.is_right():
            # At once: `focus()` would take effect only after the letters that have been typed meanwhile.
            self.screen.set_focus(self.screen.query_one("#prompt"))


class SamplingInput(SettingInput):
    """One of the numbers; up and down change it."""

    BINDINGS = [
        Binding("up", "change(1)", "change the value", key_display="↑↓", tooltip="more; down: less"),
        Binding("down", "change(-1)", "less", show=False),
    ]

    def __init__(self, name: str, value: float) -> None:
        self.setting = SETTINGS[name]
        text = self.setting.write(value)
        super().__init__(text, name=name, max_length=self.setting.width - 1)
        self.styles.width = self.setting.width

    def is_right(self) -> bool:
        return self.setting.read(self.value) is not None

    def action_change(self, direction: int) -> None:
        """Change the number by one step, within its range."""
        setting = self.setting
        value = setting.read(self.value)
        if value is not None:
            # 0.1 + 0.2 is not to be seen.
            changed = round(value + direction * setting.step, 6)
            self.value = setting.write(min(setting.most, max(setting.least, changed)))


# So many cells for the usual ones of them in one row.
_WIDE = 62
_USUAL = (("temperature", "top_k", "top_p"), ("max_new_tokens", "seed"))
_RARE = ("min_p", "repetition_penalty")


class SamplingRow(Container):
    """The settings, to be reached with Tab: temperature, top-k, top-p, length and seed; two rows in little room.

    Below them min-p, repetition penalty and stop text; in a low chat only while one of them is set, or in the place of
    the others while one of them has the focus: nothing else is to move then.
    """

    def __init__(self, sampling: Sampling = Sampling()) -> None:  # noqa: B008 - it is frozen
        super().__init__()
        self._initial = sampling

    def compose(self) -> ComposeResult:
        initial = self._initial
        with Container(classes="usual"):
            for names in _USUAL:
                with Horizontal():
                    for name in names:
                        yield Label(SETTINGS[name].label)
                        yield SamplingInput(name, getattr(initial, name))
        with Horizontal(classes="rare"):
            for name in _RARE:
                yield Label(SETTINGS[name].label)
                yield SamplingInput(name, getattr(initial, name))
            yield Label("stop")
            yield SettingInput(_as_typed(initial.stop), name="stop", placeholder="text; \\n = line")

    def on_resize(self) -> None:
        self.set_class(self.size.width < _WIDE, "-two-rows")

    def sampling(self) -> Sampling | str:
        """What is set, or the one message about what is wrong with it."""
        values: dict[str, float | str] = {}
        problem = ""
        for field in self.query(SamplingInput):
            value = field.setting.read(field.value)
            field.set_class(value is None, "-invalid")
            if value is None:
                problem = problem or field.setting.problem(field.value)
            else:
                values[field.name or ""] = value
        values["stop"] = typed_prompt(next(field.value for field in self.query(SettingInput) if field.name == "stop"))
        plain = Sampling()
        self.set_class(any(values.get(name) != getattr(plain, name) for name in (*_RARE, "stop")), "-rare")
        return problem or Sampling(**values)  # type: ignore[arg-type]

    def set(self, sampling: Sampling) -> None:
        """Take other settings."""
        for field in self.query(SamplingInput):
            field.value = field.setting.write(getattr(sampling, field.name or ""))
        stop = next(field for field in self.query(SettingInput) if field.name == "stop")
        stop.value = _as_typed(sampling.stop)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.set_class(event.widget.parent is self.query_one(".rare"), "-in-rare")

    def on_descendant_blur(self) -> None:
        self.remove_class("-in-rare")

    def set_seed(self, seed: int) -> None:
        """Take another seed."""
        field = next(field for field in self.query(SamplingInput) if field.name == "seed")
        field.value = field.setting.write(seed)


def _as_typed(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
