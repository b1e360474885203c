"""The order of a table's rows: by which of its columns they are sorted, and which way round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Key(Generic[Row]):
    """What a column is sorted by; `largest_first` where that is what one looks for. None comes last either way."""

    value: Callable[[Row], float | str | None]
    largest_first: bool = False


@dataclass(frozen=True)
class Order:
    """Sorted by this column, or by none of them; `reverse` is against what the column's key says."""

    column: int | None = None
    reverse: bool = False


def next_order(order: Order, columns: Sequence[int | None]) -> Order:
    """Sorted by the next of these columns."""
    place = columns.index(order.column) if order.column in columns else -1
    return Order(columns[(place + 1) % len(columns)])


def in_order(rows: Sequence[Row], order: Order, keys: Mapping[int, Key[Row]]) -> list[Row]:
    """The rows in this order; as they come if they are sorted by no column."""
    if order.column is None:
        return list(rows)
    key = keys[order.column]
    known = [(value, row) for row in rows if (value := key.value(row)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=key.largest_first != order.reverse)
    return [row for _, row in known] + [row for row in rows if key.value(row) is None]


def with_arrow(
    labels: Sequence[str], order: Order, keys: Mapping[int, Key[Row]], *, ascii: bool = False
) -> tuple[str, ...]:
    """The heads of the columns, with an arrow at the one that sorts: up where values grow from row to row."""
    labels = list(labels)
    if order.column is not None:
        falls = keys[order.column].largest_first != order.reverse
        labels[order.column] += (" v" if falls else " ^") if ascii else (" ▼" if falls else " ▲")
    return tuple(labels)
