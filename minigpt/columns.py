"""Columns of numbers over the steps, as rows of metrics fill them: compact, and growing without being copied often."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter, lt
from typing import TYPE_CHECKING, Any

from minigpt.journal import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOT_COLUMNS = frozenset({"step", "attempt", "resumed_from"})
_LARGEST = 2**1000  # a whole number beyond it fits into no float, or hardly
_NUMBERS = frozenset({int, float, type(None)})


class Column:
    """Numbers one after the other: "q" for whole ones of 64 bits, "d" for floats.

    Readers get views of it, which stay as they are whatever becomes of the column. No numpy here: it takes a tenth of a
    second to import, and a list of runs does without it.
    """

    __slots__ = ("_cells", "_lent", "size")

    def __init__(self, typecode: str, cells: "array[Any] | None" = None, size: int = 0) -> None:
        self._cells: array[Any] = array(typecode) if cells is None else cells
        self.size = size
        """How many of the cells are filled."""
        self._lent = 0
        """So many of the first cells are in the hands of readers, and are never written again."""

    def extend(self, numbers: "array[Any]") -> None:
        """Add numbers at the end."""
        end = self.size + len(numbers)
        if end > len(self._cells) or self.size < self._lent:
            self._move(max(end + end // 4, 64))
        self._cells[self.size : end] = numbers
        self.size = end

    def _move(self, capacity: int) -> None:
        # Views are never resized with their array: an array that shared its memory could not grow (BufferError).
        cells = array(self._cells.typecode)
        cells.frombytes(memoryview(self._cells)[: self.size].cast("B"))
        cells.frombytes(bytes(8 * (capacity - self.size)))
        self._cells, self._lent = cells, 0

    def cut(self, size: int) -> None:
        """Forget all but the first `size`."""
        self.size = min(self.size, size)

    def place_after(self, number: float) -> int:
        """Of an ascending column: how many are at most `number`."""
        return bisect_right(self._cells, number, 0, self.size)

    def copy(self) -> "Column":
        """Another column with the same numbers."""
        return Column(self._cells.typecode, self.numbers(), self.size)

    def newest(self) -> Any:
        """The last number; None of an empty column."""
        return self._cells[self.size - 1] if self.size else None

    def numbers(self) -> "array[Any]":
        """A copy of the numbers."""
        return self._cells[: self.size]

    def memory(self) -> memoryview:
        """The numbers as they are now, to be read."""
        self._lent = max(self._lent, self.size)
        return memoryview(self._cells)[: self.size].toreadonly()

    def view(self) -> "NDArray[Any]":
        """The same for numpy; not a copy, and not to be written to."""
        import numpy as np

        cells = np.frombuffer(self.memory(), dtype=np.int64 if self._cells.typecode == "q" else np.float64)
        return cells


@dataclass(frozen=True)
class Part:
    """Columns that have values at the same steps."""

    steps: "array[int]"
    values: "Mapping[str, array[float]]"


@dataclass(frozen=True)
class Batch:
    """Rows of one attempt, whose steps ascend and whose values are numbers, turned into columns."""

    attempt: int
    first: int
    """The first and the last step."""
    final: int
    parts: Sequence[Part]
    names: Sequence[str]
    """Those of the parts' columns, in the order in which they appeared."""
    last: Row


def batch_of(rows: Sequence[Row]) -> Batch | None:
    """The rows as columns; None if they are not that regular, and each has to be looked at."""
    try:
        steps = list(map(itemgetter("step"), rows))
        attempts = list(map(itemgetter("attempt"), rows))
    except KeyError:
        return None
    attempt = attempts[0]
    if {*map(type, steps), *map(type, attempts)} != {int} or attempts.count(attempt) != len(rows):
        return None
    if not (0 <= attempt < 2**62 and steps[0] >= 0 and steps[-1] < 2**62 and _ascend(steps)):
        return None
    places: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(tuple(row), []).append(place)
    whole = array("q", steps)
    parts: dict[tuple[tuple[str, ...], ...], tuple[array[int], dict[str, array[float]]]] = {}
    names = list(dict.fromkeys(name for shape in places for name in shape if name not in NOT_COLUMNS))
    for name in names:
        having = tuple(shape for shape in places if name in shape)
        if len(having) == len(places):
            of_name, at = rows, None
        else:
            at = sorted(place for shape in having for place in places[shape])
            of_name = [rows[place] for place in at]
        values = _floats(list(map(itemgetter(name), of_name)))
        if values is None:
            return None
        if having not in parts:
            parts[having] = (whole if at is None else array("q", [steps[place] for place in at])), {}
        parts[having][1][name] = values
    made = [Part(*part) for part in parts.values()]
    return Batch(attempt, steps[0], steps[-1], made, names, rows[-1])


def _ascend(steps: Sequence[int]) -> bool:
    return all(map(lt, steps, islice(steps, 1, None)))


def _floats(values: list[Any]) -> "array[float] | None":
    types = set(map(type, values))
    if not types <= _NUMBERS:
        return None
    if int in types and not all(-_LARGEST < value < _LARGEST for value in values if type(value) is int):
        return None
    if type(None) in types:
        values = [float("nan") if value is None else value for value in values]
    return array("d", values)


class _Group:
    """Columns that have had values at the same steps so far."""

    def __init__(self, steps: Column, values: dict[str, Column]) -> None:
        self.steps = steps
        self.values = values


class Table:
    """All columns of a run. Those with values at the same steps, as nearly all have, share the memory for the steps."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._group_of: dict[str, _Group] = {}
        """For each name, in the order in which they appeared."""

    @classmethod
    def of(cls, groups: "Iterable[tuple[Column, dict[str, Column]]]", order: Iterable[str]) -> "Table":
        """A table of the columns that `groups` gave, with `order` from the same one."""
        table = cls()
        for steps, values in groups:
            table._add_group(_Group(steps, values))
        table._group_of = {name: table._group_of[name] for name in order}
        return table

    def groups(self) -> "list[tuple[Column, dict[str, Column]]]":
        """The columns of steps, each with the columns of values that belong to it."""
        return [(group.steps, group.values) for group in self._groups]

    def order(self) -> list[str]:
        """All names, also of columns that are empty again, in the order in which they appeared."""
        return list(self._group_of)

    def __contains__(self, name: str) -> bool:
        return name in self._group_of

    def __len__(self) -> int:
        return len(self._group_of)

    def add_batch(self, batch: Batch) -> None:
        """Append all columns of a batch, whose steps come after those that are there."""
        order = list(dict.fromkeys([*self._group_of, *batch.names]))
        for part in batch.parts:
            self.add(part)
        if self.order() != order:
            self._group_of = {name: self._group_of[name] for name in order}

    def add(self, part: Part) -> None:
        """Append values to columns, the new ones among them; the steps come after those that are there."""
        missing = dict.fromkeys(name for name in part.values if name not in self._group_of)
        if missing:
            self._add_group(_Group(Column("q"), {name: Column("d") for name in missing}))
        for whole in dict.fromkeys(self._group_of[name] for name in part.values):
            here = {name for name in whole.values if name in part.values}
            group = whole if len(here) == len(whole.values) else self._split(whole, here)
            group.steps.extend(part.steps)
            for name, column in group.values.items():
                column.extend(part.values[name])

    def _add_group(self, group: _Group) -> None:
        self._groups.append(group)
        for name in group.values:
            self._group_of[name] = group

    def _split(self, group: _Group, names: set[str]) -> _Group:
        new = _Group(group.steps.copy(), {name: group.values.pop(name) for name in list(group.values) if name in names})
        self._add_group(new)
        return new

    def cut_after(self, step: int) -> None:
        """Forget what belongs to later steps."""
        for group in self._groups:
            size = group.steps.place_after(step)
            group.steps.cut(size)
            for column in group.values.values():
                column.cut(size)

    def names(self) -> list[str]:
        """The columns that have values, in the order in which they appeared."""
        return [name for name, group in self._group_of.items() if group.steps.size]

    def newest(self, name: str) -> float | None:
        """The newest value of a column; None if there is none."""
        group = self._group_of.get(name)
        return None if group is None else group.values[name].newest()

    def series(self, name: str) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Steps and values of a column, not to be written to: no copies, however long they are."""
        group = self._group_of.get(name)
        if group is None:
            return Column("q").view(), Column("d").view()
        return group.steps.view(), group.values[name].view()
