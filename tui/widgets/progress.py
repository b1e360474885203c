"""The two lines on top of the dashboard: which run this is and what it does, and how far it has come."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from minigpt.inert import inert_line
from minigpt.journal import count_in
from minigpt.rundir import RunState
from tui.figures import duration, short_count
from tui.following import Following

# A shape beside the word, so that the state is seen without colour and without reading.
_STATES = {
    RunState.TRAINING: ("● training", "$success"),
    RunState.PAUSED: ("‖ paused", "$warning"),
    RunState.FINISHED: ("✓ finished", "$success"),
    RunState.STOPPED: ("■ stopped", "$warning"),
    RunState.CRASHED: ("✗ crashed", "$error"),
}
_SEPARATOR = " · "


class StatusLine(Static):
    """One line of text that is repainted only when it changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._shown: Content | None = None

    def show(self, content: Content) -> None:
        """Write this into the line."""
        if self._shown is None or not content.is_same(self._shown):
            self._shown = content
            # Its size never changes: laying out the whole screen anew would cost far more than the text.
            self.update(content, layout=False)


def header(following: Following, width: int, *, read_only: bool = False) -> Content:
    """Name, state and how the run computes; the last of it is left out where the line is short."""
    words, style = _STATES[following.state]
    if following.starting or following.handing_over:
        words, style = ("● starting" if following.starting else "● handing over"), "$success"
    states = [Content.styled(words, f"bold {style}")]
    if (since := following.overfitting_since) is not None:
        states.append(Content.styled(f"▲ overfitting since {since:,}", "bold $warning"))
    if (scale := following.learning_rate_scale) < 1:
        states.append(Content.styled(f"↺ learning rate × {scale:g}", "bold $warning"))
    if read_only:
        states.append(Content.styled("read-only", "bold $warning"))
    room = width - sum(state.cell_length + len(_SEPARATOR) for state in states)
    parts = [Content.styled(inert_line(following.run.name, max(8, room)), "bold"), *states]
    if device := inert_line(following.told("device")):
        parts.append(Content(f"{device} {inert_line(following.told('device_name'))}".strip()))
    if precision := inert_line(following.told("precision")):
        parts.append(Content(precision))
    if following.not_compiled:
        parts.append(Content("not compiled"))
    elif following.started.get("compiled") is True:
        parts.append(Content("compiled"))
    if (parameters := count_in(following.started, "parameters")) is not None:
        parts.append(Content(f"{short_count(parameters)} parameters"))
    if corpus := inert_line(following.told("corpus")):
        parts.append(Content(f"learns {corpus}"))
    return _joined(parts, width, least=1 + len(states))


def progress(following: Following, width: int) -> Content:
    """Step, bar, share, speed, time left and epoch."""
    if following.starting:
        return Content("the model is being built …")
    step, steps, share = following.step, following.max_steps, following.share
    elapsed = following.latest("elapsed")
    before = Content(f"step {step:,}/{steps:,} " if steps else f"step {step:,} ")
    parts = []
    if share is not None:
        by_time = following.seconds_allowed and not (steps and step / steps >= share)
        allowed = f" of {duration(following.seconds_allowed)}" if by_time else ""
        parts.append(Content(f"{int(100 * share + 1e-9)}%{allowed}"))
    speed = following.latest("tokens_per_second")
    if following.is_live and speed is not None:
        parts.append(Content(f"{short_count(speed)} tok/s"))
    left = following.seconds_left()
    if following.state is RunState.PAUSED:
        parts.append(Content("paused: p goes on"))
    elif following.is_live and left is not None:
        parts.append(Content("evaluating …" if following.evaluating else f"ETA {duration(left)}"))
    elif following.evaluating:
        parts.append(Content("evaluating …"))
    if not following.is_live and elapsed is not None:
        parts.append(Content(f"took {duration(elapsed)}"))
    epoch = following.latest("epoch")
    if epoch is not None:
        parts.append(Content(f"epoch {epoch:,.1f}"))
    after = _joined(parts, max(0, width - before.cell_length - 12), least=1)
    room = width - before.cell_length - after.cell_length - 1
    return Content.assemble(before, bar(share or 0, max(0, room)), " ", after)


def bar(share: float, width: int, style: str = "$primary") -> Content:
    """A bar whose full part is heavier, not only of another colour."""
    full = round(max(0.0, min(1.0, share)) * width)
    return Content.assemble(("━" * full, style), ("─" * (width - full), "$panel-lighten-2"))


def _joined(parts: Sequence[Content], width: int, least: int) -> Content:
    """As many of the parts as fit, at least `least` of them."""
    taken: list[Content] = []
    for part in parts:
        length = sum(one.cell_length for one in taken) + len(_SEPARATOR) * len(taken) + part.cell_length
        if len(taken) >= least and length > width:
            break
        taken.append(part)
    return Content(_SEPARATOR).join(taken)
