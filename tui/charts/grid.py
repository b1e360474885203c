"""What a chart is drawn into: cells, each with a character and a role that the widget gives a colour."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

Codes = NDArray[np.uint32]
Roles = NDArray[np.uint8]
Said = str | tuple[str, ...]
"""A text of a legend, or several that say the same, each in fewer cells than the one before it."""

RUNS = 8
"""How many runs have a colour of their own; those after them share these, and have a mark of their own still."""

# The first ten are what a chart of one run needs.
ROLES = (
    *("blank", "axis", "label", "recovery", "raw", "train", "val", "best", "problem", "title"),
    *("current", "cursor", "mark"),
    *(f"run-{number}" for number in range(1, RUNS + 1)),
)
BLANK, AXIS, LABEL, RECOVERY, RAW, TRAIN, VAL, BEST, PROBLEM, TITLE, CURRENT, CURSOR, MARK, FIRST_RUN = range(14)

SPIKE, ROLLBACK, RESUMED, BEST_MARK, CHECKPOINT, RATE, ALERT, BROKEN = "▲↺┊★◇Δ!×"

SOLID, HATCHED = "⠤⡇"
"""How a legend names a line, and the single values that it is smoothed from."""
RAW_IN_ASCII = "."

_SPACE = ord(" ")
# For terminals without these characters: one of ASCII for each, so that nothing moves.
_IN_ASCII = str.maketrans(
    {
        **{"─": "-", "│": "|", "┤": "+", "·": "-", "–": "-", "…": ".", "▸": ">", "◂": "<", "•": "*", "⣿": "."},
        **{SOLID: "*", HATCHED: RAW_IN_ASCII},
        **{SPIKE: "S", ROLLBACK: "R", RESUMED: ":", BEST_MARK: "B", CHECKPOINT: "C", RATE: "L", BROKEN: "x"},
        **{"●": "o", "■": "#", "◆": "@", "○": "0", "□": "%"},
    }
)


@dataclass(frozen=True)
class Grid:
    """A drawn chart: one code point and one role for each cell, as arrays of height × width."""

    codes: Codes
    roles: Roles

    @classmethod
    def empty(cls, width: int, height: int) -> "Grid":
        return cls(np.full((height, width), _SPACE, np.uint32), np.zeros((height, width), np.uint8))

    def write(self, row: int, column: int, text: str, role: int) -> None:
        """Put `text` at a place; what does not fit is cut off."""
        height, width = self.codes.shape
        if not 0 <= row < height or column < 0:
            return
        codes = [ord(character) for character in text] if text.isascii() else _cells(text)
        codes = codes[: max(0, width - column)]
        if codes and cell_len(chr(codes[-1])) > 1:
            codes[-1] = _SPACE  # its right half has no room
        self.codes[row, column : column + len(codes)] = codes
        self.roles[row, column : column + len(codes)] = role

    def place(self, other: "Grid", row: int, column: int) -> None:
        """Copy another grid into this one, which has room for it there."""
        height, width = other.codes.shape
        self.codes[row : row + height, column : column + width] = other.codes
        self.roles[row : row + height, column : column + width] = other.roles

    def text(self, row: int) -> str:
        """The characters of one row, one for each cell; NUL for the right half of one that fills two."""
        text: str = self.codes[row].astype("<u4").tobytes().decode("utf-32-le")
        return text

    def to_ascii(self) -> None:
        """Replace every character that is not ASCII by one that is."""
        for row, column in np.argwhere(self.codes > 126).tolist():
            self.codes[row, column] = ord(in_ascii(chr(self.codes[row, column])))

    def changed_spans(self, before: "Grid") -> list[tuple[int, int, int]]:
        """Row, first column and width of what differs from `before`, which must have the same size."""
        different = (self.codes != before.codes) | (self.roles != before.roles)
        spans = []
        for row in np.flatnonzero(different.any(axis=1)).tolist():
            columns = np.flatnonzero(different[row])
            # Spans are cut where at least eight cells are alike: moving the cursor costs about as many bytes.
            parts = np.split(columns, np.flatnonzero(np.diff(columns) > 8) + 1)
            spans += [(row, int(part[0]), int(part[-1] - part[0] + 1)) for part in parts]
        return spans


def _cells(text: str) -> list[int]:
    """One code for each cell: after a character that fills two comes 0, and what fills none is left out."""
    codes: list[int] = []
    for character in text:
        width = cell_len(character)
        codes += [ord(character), *[0] * (width - 1)] if width else []
    return codes


def in_ascii(text: str) -> str:
    """The same text, as long as it was, in characters of ASCII alone."""
    return "".join(one if ord(one) < 127 else "?" for one in text.translate(_IN_ASCII))


def in_short(said: Said, way: int) -> str:
    """How a text is said in the fewest cells (1), or in the next to fewest (2), and so on, if it can be."""
    return said if isinstance(said, str) else said[-way if way < len(said) else -1]


def fitted(entries: Iterable[tuple[Said, int]], room: int) -> list[tuple[str, int]]:
    """As many of a legend's entries as find room, each with two cells before it, the most important ones first.

    Where room is short all are said in fewer cells. An entry consists of parts with " · " between them: where not even
    the shortest have room, those with the most parts lose one at the end, the last of them first; then the last ones
    go altogether.
    """
    ways = [((said,) if isinstance(said, str) else said, role) for said, role in entries if said]
    chosen, excess = list[tuple[list[str], int]](), 0
    for way in range(max((len(said) for said, _ in ways), default=0)):
        chosen = [(said[min(way, len(said) - 1)].split(" · "), role) for said, role in ways]
        # Each part takes three cells besides its own: those of the mark between it and the next.
        excess = sum(cell_len(part) + 3 for parts, _ in chosen for part in parts) - room
        if excess <= 0:
            break
    while excess > 0 and (most := max((len(parts) for parts, _ in chosen), default=1)) > 1:
        excess -= cell_len(next(parts for parts, _ in reversed(chosen) if len(parts) == most).pop()) + 3
    while chosen and excess > 0:
        excess -= sum(cell_len(part) + 3 for part in chosen.pop()[0])
    return [(" · ".join(parts), role) for parts, role in chosen]
