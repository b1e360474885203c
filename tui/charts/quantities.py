"""What there is to draw of a run: which metrics belong into one chart, what it is called, and in which unit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from minigpt.inert import inert_line, inert_pane
from tui.charts.grid import BROKEN
from tui.figures import short_count

LOSS, PERPLEXITY = "loss", "perplexity"

_KIB = 1024.0
_UNITS = (("GiB", _KIB**3), ("MiB", _KIB**2), ("KiB", _KIB), ("bytes", 1.0))
_TITLES = {
    "accuracy": "accuracy",
    "bpc": "bits per character",
    "bpb": "bits per byte",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "throughput",
    "memory_rss": "process memory",
    "cuda_allocated": "GPU memory allocated",
    "cuda_reserved": "GPU memory reserved",
    "cuda_peak": "GPU memory, peak",
    "evaluated_loss": "loss at evaluations",
    "nonfinite_steps": "steps without finite gradients",
}
# What a chart is no use for, or what the losses' charts show already.
_LEFT_OUT = frozenset(
    {"train_loss", "val_loss", "val_perplexity", "train_eval_perplexity", "tokens", "epoch", "elapsed"}
)
_FIRST = (
    LOSS,
    PERPLEXITY,
    "learning_rate",
    "tokens_per_second",
    "grad_norm",
    "accuracy",
    "memory_rss",
    "cuda_allocated",
)
_STEADY = frozenset({"learning_rate", "nonfinite_steps"})  # nothing to smooth
_BYTES = frozenset({"memory_rss", "cuda_allocated", "cuda_reserved", "cuda_peak"})
_LONGEST_TITLE = 40


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    metric: str
    """Its name in the file."""
    label: str
    is_validation: bool = False


@dataclass(frozen=True)
class Quantity:
    """What one chart shows."""

    name: str
    title: str
    series: tuple[Series, ...]
    exponential: bool = False
    """Whether e to the power of the values is drawn."""
    in_bytes: bool = False
    percent: bool = False
    unit: str = ""
    """What stands behind the title, unless it follows from the size of the values."""
    smoothed: bool = True
    """Whether its first series is noisy enough to be smoothed."""

    def unit_for(self, largest: float) -> tuple[str, float]:
        """The unit to draw values up to `largest` in, and its size."""
        if self.percent:
            return "%", 0.01
        if self.in_bytes:
            return next(((name, size) for name, size in _UNITS if largest >= size), _UNITS[-1])
        return self.unit, 1.0

    def figure(self, value: float) -> str:
        """A value in words, as short as it can be told from others."""
        if not np.isfinite(value):
            return "not finite"
        if self.in_bytes or self.percent:
            unit, size = self.unit_for(abs(value))
            return f"{value / size:,.1f}%" if unit == "%" else f"{value / size:,.4g} {unit}"
        if 0 < abs(value) < 0.1 and self.name not in {LOSS, PERPLEXITY}:
            return f"{value:.3g}".replace("e-0", "e-")
        return figure(value)

    def brief(self, value: float) -> str:
        """The same in three digits, where there is no room for more."""
        if not np.isfinite(value):
            return BROKEN
        if self.in_bytes or self.percent:
            return self.figure(value)
        if value >= 1000:
            return short_count(value)
        return f"{value:#.3g}".rstrip(".") if abs(value) >= 0.1 else f"{value:.3g}".replace("e-0", "e-")


def figure(value: float) -> str:
    """A loss or perplexity in at most seven characters."""
    if not np.isfinite(value):
        return "–"
    if 0 < abs(value) < 1e-3:
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) < 100:
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) < 1e5 else f"{value:.1e}"


def quantities(names: Iterable[str]) -> dict[str, Quantity]:
    """The charts that these metrics allow, by name, the ones that most want first."""
    names = list(dict.fromkeys(names))
    found: dict[str, Quantity] = {}
    losses = tuple(
        Series(name, label, label == "val")
        for name, label in (("train_loss", "train"), ("val_loss", "val"))
        if name in names
    )
    if losses:
        found[LOSS] = Quantity(LOSS, "loss", losses)
        found[PERPLEXITY] = Quantity(PERPLEXITY, "perplexity", losses, exponential=True)
    for name in names:
        split, stem = _split(name)
        if name in _LEFT_OUT:
            continue
        if split and f"train_eval_{stem}" in names and f"val_{stem}" in names:
            pair = (Series(f"train_eval_{stem}", "train"), Series(f"val_{stem}", "val", True))
            key = "evaluated_loss" if stem == LOSS else stem
            found.setdefault(key, _quantity(key, pair, smoothed=False))
        else:
            label = {"val_": "val", "train_eval_": "train"}.get(split, "")
            smoothed = not split and stem not in _STEADY | _BYTES
            series = Series(name, label, split == "val_")
            found.setdefault(name, replace(_quantity(stem, (series,), smoothed=smoothed), name=name))
    first = [name for name in _FIRST if name in found]
    return {name: found[name] for name in (*first, *(name for name in found if name not in first))}


def _split(name: str) -> tuple[str, str]:
    for prefix in ("train_eval_", "val_"):
        if name.startswith(prefix) and len(name) > len(prefix):
            return prefix, name.removeprefix(prefix)
    return "", name


def _quantity(stem: str, series: tuple[Series, ...], *, smoothed: bool) -> Quantity:
    return Quantity(
        stem,
        _TITLES.get(stem) or inert_pane(inert_line(stem.replace("_", " "), _LONGEST_TITLE)),
        series,
        in_bytes=stem in _BYTES,
        percent=stem == "accuracy",
        unit="tokens/s" if stem == "tokens_per_second" else "",
        smoothed=smoothed,
    )
