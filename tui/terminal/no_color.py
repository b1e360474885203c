"""A screen without any colour, for NO_COLOR: what stands out by its background is reversed, what is muted is dim."""

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_STANDS_OUT = 0.2  # brightness of a background, 0 to 1
_MUTED = 0.7  # brightness of grey letters that are not as bright as the others


class WithoutColors(LineFilter):
    """Leaves the attributes that every terminal has: bold, underlined, reverse, dim.

    Textual's own for NO_COLOR leaves shades of grey, which are colours to a terminal. For the theme `SIXTEEN`, on which
    only what is chosen has another background than black.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, None if style is None else without_colors(style), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def without_colors(style: Style) -> Style:
    """A style of the theme `SIXTEEN` in attributes alone."""
    letters, behind = _color(style.color, Color(255, 255, 255)), _color(style.bgcolor, Color(0, 0, 0))
    if style.reverse:
        letters, behind = behind, letters
    reverse = behind.brightness > _STANDS_OUT
    is_grey = letters.r == letters.g == letters.b
    dim = not reverse and is_grey and letters.brightness < _MUTED
    return style.without_color + Style(reverse=reverse, dim=bool(style.dim or dim))


def _color(color: RichColor | None, otherwise: Color) -> Color:
    return otherwise if color is None or color.is_default else Color.from_rich_color(color)
