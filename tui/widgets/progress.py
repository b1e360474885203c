"""What stands on top of the dashboard: which run this is and what it does, and how far it has come."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from minigpt.inert import inert_line
from minigpt.journal import count_in, number_in
from minigpt.rundir import RunState
from tui.figures import duration, short_count
from tui.run.following import Following
from tui.run.time_left import seconds_left, speed_of, steps_to_checkpoint, steps_to_evaluation

# A shape beside the word, so that the state is seen without colour and without reading.
_STATES = {
    RunState.TRAINING: ("● training", "$success"),
    RunState.PAUSED: ("‖ paused", "$warning"),
    RunState.FINISHED: ("✓ finished", "$success"),
    RunState.STOPPED: ("■ stopped", "$warning"),
    RunState.CRASHED: ("✗ crashed", "$error"),
}
_SEPARATOR = " · "


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


ONE_LINE = 165  # cells, from which on all of the progress stands in one line


def progress(following: Following, width: int, cost: str = "", *, ascii: bool = False) -> Content:
    """How far the run is, how long it takes, how fast it is and what comes next; `cost` is what the screen costs.

    One line where it is wide, otherwise two, of which the first says the most important. Each figure has its own
    place, which does not depend on the others' values.
    """
    if following.starting:
        return Content("the model is being built …")
    step, steps, share = following.step, following.max_steps, following.share
    before = Content(f"step {step:>{len(f'{steps:,}')},}/{steps:,} " if steps else f"step {step:,} ")
    first = [_share(following), _time(following), *_done(following)]
    second = [*_speed(following), *_coming(following), _Field(cost, priority=4)]
    if width >= ONE_LINE:
        first, second = first + second, []
    after = _fields(first, max(0, width - before.cell_length - 12), least=2)
    room = max(0, width - before.cell_length - after.cell_length - 2)
    line = Content.assemble(before, bar(share or 0, room, ascii=ascii), "  ", after)
    return Content("\n").join([line, _fields(second, width, least=1)]) if second else line


@dataclass(frozen=True)
class _Field:
    """A figure with its name before or behind it, in a place that is as wide as its longest value usually is."""

    figure: str
    before: str = ""
    behind: str = ""
    width: int = 0
    priority: int = 0
    """The higher, the sooner it is left out."""

    def content(self) -> Content:
        dim = "$foreground 60%"
        text = Content.assemble((f"{self.before} " if self.before else "", dim), self.figure, (self.behind, dim))
        return text.pad_right(max(0, self.width - len(self.figure)))

    @property
    def cells(self) -> int:
        return self.content().cell_length


def _share(following: Following) -> _Field:
    share = following.share
    if share is None:
        return _Field("")
    step, steps = following.step, following.max_steps
    by_time = following.seconds_allowed and not (steps and step / steps >= share)
    allowed = f" of {duration(following.seconds_allowed)}" if by_time else ""
    return _Field(f"{int(100 * share + 1e-9)}%{allowed}", width=4 + len(allowed))


def _time(following: Following) -> _Field:
    if following.state is RunState.PAUSED:
        return _Field("paused: p goes on")
    if not following.is_live:
        elapsed = following.latest("elapsed")
        return _Field("" if elapsed is None else duration(elapsed), "took" if elapsed is not None else "")
    left = seconds_left(following)
    # Until the first rows have told how fast it is, any figure would be wrong.
    return _Field("…" if left is None else duration(left), "ETA", width=5 if left is None or left < 3600 else 8)


def _speed(following: Following) -> list[_Field]:
    fields = []
    rate = following.latest("tokens_per_second")
    if following.is_live and following.state is not RunState.PAUSED and rate is not None:
        fields.append(_Field(f"{short_count(rate):>5}", behind=" tok/s"))
        if (used := utilisation(following, rate)) is not None:
            fields.append(_Field(f"{100 * used:.{0 if used >= 0.0995 else 1}f}%", "MFU", width=4, priority=2))
    return fields


def _done(following: Following) -> list[_Field]:
    fields = []
    if (epoch := following.latest("epoch")) is not None:
        fields.append(_Field(f"{epoch:,.1f}", "epoch", width=len(f"{_last_epoch(following):,.1f}"), priority=1))
    if (tokens := following.latest("tokens")) is not None:
        fields.append(_Field(f"{short_count(tokens):>5}", behind=" tokens", priority=2))
    return fields


def utilisation(following: Following, tokens_per_second: float) -> float | None:
    """Model FLOPs utilisation, as a share of the device's peak; None where the run did not know that."""
    peak, each = (number_in(following.started, name) for name in ("peak_flops", "flops_per_token"))
    if peak is None or each is None or not (0 < peak < math.inf and 0 < each < math.inf):
        return None
    return min(9.99, tokens_per_second * each / peak)


def _last_epoch(following: Following) -> float:
    each = number_in(following.started, "steps_per_epoch")
    return min(1e9, following.max_steps / each) if each is not None and 0 < each < math.inf else 0.0


def _coming(following: Following) -> list[_Field]:
    if not following.is_live or following.state is RunState.PAUSED:
        return []
    fields = []
    speed = speed_of(following)
    for name, steps, priority in (
        ("eval in", steps_to_evaluation(following), 1),
        ("save in", steps_to_checkpoint(following), 3),
    ):
        if name == "eval in" and following.evaluating:
            fields.append(_Field("evaluating …", width=13, priority=priority))
        elif steps is not None:
            told = f"{steps:,} steps" if speed is None else duration(steps * speed.step)
            fields.append(
                _Field(told, name, width=5 if speed is None or steps * speed.step < 3600 else 8, priority=priority)
            )
    return fields


def _fields(fields: Sequence[_Field], width: int, least: int) -> Content:
    """The fields side by side, without the least important ones where there is no room; `least` stay in any case."""
    shown = [field for field in fields if field.figure]
    gap = 3 if width >= 100 else 2
    while len(shown) > least and sum(field.cells + gap for field in shown) - gap > width:
        shown.remove(max(reversed(shown), key=lambda field: field.priority))
    return Content(" " * gap).join(field.content() for field in shown)


def bar(share: float, width: int, style: str = "$primary", *, ascii: bool = False) -> Content:
    """A bar whose full part is heavier, not only of another colour."""
    full = round(max(0.0, min(1.0, share)) * width)
    heavy, light = "#-" if ascii else "━─"
    return Content.assemble((heavy * full, style), (light * (width - full), "$panel-lighten-2"))


def _joined(parts: Sequence[Content], width: int, least: int) -> Content:
    """As many of the parts as fit, at least `least` of them."""
    taken: list[Content] = []
    for part in parts:
        length = sum(one.cell_length for one in taken) + len(_SEPARATOR) * len(taken) + part.cell_length
        if len(taken) >= least and length > width:
            break
        taken.append(part)
    return Content(_SEPARATOR).join(taken)
