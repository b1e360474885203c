"""Frames in as few bytes as may be: over SSH the screen is paid for by the byte.

Textual sends each line from where its widget begins, and all colours anew with each piece of text: several times as
much as what has changed. Here only cells go out that the terminal does not show yet, and of their colours only what
differs from the cell before.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console, RenderableType
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import SGR_STYLES, Strip


class Look(NamedTuple):
    """How a cell looks, as the codes that the terminal understands."""

    attributes: tuple[str, ...] = ()
    foreground: str = ""
    background: str = ""


Cell = tuple[str, Look]
"""A character with its marks; empty for the right half of a wide one."""

_PLAIN = Look()
_BRIDGED = 4
"""So many unchanged cells between changed ones are sent along: to jump over them costs as many bytes."""
_LAST_SURE = 0x2BFF
"""Of characters above it terminals disagree how wide they are: once they change, all is sent as Textual would."""


class Frames:
    """Turns Textual's updates into what has to be sent, and knows therefore what the terminal shows.

    Each full update is sent whole. Textual makes one whenever the terminal may show something else: after a resize,
    after the program was suspended, and when frames had to be dropped.
    """

    def __init__(self) -> None:
        self._rows: list[list[Cell]] = []

    def thrifty(self, update: RenderableType | None) -> RenderableType | None:
        """The same update in fewer bytes; anything else as it is."""
        if isinstance(update, LayoutUpdate | ChopsUpdate):
            return _Frame(self, update)  # type: ignore[return-value]  # nor is Textual's own CompositorUpdate one
        return update

    def encode(self, update: LayoutUpdate | ChopsUpdate, console: Console) -> str:
        """What has to be sent for an update, from now on taken for shown."""
        colors = console._color_system or ColorSystem.TRUECOLOR
        pen = _Pen()
        known = (
            self._whole(update, pen, colors) if isinstance(update, LayoutUpdate) else self._parts(update, pen, colors)
        )
        if not known:
            self._rows = []
            return update.render_segments(console)
        return pen.finished()

    def _whole(self, update: LayoutUpdate, pen: "_Pen", colors: ColorSystem) -> bool:
        if update.region.x or update.region.y:
            return False
        rows = []
        for y, strips in enumerate(update.strips):
            cells = _cells(strips, colors)
            if cells is None:
                return False
            pen.write(y, 0, cells)
            rows.append(cells)
        self._rows = rows
        return True

    def _parts(self, update: ChopsUpdate, pen: "_Pen", colors: ColorSystem) -> bool:
        for y, first, last in update.spans:
            if y >= len(self._rows):
                return False
            for (x, strip), end in zip(update.chops[y].items(), update.chop_ends[y], strict=False):
                if strip is None or x >= last or end <= first:
                    continue
                cells = _cells([strip], colors)
                if cells is None or x + len(cells) > len(self._rows[y]):
                    return False
                begin, stop = max(x, first), min(x + len(cells), last)
                while begin > x and not cells[begin - x][0]:
                    begin -= 1
                while stop < x + len(cells) and not cells[stop - x][0]:
                    stop += 1
                if not self._change(y, begin, cells[begin - x : stop - x], pen):
                    return False
        return True

    def _change(self, y: int, x: int, cells: list[Cell], pen: "_Pen") -> bool:
        before = self._rows[y][x : x + len(cells)]
        if cells == before:
            return True
        if not all(map(_is_sure, cells)) or not all(map(_is_sure, before)):
            return False  # where these cells are on the terminal, nobody knows
        self._rows[y][x : x + len(cells)] = cells
        changed = [at for at, (old, new) in enumerate(zip(before, cells, strict=True)) if old != new]
        begin = end = changed[0]
        for at in changed[1:]:
            if at - end > _BRIDGED:
                pen.write(y, x + begin, cells[begin : end + 1])
                begin = at
            end = at
        pen.write(y, x + begin, cells[begin : end + 1])
        return True


class _Frame(CompositorUpdate):
    def __init__(self, frames: Frames, update: LayoutUpdate | ChopsUpdate) -> None:
        self._frames = frames
        self._update = update

    def render_segments(self, console: Console) -> str:
        return self._frames.encode(self._update, console)


class _Pen:
    """Writes cells, and remembers where the cursor is and which colours are set."""

    def __init__(self) -> None:
        self._sent: list[str] = []
        self._look = _PLAIN
        self._place: tuple[int, int] | None = None
        """Row and column where the next character would go, if that is sure."""

    def write(self, y: int, x: int, cells: list[Cell]) -> None:
        self._move(y, x)
        begin = 0
        for at in range(1, len(cells) + 1):
            if at == len(cells) or cells[at][1] != cells[begin][1]:
                text = "".join([character for character, _ in cells[begin:at]])
                self._take(cells[begin][1], blank=text.isspace())
                self._sent.append(text)
                begin = at
        self._place = (y, x + len(cells)) if all(map(_is_sure, cells)) else None

    def finished(self) -> str:
        self._take(_PLAIN)
        return "".join(self._sent)

    def _move(self, y: int, x: int) -> None:
        if self._place == (y, x):
            return
        if self._place is not None and self._place[0] == y:
            self._sent.append(f"\x1b[{x + 1}G")
        elif self._place is not None and (self._place[0] + 1, 0) == (y, x):
            self._sent.append("\r\n")
        else:
            self._sent.append(f"\x1b[{y + 1};{x + 1}H")

    def _take(self, look: Look, *, blank: bool = False) -> None:
        now = self._look
        if blank and not look.attributes and not now.attributes:
            look = look._replace(foreground=now.foreground)  # nobody sees it
        if look == now:
            return
        codes: list[str] = []
        if look == _PLAIN:
            codes.append("0")
        else:
            if not set(now.attributes) <= set(look.attributes):
                codes.append("0")
                now = _PLAIN
            codes += [code for code in look.attributes if code not in now.attributes]
            if look.foreground != now.foreground:
                codes.append(look.foreground or "39")
            if look.background != now.background:
                codes.append(look.background or "49")
        self._sent.append(f"\x1b[{';'.join(codes)}m")
        self._look = look


def _cells(strips: Iterable[Strip | None], colors: ColorSystem) -> list[Cell] | None:
    """The cells of strips side by side; None if there is something in them that is more than text and colours."""
    cells: list[Cell] = []
    expected = 0
    for strip in strips:
        expected += strip.cell_length if strip is not None else 0
        for text, style, control in strip or ():
            if control or (style is not None and style.link):
                return None
            look = _PLAIN if style is None else _look_of(style, colors)
            if text.isascii():
                cells.extend(zip(text, repeat(look)))
                continue
            for character in text:
                width = get_character_cell_size(character)
                if width:
                    cells.append((character, look))
                    cells.extend(repeat(("", look), width - 1))
                elif cells:
                    at = -2 if not cells[-1][0] and len(cells) > 1 else -1
                    cells[at] = (cells[at][0] + character, cells[at][1])
    # Signs made of several characters: Textual counts some of them otherwise, and places by its own count.
    return cells if len(cells) == expected else None


def _is_sure(cell: Cell) -> bool:
    return len(cell[0]) == 1 and cell[0] <= chr(_LAST_SURE)


@lru_cache(maxsize=4096)
def _look_of(style: Style, colors: ColorSystem) -> Look:
    attributes = style._attributes & style._set_attributes
    codes: Any = (SGR_STYLES[bit] for bit in range(attributes.bit_length()) if attributes & (1 << bit))
    foreground = style.color.downgrade(colors).get_ansi_codes() if style.color else ()
    background = style.bgcolor.downgrade(colors).get_ansi_codes(foreground=False) if style.bgcolor else ()
    return Look(tuple(codes), ";".join(foreground), ";".join(background))
