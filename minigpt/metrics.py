"""Metrics as a reader sees them: one series per name, each step once, the abandoned attempts marked."""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.columns import NOT_COLUMNS, Batch, Part, Table, batch_of
from minigpt.journal import JournalTail, Row, count_in, number_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Recovery:
    """A resumption: training had come to `reached` and went on from the checkpoint of `resumed_from`."""

    attempt: int
    reached: int
    resumed_from: int


_MOST_NAMES = 100  # a trainer writes about twenty; each costs at each attempt
_BITE = 1 << 20  # bytes; the rows in them take ten times as much memory for a moment
_FEWEST_AT_ONCE = 16  # rows that are worth turning into columns together


class Metrics:
    """The one reader of metrics.jsonl.

    A run that was killed does the steps since its last checkpoint again, as the next attempt; the file then holds
    some steps twice. This reader yields the last attempt's row for each step and remembers each such recovery.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail = JournalTail(path)
        self._restarts = 0
        self._clear()

    def _clear(self) -> None:
        self._table = Table()
        self.attempt = 0
        self.recoveries: list[Recovery] = []
        self.last: Row = {}
        """The newest row."""
        self._improvements: list[tuple[int, float]] = []

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the lowest val_loss so far."""
        return self._improvements[-1] if self._improvements else None

    @property
    def offset(self) -> int:
        """How far into the file it has read."""
        return self._tail.offset

    def poll(self, limit: int = 32 << 20) -> bool:
        """Take in at most `limit` bytes of what was written since the last call; whether anything was."""
        rows = self._tail.poll(limit)
        changed = False
        if self._tail.restarts != self._restarts:
            self._restarts = self._tail.restarts
            self._clear()
            changed = True
        return self.take(rows) or changed

    def begins_with(self, inode: int) -> bool:
        """Whether the file with this inode is the one that it reads, or can be because it has not read any yet."""
        if not self.offset:
            self._tail.go_on_from(0, inode)
        return self._tail.inode == inode

    def go_on(self, batch: Batch | None, end: int) -> bool:
        """Take in the file up to the offset `end`, whose rows another reader has turned into a batch, or could not.

        False if the file is another one by now.
        """
        before = self._tail.offset
        if batch is not None and before < end and self.take_batch(batch):
            self._tail.offset = end
            return True
        restarts = self._restarts
        self.poll(end - before)
        return self._tail.offset == end and self._restarts == restarts

    def read_cache(self) -> bool:
        """Begin with what was kept of the file when it was read before; whether there was any, and it is right.

        Then `poll` goes on from there. For one that has not read anything yet.
        """
        from minigpt.metrics_cache import read_cache

        if self.offset or (found := read_cache(self.path)) is None:
            return False
        contents, inode = found
        self._clear()
        self._tail.go_on_from(contents.offset, inode)
        self.attempt, self.last, self._table = contents.attempt, contents.last, contents.table
        self.recoveries = [Recovery(*recovery) for recovery in contents.recoveries]
        self._improvements = contents.improvements
        return True

    def prepare_cache(self) -> "Callable[[], bool]":
        """Take hold of what is known now; what is returned keeps it for `read_cache`, and may run in another thread."""
        from minigpt.metrics_cache import Contents, Prepared, write_cache

        recoveries = [(each.attempt, each.reached, each.resumed_from) for each in self.recoveries]
        prepared = Prepared(Contents(self.offset, self.attempt, self.last, recoveries, self._improvements, self._table))
        path, inode = self.path, self._tail.inode
        return lambda: write_cache(path, inode, prepared)

    def take(self, rows: Sequence[Row]) -> bool:
        """Take in rows in the order of the file, of which some may be left out; whether any of them counted."""
        changed = False
        for _, of_attempt in groupby(rows, lambda row: row.get("attempt")):
            group = list(of_attempt)
            if group[0].get("attempt") != self.attempt:  # the first row of an attempt tells where it goes on from
                changed |= self._take(group.pop(0))
            batch = batch_of(group) if len(group) >= _FEWEST_AT_ONCE else None
            if batch is not None and self.take_batch(batch):
                changed = True
                continue
            for row in group:
                changed |= self._take(row)
        return changed

    def take_batch(self, batch: Batch) -> bool:
        """Take in many rows at once, if they go on where the last one stopped; else nothing happens, and it is False.

        What comes of it is what taking in each of these rows gives.
        """
        if self.last and (batch.attempt != self.attempt or batch.first <= self.last["step"]):
            return False
        new = sum(name not in self._table for name in batch.names)
        if len(self._table) + new > _MOST_NAMES:
            return False
        self.attempt = batch.attempt
        self._table.add_batch(batch)
        for part in batch.parts:
            losses = part.values.get("val_loss", ())
            for step, loss in zip(part.steps, losses, strict=False):
                self._improve(step, loss)
        self.last = batch.last
        return True

    def read_all(self) -> "Metrics":
        """Take in the whole file as it is now; what was kept of a long one is not read again."""
        self.read_cache()
        before = -1
        while self._tail.offset != before:
            before = self._tail.offset
            self.poll(_BITE)
        return self

    def _take(self, row: Row) -> bool:
        step, attempt = count_in(row, "step"), count_in({"attempt": 1, **row}, "attempt")
        if step is None or attempt is None or attempt < self.attempt:
            return False
        if attempt > self.attempt:
            if self.last:
                self._begin_attempt(row, step, attempt)
            self.attempt = attempt
        elif self.last and step <= self.last["step"]:
            return False
        values: dict[str, array[float]] = {}
        room = _MOST_NAMES - len(self._table)
        for name, value in row.items():
            number = math.nan if value is None else number_in(row, name)
            if number is None or name in NOT_COLUMNS or (name not in self._table and room == 0):
                continue
            room -= name not in self._table
            values[name] = array("d", [number])
        self._table.add(Part(array("q", [step]), values))
        self.last = row
        loss = number_in(row, "val_loss")
        if loss is not None:
            self._improve(step, loss)
        return True

    def _improve(self, step: int, loss: float) -> None:
        if math.isfinite(loss) and (not self._improvements or loss < self._improvements[-1][1]):
            self._improvements.append((step, loss))

    def _begin_attempt(self, row: Row, step: int, attempt: int) -> None:
        resumed_from = count_in(row, "resumed_from")
        kept = resumed_from if resumed_from is not None and resumed_from < step else step - 1
        self.recoveries.append(Recovery(attempt, self.last.get("step", 0), max(0, kept)))
        self._table.cut_after(kept)
        self.last = {}
        while self._improvements and self._improvements[-1][0] > kept:
            self._improvements.pop()

    def names(self) -> list[str]:
        """The metrics that have at least one value, in the order in which they appeared."""
        return self._table.names()

    def newest(self, name: str) -> float | None:
        """The newest value of one metric, nan if it was not finite; None for a name that is not there."""
        return self._table.newest(name)

    def series(self, name: str) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Steps and values of one metric; a value that was not finite is nan. Empty for a name that is not there.

        They are no copies, stay as they are when the file grows, and are not to be written to.
        """
        return self._table.series(name)


@dataclass(frozen=True)
class EpochRow:
    """How a run stood at the end of one epoch. Losses in nats per token, both without dropout."""

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    train_perplexity: float
    val_perplexity: float


def epoch_table(metrics: Metrics) -> list[EpochRow]:
    """For each epoch the last evaluation in it, or at its end; epochs without one are left out.

    The evaluation before the first step belongs to no epoch.
    """
    steps, losses = metrics.series("val_loss")
    epochs, train_losses = (_values_at(steps, *metrics.series(name)) for name in ("epoch", "train_eval_loss"))
    table: dict[int, EpochRow] = {}
    rows = zip(steps.tolist(), losses.tolist(), epochs, train_losses, strict=True)
    for step, val_loss, passed, train_loss in rows:
        # An epoch that ends at this very step may come out a rounding error too late.
        epoch = math.ceil(passed - 1e-6) if math.isfinite(passed) else 0
        if epoch > 0:
            table[epoch] = EpochRow(epoch, step, train_loss, val_loss, perplexity(train_loss), perplexity(val_loss))
    return list(table.values())


def _values_at(wanted: "NDArray[np.int64]", steps: "NDArray[np.int64]", values: "NDArray[np.float64]") -> "list[float]":
    """A metric's values at the steps of another one; nan where it has none."""
    import numpy as np

    if not steps.size:
        return [math.nan] * wanted.size
    places = np.minimum(np.searchsorted(steps, wanted), steps.size - 1)
    return list(np.where(steps[places] == wanted, values[places], math.nan).tolist())


def perplexity(loss: float) -> float:
    """e to the loss, infinite where a float cannot hold it: among how many equally likely tokens a model hesitates."""
    return math.exp(loss) if loss < 700 else math.inf
