"""A curve in one line of text."""

from functools import lru_cache
from math import isfinite

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.:-=+*#"


@lru_cache(2000)  # one for each run, again and again while they are sorted and filtered
def sparkline(values: tuple[float, ...], *, ascii: bool = False) -> str:
    """One character for each value, from the lowest to the highest; what is no finite number is marked."""
    levels = _ASCII if ascii else _BLOCKS
    finite = [value for value in values if isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    # Halves: the difference of two large numbers may be none that a float holds.
    height = high / 2 - low / 2
    return "".join(
        ("!" if ascii else "×")
        if not isfinite(value)
        else levels[min(7, int((value / 2 - low / 2) / height * 8)) if height > 0 else 0]
        for value in values
    )
