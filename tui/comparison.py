"""Several runs beside each other: in what their configurations differ, how well each of them did, what to beware of."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from minigpt.inert import inert_line
from minigpt.journal import count_in, number_in, text_in
from minigpt.metrics import perplexity
from tui.charts.quantities import figure
from tui.figures import duration, loss_figure, short_count
from tui.ordering import Key
from tui.run.following import Following
from tui.widgets.row_table import Entry, Field

_MOST_KEYS = 500
_LONGEST_VALUE = 60  # characters
_UNKNOWN = "—"
_NAMES = {"run.name", "run.dir", "run.about"}  # what two runs have of their own in any case


def differences(runs: Sequence[Following]) -> list[tuple[str, tuple[str, ...]]]:
    """The settings that are not the same in all runs: key, and what each run has there."""
    tables = [_flat(run.settings) for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    found = []
    for key in keys:
        values = tuple(table.get(key, _UNKNOWN) for table in tables)
        if key not in _NAMES and len(set(values)) > 1:
            found.append((inert_line(key, _LONGEST_VALUE), values))
    return found


def _flat(table: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for section, entries in list(table.items())[:_MOST_KEYS]:
        named = entries.items() if isinstance(entries, dict) else [("", entries)]
        for key, value in named:
            if len(flat) < _MOST_KEYS:
                flat[f"{section}.{key}".rstrip(".")] = _shown(value)
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 2**63 else "(a huge number)"  # Python may refuse to write it
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return inert_line(value, _LONGEST_VALUE) or "(empty)"
    return f"({type(value).__name__})"  # a dictionary or list, which no configuration of ours has there


@dataclass(frozen=True)
class Standing:
    """How well a run did, and what that took; None for what is not known."""

    number: int
    """By which the charts know it, from 1."""
    run: Following
    best: tuple[int, float] | None
    """Step and value of the lowest validation loss."""
    bits_per_character: float | None
    """At that step, like the next."""
    bits_per_byte: float | None
    parameters: int | None
    tokens: float | None
    seconds: float | None
    speed: float | None
    """Tokens per second while training, the median."""


def standing(run: Following, number: int = 1) -> Standing:
    """What a run's files say of it now."""
    best = run.metrics.best
    rates = run.series("tokens_per_second")[1]
    rates = rates[np.isfinite(rates)]
    return Standing(
        number=number,
        run=run,
        best=best,
        bits_per_character=_at(run, "val_bpc", best),
        bits_per_byte=_at(run, "val_bpb", best),
        parameters=count_in(run.started, "parameters"),
        tokens=run.latest("tokens"),
        seconds=run.latest("elapsed"),
        speed=float(np.median(rates)) if rates.size else None,
    )


def _at(run: Following, name: str, best: tuple[int, float] | None) -> float | None:
    steps, values = run.series(name)
    if best is None or not steps.size:
        return None
    place = int(np.searchsorted(steps, best[0]))
    found = place < steps.size and steps[place] == best[0] and isfinite(values[place])
    return float(values[place]) if found else None


FIELDS = (
    Field("run", flexible=True, cut=True),
    Field("best val", "right"),
    Field("at step", "right"),
    Field("perplexity", "right"),
    Field("bits/char", "right", wide_only=100),
    Field("bits/byte", "right"),
    Field("parameters", "right", wide_only=116),
    Field("tokens", "right", wide_only=132),
    Field("time", "right"),
    Field("tok/s", "right", wide_only=88),
)
BEST, BITS_PER_BYTE = 1, 5
KEYS: dict[int, Key[Standing]] = {
    0: Key(lambda row: row.run.run.name.casefold()),
    BEST: Key(lambda row: row.best[1] if row.best else None),
    2: Key(lambda row: row.best[0] if row.best else None),
    3: Key(lambda row: row.best[1] if row.best else None),
    4: Key(lambda row: row.bits_per_character),
    BITS_PER_BYTE: Key(lambda row: row.bits_per_byte),
    6: Key(lambda row: row.parameters),
    7: Key(lambda row: row.tokens),
    8: Key(lambda row: row.seconds),
    9: Key(lambda row: row.speed, largest_first=True),
}


def entry(row: Standing) -> Entry:
    """A run's row of the leaderboard."""

    def told(value: float | None, digits: int = 4) -> str:
        return _UNKNOWN if value is None else f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"

    cells = (
        f"{row.number} {row.run.run.name}",
        _UNKNOWN if row.best is None else loss_figure(row.best[1]),
        _UNKNOWN if row.best is None else f"{row.best[0]:,}",
        _UNKNOWN if row.best is None else figure(perplexity(row.best[1])),
        told(row.bits_per_character),
        told(row.bits_per_byte),
        _UNKNOWN if row.parameters is None else short_count(row.parameters),
        _UNKNOWN if row.tokens is None else short_count(row.tokens),
        _UNKNOWN if row.seconds is None else duration(row.seconds),
        _UNKNOWN if row.speed is None else short_count(row.speed),
    )
    return Entry(str(row.run.run.path), cells, "bold" if row.run.is_live else "")


def tokenizers(runs: Sequence[Following]) -> list[str]:
    """The different tokenizers of the runs, each with the size of its vocabulary where that is known."""
    return list(dict.fromkeys(filter(None, map(_tokenizer, runs))))


def _tokenizer(run: Following) -> str:
    kind = text_in(run.started, "tokenizer") or text_in({"": run.configured("data", "tokenizer")}, "")
    size = count_in(run.started, "vocab_size")
    return inert_line(kind if size is None else f"{kind} {size:,}", _LONGEST_VALUE)


def caution(runs: Sequence[Following]) -> str:
    """Why the losses of these runs do not measure the same; empty if nothing is known against it."""
    told = []
    if len(kinds := tokenizers(runs)) > 1:
        told.append(f"Tokenizers differ ({_listed(kinds)}): compare bits per byte, not losses.")
    texts = [(text_in(run.started, "corpus"), number_in(run.started, "corpus_bytes")) for run in runs if run.started]
    if len(set(texts)) > 1:
        names = list(dict.fromkeys(inert_line(name, _LONGEST_VALUE) for name, _ in texts if name))
        listed = f" ({_listed(names)})" if len(names) > 1 else ""
        told.append(f"Corpora differ{listed}: each loss is of a text of its own.")
    return "\n".join(told)


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
