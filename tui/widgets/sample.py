"""The sample pane: what the model wrote at some step, the newest unless the reader leafs back, or two side by side."""

from bisect import bisect_right
from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt.inert import inert_pane
from minigpt.journal import Row, count_in, text_in
from tui.run.differences import differences
from tui.settings import DEFAULTS

_MOST_BELOW = 20_000  # characters of older samples
_LONGEST = 100_000  # characters; laying out more would hold up the screen
_SIDE_BY_SIDE = 40  # cells, below which the two stand one above the other
_TALL = 20
"""From so many rows on older samples stand below the one that is shown."""
_OLDER_ROWS = 7
"""About what a sample takes: so many of them are put there as have room, the last one perhaps in part."""


class SamplePane(VerticalScroll):
    """Shows one sample and leafs through all of them; keeps one beside the others to see what differs."""

    BORDER_TITLE = " sample "
    BINDING_GROUP_TITLE = "Sample"
    BINDINGS = [
        Binding("left", "leaf(-1)", "older sample", show=False),
        Binding("right", "leaf(1)", "newer sample", show=False),
        Binding("home", "leaf_to_end(-1)", "first sample", show=False),
        Binding("end", "leaf_to_end(1)", "newest sample", show=False),
        Binding(
            "enter",
            "pin",
            "compare",
            tooltip="keep this sample and show another beside it, with what differs underlined; again: only one",
        ),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples: Sequence[Row] = ()
        self._count = 0
        self._index = -1
        """Which sample is shown; -1 for none."""
        self._follows = True
        """Whether the newest is shown as it comes."""
        self._cursor: int | None = None
        """The step of the chart's cursor, as long as the sample there is shown."""
        self._pinned: Row | None = None
        self._drawn: tuple[Row | None, Row | None, int | None, int] = (None, None, None, 0)
        self._title = ""

    def compose(self) -> ComposeResult:
        with Container(id="sample-sides"):
            with Vertical(id="sample-pinned-side"):
                yield Static(id="sample-pinned-head", markup=False)
                yield Static(id="sample-pinned", markup=False)
            with Vertical(id="sample-side"):
                yield Static(id="sample-head", markup=False)
                yield Static("no sample yet", id="sample-text", markup=False)
        yield Static(id="sample-older", markup=False)

    # ── which sample ──────────────────────────────────────────────────────────────────────────────────────────

    def show(self, samples: Sequence[Row]) -> None:
        """Take in the samples there are now; a reader who has leafed back stays where they are.

        The list is kept, not copied: a run may have thousands.
        """
        if samples is self._samples and len(samples) == self._count:
            return
        shown = self._shown
        self._samples, self._count = samples, len(samples)
        if self._cursor is not None:
            self._index = self._place_at(self._cursor)
        elif self._follows or shown is None:
            self._index = self._past_kept(len(samples) - 1)
        else:
            self._index = self._past_kept(self._place_of(shown))
        self._draw()

    def leaf(self, by: int) -> None:
        """Go to an older (-1) or newer (1) sample."""
        self._go_to(self._index + by, by)

    def at_step(self, step: int | None) -> None:
        """Show the newest sample at or before a step, or with None the newest one again, and follow it."""
        self._cursor, self._follows = step, step is None
        self._index = self._past_kept(len(self._samples) - 1) if step is None else self._place_at(step)
        self._draw()

    def action_leaf(self, by: int) -> None:
        """Go to an older (-1) or newer (1) sample."""
        self.leaf(by)

    def action_leaf_to_end(self, end: int) -> None:
        """Go to the first (-1) or the newest (1) sample."""
        self._go_to(0 if end < 0 else len(self._samples) - 1, -end)

    def action_pin(self) -> None:
        """Keep the shown sample beside the others, starting with the one before it; or let it go."""
        if self._pinned is not None:
            self._pinned = None
        elif self._shown is not None:
            self._pinned = self._shown
            if len(self._samples) > 1:
                self._go_to(self._index - 1 if self._index else 1)
        self._draw()

    @property
    def _shown(self) -> Row | None:
        return self._samples[self._index] if 0 <= self._index < len(self._samples) else None

    def _go_to(self, index: int, by: int = -1) -> None:
        last = len(self._samples) - 1
        index = max(0, min(last, index)) if self._samples else -1
        self._cursor, self._follows = None, index == last
        self._index = self._past_kept(index, by)
        self._draw()

    def _past_kept(self, place: int, by: int = -1) -> int:
        """A place, or the next one in a direction if the kept sample is there: beside itself it tells nothing."""
        if self._pinned is None or not 0 <= place < len(self._samples) or self._samples[place] is not self._pinned:
            return place
        return next((near for near in (place + by, place - by) if 0 <= near < len(self._samples)), place)

    def _place_at(self, step: int) -> int:
        """The newest sample at or before a step; -1 if there is none."""
        return bisect_right(self._samples, step, key=_step_of) - 1

    def _place_of(self, sample: Row) -> int:
        """Where a sample is now; if it was abandoned by a recovery, what stands at its step instead."""
        place = self._place_at(_step_of(sample))
        # A sample that was asked for may have the step of another.
        for near in range(place, max(-1, place - 20), -1):
            if self._samples[near] is sample:
                return near
        return max(0, place)

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < _SIDE_BY_SIDE, "-stacked")
        if self._samples:
            self._draw()

    def _draw(self) -> None:
        self._show_title()
        shown, pinned = self._shown, self._pinned
        # The step matters only where it is all that is told.
        older = self.size.height // _OLDER_ROWS if shown and not pinned and self.size.height >= _TALL else 0
        drawn = (shown, pinned, self._cursor if shown is None else None, older)
        if (
            all(one is other for one, other in zip(drawn[:2], self._drawn[:2], strict=True))
            and drawn[2:] == self._drawn[2:]
        ):
            return
        self._drawn = drawn
        self.set_class(pinned is not None, "-pair")
        text = (
            sample_text(shown) if shown is not None else Content(f"No sample at or before step {self._cursor or 0:,}.")
        )
        if pinned is not None:
            beside, note = sample_text(pinned), ""
            if shown is not None:
                left, right, whole = differences(beside.plain, text.plain)
                note = " · the same words" if not left and not right else "" if whole else " · compared in part"
                beside, text = _marked(beside, left), _marked(text, right)
            self.query_one("#sample-pinned-head", Static).update(f"step {_step_words(pinned)} · kept")
            self.query_one("#sample-head", Static).update(f"step {_step_words(shown)}{note}" if shown else "")
            self.query_one("#sample-pinned", Static).update(beside)
        self.query_one("#sample-text", Static).update(text)
        self.query_one("#sample-older", Static).update(self._older(older))
        self.scroll_home(animate=False)

    def _older(self, count: int) -> Content:
        """The samples before the one that is shown, the newest first: how the model came there."""
        before = self._samples[max(0, self._index - count) : self._index]
        parts: list[Content | tuple[str, str]] = []
        room = _MOST_BELOW
        for sample in reversed(before):
            if (room := room - len(text_in(sample, "text"))) < 0:
                break
            parts += [
                ("\n\n" if parts else "\n", ""),
                (f"step {_step_words(sample)}\n", "bold $foreground 60%"),
                sample_text(sample).rstrip(),
            ]
        return Content.assemble(*parts)

    def _show_title(self) -> None:
        if not self._samples:
            return
        room = self.outer_size.width - 6  # the frame's corners, and a blank and a line beside each
        titles = self._titles()
        title = next((title for title in titles if cell_len(title) <= room), titles[-1])
        if title != self._title:
            self._title = title
            # As Content: the brackets of a plain string would be taken for markup.
            self.border_title = Content(f" {title} ")

    def _titles(self) -> list[str]:
        """What is shown, in full, and with less and less about it where there is no room."""
        shown, number = self._shown, len(self._samples)
        step = _step_words(shown) if shown else "none"
        brief = f"step {step}" if self._pinned is None else f"{_step_words(self._pinned)} beside {step}"
        plain = f"sample · {brief}" if self._pinned is None else f"samples · step {brief}"
        if self._pinned is None and not shown:
            brief = plain = "sample"
        if self._cursor is not None:
            cursor = f"{self._cursor:,}"
            return [f"{plain} · at the cursor, step {cursor}", f"{plain} · cursor at {cursor}", plain, brief]
        if number < 2:
            return [plain, brief]
        place = f" · {self._index + 1:,} of {number:,}"
        older, newer = "<>" if getattr(self.app, "settings", DEFAULTS).ascii else "◂▸"
        arrows = [f"{plain}{place}  [ {older} {newer} ]"] if self._pinned is None else []
        return [*arrows, plain + place, brief + place, brief]


def sample_text(sample: Row) -> Content:
    """The prompt, set apart, and what the model went on with."""
    prompt, text = inert_pane(_shortened(text_in(sample, "prompt"))), inert_pane(_shortened(text_in(sample, "text")))
    # A prompt of empty lines alone says nothing, and blank lines on top look like a fault.
    if not prompt.strip():
        return Content(text.lstrip("\n"))
    return Content.assemble((prompt, "bold $secondary"), text)


def _marked(text: Content, spans: Sequence[tuple[int, int]]) -> Content:
    for begin, end in spans:
        text = text.stylize("underline $accent", begin, end)
    return text


def _step_of(sample: Row) -> int:
    return count_in(sample, "step") or 0


def _step_words(sample: Row) -> str:
    step = count_in(sample, "step")
    return "?" if step is None else f"{step:,}"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\n… and {len(text) - _LONGEST:,} characters more in samples.jsonl"
