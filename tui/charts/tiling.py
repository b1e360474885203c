"""How many charts a place has room for, and where each of them stands."""

from dataclasses import dataclass

_WIDE = 60  # cells that a chart beside another one needs
_HIGH = 13  # rows that a chart over another one should have
_LOW = 9  # and with which two of them are still better than one
_MOST_ROWS, _MOST_COLUMNS = 4, 3
_LEAST_WIDTH, _LEAST_HEIGHT = 34, 6  # with which a chart among many still shows its shape, and has its title


@dataclass(frozen=True)
class Tile:
    """Where a chart stands, in cells."""

    column: int
    row: int
    width: int
    height: int

    def holds(self, column: int, row: int) -> bool:
        """Whether a cell belongs to it."""
        return 0 <= column - self.column < self.width and 0 <= row - self.row < self.height


def room_for(width: int, height: int) -> tuple[int, int]:
    """How many charts fit over and beside each other."""
    rows = max(1, min(_MOST_ROWS, height // _HIGH))
    columns = max(1, min(_MOST_COLUMNS, width // _WIDE))
    if rows * columns == 1:
        # Two belong together, the loss and the perplexity, even if each of them is small.
        if height >= 2 * _LOW:
            rows = 2
        elif width >= _WIDE:
            columns = 2
    return rows, columns


def tiles(width: int, height: int, number: int) -> list[Tile]:
    """Places for at most `number` charts, as many as there is room for, that fill the whole."""
    rows, columns = room_for(width, height)
    number = max(1, min(number, rows * columns))
    return _filled(width, height, number, min(columns, number))


def small_tiles(width: int, height: int, number: int) -> list[Tile]:
    """Places of one size for as many of `number` charts as there can be in view at all."""
    columns = max(1, min(number, width // _LEAST_WIDTH))
    rows = max(1, min(-(-number // columns), height // _LEAST_HEIGHT))
    return _filled(width, height, rows * columns, columns)[: max(1, number)]


def _filled(width: int, height: int, number: int, columns: int) -> list[Tile]:
    """Places for `number` charts in so many columns that fill the whole."""
    rows = -(-number // columns)
    found = []
    for index in range(number):
        row, place = divmod(index, columns)
        # The last row may have fewer, which then are wider.
        beside = min(columns, number - row * columns)
        left, right = (round(one * (width + 1) / beside) for one in (place, place + 1))
        top, bottom = row * height // rows, (row + 1) * height // rows
        found.append(Tile(left, top, right - left - 1, bottom - top))
    return found
