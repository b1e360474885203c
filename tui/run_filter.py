"""Which runs a filter leaves: words, and what must hold of their figures and of the settings they were trained with."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from minigpt.inert import inert_line
from minigpt.run_list import RunSummary, Setting

if TYPE_CHECKING:
    from tui.run.notes import Signature

HINT = "words of name, state, corpus; n_layer>=6; note:x; -not"
"""What can be typed, in a few words."""

_TERM = re.compile(r"([A-Za-z_][\w.]*)(>=|<=|!=|==|=|<|>|:)(.*)", re.DOTALL)


def _note(run: RunSummary) -> str:
    """A run's notes; empty without any, and where they cannot be read."""
    from minigpt.files import read_limited
    from tui.run.notes import LONGEST, signature_of  # here: the first frame has no filter

    path = run.run.notes_file
    if (signature := signature_of(path)) is None:
        return ""
    # Read once for each writing of the file: the list is filtered at every key and every two seconds.
    if path not in _notes or _notes[path][0] != signature:
        try:
            text = read_limited(path, 4 * LONGEST).decode(errors="replace")
        except OSError:
            text = ""
        _notes[path] = signature, text
    return _notes[path][1]


_notes: "dict[Path, tuple[Signature, str]]" = {}


_OWN: dict[str, Callable[[RunSummary], Setting | None]] = {
    # What the list itself knows comes before a setting of the same name: `name` is what stands in the row.
    "name": lambda run: run.run.name,
    "state": lambda run: run.state.value if run.state else None,
    "step": lambda run: run.step,
    "train": lambda run: run.train_loss,
    "val": lambda run: run.val_loss,
    "best": lambda run: run.best[1] if run.best else None,
    "note": _note,
}
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_YES_NO = {True: ("true", "yes"), False: ("false", "no")}


@dataclass(frozen=True)
class RunFilter:
    """What was typed, and what of it cannot be understood. Without words it leaves all runs."""

    terms: "tuple[Term, ...]" = ()
    problem: str = ""
    """Empty if all is understood; what is not leaves all runs."""

    def matches(self, run: RunSummary) -> bool:
        """Whether all terms hold of a run."""
        return all(term.holds(run) for term in self.terms)

    def complaint(self, runs: Collection[RunSummary]) -> str:
        """What cannot be understood, or which setting that is asked for none of these runs has."""
        if self.problem:
            return self.problem
        # Until the settings of a run have been read, it may have any.
        if any(not run.settings and run.state is None for run in runs):
            return ""
        asked = [term.key for term in self.terms if term.key and term.key not in _OWN]
        for key in dict.fromkeys(asked):
            if not any(_values(run.settings, key) for run in runs):
                return f"no run has {inert_line(key, 30)}{_nearest(key, runs)}"
        return ""


@dataclass(frozen=True)
class Term:
    """One word, or one comparison if there is a `key`; `negated` with a dash before it."""

    text: str
    key: str = ""
    operator: str = ""
    negated: bool = False

    def holds(self, run: RunSummary) -> bool:
        """Whether it holds of a run; a comparison with what a run does not have doesn't."""
        return self._found(run) is not self.negated

    def _found(self, run: RunSummary) -> bool:
        if not self.key:
            state = run.state.value if run.state else ""
            return self.text in " ".join((run.run.name, state, run.corpus, run.about)).casefold()
        own = _OWN.get(self.key)
        values = _values(run.settings, self.key) if own is None else [own(run)]
        return any(value is not None and _compare(value, self.operator, self.text) for value in values)


def run_filter(text: str) -> RunFilter:
    """Read what is typed: words and comparisons such as `n_layer>=6`, all of which must hold; a leading `-` negates."""
    terms, problems = [], []
    for word in text.casefold().split():
        negated, plain = word.startswith("-"), word.removeprefix("-")
        match = _TERM.fullmatch(plain)
        if match is None:
            terms += [Term(plain, negated=negated)] if plain else []  # a dash alone: the rest is still to be typed
            continue
        key, operator, value = match.groups()
        shown = inert_line(plain, 30)
        if not value:
            problems.append(f"{shown} needs a value")
        elif operator in {"<", ">", "<=", ">="} and _number(value) is None:
            problems.append(f"{shown}: {operator} needs a number")
        else:
            terms.append(Term(value, key, operator, negated))
    return RunFilter(tuple(terms), problems[0] if problems else "")


def _values(settings: Mapping[str, Setting], key: str) -> list[Setting]:
    """Those at a key, which is named in full, as `model.n_layer`, or by its last part."""
    if "." in key:
        return [settings[key]] if key in settings else []
    return [value for name, value in settings.items() if name.rpartition(".")[2] == key]


def _number(text: str) -> float | None:
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        number = float(text)
    except ValueError:
        return None
    return None if isnan(number) else number


def _compare(value: Setting, operator: str, text: str) -> bool:
    if operator in {":", "=", "==", "!="}:
        return _is(value, text, part=operator == ":") is not (operator == "!=")
    number = _number(text)
    if isinstance(value, bool | str) or number is None or not isfinite(value):
        return False
    return {"<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number}[operator]


def _is(value: Setting, text: str, *, part: bool) -> bool:
    if isinstance(value, bool):
        return text in _YES_NO[value]
    if isinstance(value, str):
        whole, path = value.casefold(), PurePath(value.casefold())
        return text in whole if part else text in {whole, path.name, path.stem}
    return value == _number(text)


def _nearest(key: str, runs: Collection[RunSummary]) -> str:
    import difflib  # only for a word that is wrong

    known = {name for run in runs for name in run.settings}
    names = known if "." in key else {name.rpartition(".")[2] for name in known} | set(_OWN)
    near = difflib.get_close_matches(key, sorted(names), n=1, cutoff=0.6)
    return f"; did you mean {inert_line(near[0], 30)}?" if near else ""
