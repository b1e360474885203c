"""A screen without any colour, for NO_COLOR: what stands out by its background is reversed, what is muted is dim."""

from collections.abc import Callable
from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_STANDS_OUT = 0.15  # difference of brightness to the screen's background; panels have half of that
_MUTED = 0.45  # less than this between letters and what is behind them


class WithoutColors(LineFilter):
    """Leaves the attributes that every terminal has: bold, underlined, reverse, dim.

    Textual's own for NO_COLOR leaves shades of grey, which are colours to a terminal. `ground` tells the background of
    the theme.
    """

    def __init__(self, ground: Callable[[], Color]) -> None:
        super().__init__()
        self._ground = ground

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        # Not `background`: that is the widget's, which may stand out itself.
        ground = self._ground().brightness
        return [
            Segment(text, None if style is None else without_colors(style, ground), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def without_colors(style: Style, ground: float) -> Style:
    """A style in attributes alone, on a screen whose background has the brightness `ground`, 0 to 1."""
    letters, behind = style.color, style.bgcolor
    if style.reverse:
        letters, behind = behind, letters
    reverse = behind is not None and abs(_brightness(behind) - ground) > _STANDS_OUT
    bright = ground if behind is None else _brightness(behind)
    dim = not reverse and letters is not None and abs(_brightness(letters) - bright) < _MUTED
    return style.without_color + Style(reverse=reverse, dim=bool(style.dim or dim))


def _brightness(color: RichColor) -> float:
    return Color.from_rich_color(color).brightness
