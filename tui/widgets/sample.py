"""The sample pane: what the model wrote at some step, the newest unless the reader leafs back."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt.inert import inert_pane
from minigpt.journal import Row, count_in, text_in

_LONGEST = 100_000  # characters; laying out more would hold up the screen


class SamplePane(VerticalScroll):
    """Shows one sample and leafs through all of them."""

    BORDER_TITLE = " sample "
    BINDING_GROUP_TITLE = "Sample"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples: list[Row] = []
        self._index = -1
        """Which sample is shown; the newest is followed while it is the last."""
        self._title = ""

    def compose(self) -> ComposeResult:
        yield Static("no sample yet", id="sample-text", markup=False)

    def show(self, samples: list[Row]) -> None:
        """Take in the samples there are now; a reader who has leafed back stays where they are."""
        at_newest = self._index >= len(self._samples) - 1
        shown = self._samples[self._index] if 0 <= self._index < len(self._samples) else None
        self._samples = list(samples)
        if at_newest or shown not in samples:
            self._index = len(samples) - 1
        else:
            self._index = samples.index(shown)
        self._show_current(changed=self._index < 0 or samples[self._index] is not shown)

    def leaf(self, by: int) -> None:
        """Go to an older (-1) or newer (1) sample."""
        index = max(0, min(len(self._samples) - 1, self._index + by))
        if self._samples and index != self._index:
            self._index = index
            self._show_current(changed=True)

    def _show_current(self, *, changed: bool) -> None:
        if not self._samples:
            return
        sample, number = self._samples[self._index], len(self._samples)
        step = count_in(sample, "step")
        place = "?" if step is None else f"{step:,}"
        title = f"sample · step {place}"
        if number > 1:
            title += f" · {self._index + 1} of {number}  [ ◂ ▸ ]"
        if title != self._title:
            self._title = title
            # As Content: the brackets of a plain string would be taken for markup.
            self.border_title = Content(f" {title} ")
        if changed:
            self.query_one("#sample-text", Static).update(sample_text(sample))
            self.scroll_home(animate=False)


def sample_text(sample: Row) -> Content:
    """The prompt, set apart, and what the model went on with."""
    prompt, text = inert_pane(_shortened(text_in(sample, "prompt"))), inert_pane(_shortened(text_in(sample, "text")))
    # A prompt of empty lines alone says nothing, and blank lines on top look like a fault.
    if not prompt.strip():
        return Content(text.lstrip("\n"))
    return Content.assemble((prompt, "bold $secondary"), text)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\n… and {len(text) - _LONGEST:,} characters more in samples.jsonl"
