"""The scales of a chart: what its axes span, where their ticks are and how these are labelled."""

import math
from decimal import Decimal
from itertools import pairwise

import numpy as np

from tui.charts.reduce import Floats

# Beyond this a number has no room for the arithmetic of a scale; it is drawn at the edge.
_LARGEST = 1e150


def scaled(values: Floats, logarithmic: bool) -> Floats:
    """Values as the axis has them: themselves, or their logarithms."""
    values = np.clip(values, -_LARGEST, _LARGEST)
    if not logarithmic:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(np.maximum(values, 1 / _LARGEST))


def value_range(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    """What an axis spans that shows values from `low` to `high`, as scaled numbers."""
    low, high = map(float, scaled(np.array([low, high]), logarithmic))
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-9 * largest, 1 / _LARGEST):
        room = 0.05 if logarithmic else max(largest * 0.05, 1 / _LARGEST) if largest else 1e-3
        low, high = low - room, high + room
    # Both ends are rounded outwards, so that the whole chart does not move with every new value.
    grain = nice((high - low) / 20)
    return math.floor(low / grain) * grain, math.ceil(high / grain) * grain


def last_step(newest: float, end: float) -> float:
    """Where the x axis ends: a round number with room to grow, so that it moves seldom."""
    if newest <= 0:
        return end if 0 < end < 100 else 100
    newest = min(newest, _LARGEST)
    power = 10.0 ** math.floor(math.log10(newest))
    for factor in (1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12):
        rounded = power * factor if power < 1 else float(math.ceil(power * factor))
        if rounded > newest:
            break
    return end if newest <= end < rounded * 1.2 else rounded


def nice(size: float) -> float:
    """The number of the form 1, 2 or 5 times a power of ten at or next above `size`."""
    power = 10.0 ** math.floor(math.log10(size)) if size > 0 else 1.0
    return next((factor * power for factor in (1, 2, 5) if factor * power >= size * 0.999), 10 * power)


def ticks_between(low: float, high: float, number: int) -> list[float]:
    """Round numbers from `low` to `high`, about `number` of them."""
    step = nice((high - low) / max(number, 1))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def value_ticks(values: tuple[float, float], number: int, logarithmic: bool) -> list[float]:
    """Round values to label, unscaled."""
    low, high = values
    if not logarithmic:
        return ticks_between(low, high, number)
    if high - low < 0.7:
        return [tick for tick in ticks_between(10**low, 10**high, number) if tick > 0]
    decades = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]
        if len(ticks) <= number + 1:
            return ticks
    stride = max(1, math.ceil(len(decades) / max(number, 1)))
    return [10.0**decade for decade in decades if decade % stride == 0 and low <= decade <= high]


def labels_of(ticks: list[float], logarithmic: bool) -> list[str]:
    """A label for each tick, with as many digits as tell it from the others."""
    gaps = [high - low for low, high in pairwise(ticks)]
    if not gaps:
        # A round number alone, as where there is little room, needs no digits that would tell it from others.
        return [_label(tick, float(f"1e{Decimal(f'{tick:.4g}').normalize().as_tuple().exponent}")) for tick in ticks]
    if not logarithmic:
        # Where one needs an exponent, all have one.
        small = any(0 < abs(tick) < 0.999e-3 and abs(tick) > min(gaps) / 1000 for tick in ticks)
        return [_label(tick, min(gaps), exponent=small) for tick in ticks]
    # Low ticks need decimals that those decades above do without.
    return [_label(tick, min(gaps[max(0, index - 1) : index + 1])) for index, tick in enumerate(ticks)]


def _label(value: float, grain: float, *, exponent: bool = False) -> str:
    size = abs(value)
    if size <= grain / 1000:  # also where 0 is the only tick
        return "0"
    place = math.floor(math.log10(grain) + 1e-9) if grain else 0
    if exponent or not 1e-3 <= size < 1e6:
        power = math.floor(math.log10(size) + 1e-9)
        return f"{value / 10.0**power:.{min(max(0, power - place), 12)}f}e{power}"
    return f"{value:,.{max(0, -place)}f}"


# ── the x axis ────────────────────────────────────────────────────────────────────────────────────────────────────

_DAY = 86400
_CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, _DAY)  # seconds


def axis_ticks(axis: str, bounds: tuple[float, float], number: int) -> list[float]:
    """Round places to label on the x axis, about `number` of them: whole steps and tokens, round times."""
    low, high = bounds
    if axis == "elapsed":
        wanted = (high - low) / max(number, 1)
        if wanted > 0.5:
            size = next((one for one in _CLOCK if one >= wanted * 0.999), _DAY * nice(wanted / _DAY))
            return [size * index for index in range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)]
    ticks = ticks_between(low, high, number)
    if axis in {"step", "tokens"}:
        ticks = [tick for tick in ticks if tick == int(tick)]
    return ticks


def axis_labels(axis: str, ticks: list[float]) -> list[str]:
    """A label for each of them."""
    if axis == "elapsed" and all(tick == int(tick) and abs(tick) < 1e10 for tick in ticks):
        return [_clock_label(int(tick)) for tick in ticks]
    if axis == "tokens":
        size, unit = next(
            ((size, unit) for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if ticks and max(ticks) >= size),
            (1, ""),
        )
        return [label if label == "0" else label + unit for label in labels_of([tick / size for tick in ticks], False)]
    if axis == "step":
        return [f"{int(tick):,}" if tick < 1e12 else f"{tick:.3g}" for tick in ticks]
    return labels_of(ticks, logarithmic=False)


def _clock_label(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    sign = "-" if seconds < 0 else ""
    return sign + (f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}")
