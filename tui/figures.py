"""Numbers as they are shown where there is little room."""

from math import isfinite


def duration(seconds: float) -> str:
    """A time as `0:42`, `12:07`, `3:05:00` or `2 d 4 h`; a dash for one that is no finite number."""
    if not isfinite(seconds) or abs(seconds) > 1e10:
        return "–"
    whole = int(seconds)
    if whole >= 48 * 3600:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def loss_figure(loss: float) -> str:
    """A loss with four decimals; a damaged file may hold one of hundreds of digits."""
    return f"{loss:.4f}" if abs(loss) < 1e6 else f"{loss:.3g}"


def short_count(number: float) -> str:
    """A number in three digits: `824k`, `12.4M`, `1.56B`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            scaled = number / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f}{unit}"
    return f"{number:.0f}"
