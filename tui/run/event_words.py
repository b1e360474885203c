"""The events of a run in words, one line each."""

import json
import time
from collections.abc import Callable
from math import isfinite
from typing import NamedTuple

from minigpt.display import changed_settings
from minigpt.inert import inert_line
from minigpt.journal import Row, count_in, number_in, text_in
from tui.figures import loss_figure

LONGEST = 2000  # characters of one line
_ENDS = {"steps": "all steps are done", "time": "its time is over", "patience": "no better validation loss any more"}
_NOTICES = {
    "spike": "loss spike",
    "nonfinite": "not finite",
    "overfitting": "overfitting",
    "disk": "disk",
    "memory": "memory",
    "checkpoint": "checkpoint",
    "compile": "compile",
    "corpus": "corpus",
    "detach": "detach",
    "stall": "stalled",
}
_ALARMING = frozenset({"spike", "nonfinite", "overfitting", "disk", "memory", "stall"})


class Told(NamedTuple):
    """An event in words."""

    name: str
    """What happened, in one or two words."""
    words: str
    """The rest of it, printable."""
    style: str
    """ "dim" for what happens all the time, "good", "warning" or "problem"; empty for the rest."""


def told(event: Row) -> Told:
    """What an event says. It may come from a damaged file, or from a later version of the program."""
    name = text_in(event, "event")
    if name == "notice":
        kind = text_in(event, "kind")
        shown = _NOTICES.get(kind) or inert_line(kind, 16) or "notice"
        return Told(shown, inert_line(text_in(event, "message"), LONGEST), "warning" if kind in _ALARMING else "")
    known = _KNOWN.get(name)
    if known is not None:
        return known(event)
    values = {key: value for key, value in event.items() if key not in {"event", "time", "step", "attempt"}}
    return Told(inert_line(name, 16) or "?", _as_json(values) if values else "", "")


def when(event: Row) -> str:
    """When it happened, by the clock of this place, as `20 Nov 12:04:31`; blank if that is not told."""
    seconds = number_in(event, "time")
    if seconds is None or not isfinite(seconds):
        return " " * 15
    try:
        return time.strftime("%d %b %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return " " * 15


def step_of(event: Row) -> str:
    """At which step it happened, ten characters wide."""
    step = count_in(event, "step")
    return " " * 10 if step is None else f"{inert_line(f'{step:,}', 10):>10}"


def _as_json(values: Row) -> str:
    try:
        return inert_line(json.dumps(values, ensure_ascii=False), 400)
    except (ValueError, RecursionError):
        return "?"


def _started(event: Row) -> Told:
    where = [inert_line(text_in(event, key), 60) for key in ("device", "device_name", "precision")]
    resumed_from = count_in(event, "resumed_from")
    parts = [
        " ".join(word for word in where if word),
        f"from preset {inert_line(preset, 60)}" if (preset := text_in(event, "preset")) else "",
        f"changed: {changed}" if (changed := changed_settings(event)) else "",
    ]
    words = " · ".join(part for part in parts if part)
    if resumed_from is None:
        return Told("started", words, "good")
    return Told("resumed", f"from step {resumed_from:,}" + (f" · {words}" if words else ""), "good")


def _evaluated(event: Row) -> Told:
    losses = [
        f"{label} {loss_figure(loss) if isfinite(loss) else 'not finite'}"
        for key, label in (("val_loss", "val loss"), ("train_eval_loss", "train loss"))
        if (loss := number_in(event, key)) is not None
    ]
    return Told("evaluated", ", ".join(losses) + (" ★ best" if event.get("best") is True else ""), "")


def _saved(event: Row) -> Told:
    asked = "asked for, " if text_in(event, "command") else ""
    name = inert_line(text_in(event, "checkpoint"), 40)
    return Told("saved", f"{asked}{name}{' ★ best' if event.get('best') is True else ''}", "dim")


def _sampled(event: Row) -> Told:
    return Told("sampled", "asked for" if text_in(event, "command") else "", "dim")


def _finished(event: Row) -> Told:
    reason = text_in(event, "reason")
    return Told("finished", _ENDS.get(reason) or inert_line(reason, 200), "good")


def _plain(name: str, style: str, words: str = "") -> Callable[[Row], Told]:
    return lambda event: Told(name, inert_line(text_in(event, "message"), LONGEST) or words, style)


_KNOWN: dict[str, Callable[[Row], Told]] = {
    "started": _started,
    "evaluating": _plain("evaluating", "dim"),
    "evaluated": _evaluated,
    "saved": _saved,
    "sampled": _sampled,
    "paused": _plain("paused", "warning"),
    "continued": _plain("continued", "good"),
    "handing_over": _plain("handing over", "", "another process goes on"),
    "stopped": _plain("stopped", "warning"),
    "finished": _finished,
    "failed": _plain("failed", "problem"),
    "crashed": _plain("crashed", "problem"),
    "went_on": _plain("goes on", "good"),
    "recovered": _plain("went back", "warning"),
}
