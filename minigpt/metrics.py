"""Metrics as a reader sees them: one series per name, each step once, the abandoned attempts marked."""

import math
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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


class _Series:
    def __init__(self) -> None:
        # Compact, and copied into numpy at the speed of memory: an overnight run has a hundred thousand rows.
        self.steps = array("q")
        self.values = array("d")

    def cut_after(self, step: int) -> None:
        keep = bisect_right(self.steps, step)
        del self.steps[keep:], self.values[keep:]


_MOST_NAMES = 100  # a trainer writes about twenty; each costs at each attempt


class Metrics:
    """The one reader of metrics.jsonl.

    A run that was killed does the steps since its last checkpoint again, as the next attempt; the file then holds
    some steps twice. This reader yields the last attempt's row for each step and remembers each such recovery.
    """

    def __init__(self, path: Path) -> None:
        self._tail = JournalTail(path)
        self._restarts = 0
        self._clear()

    def _clear(self) -> None:
        self._series: dict[str, _Series] = {}
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
        for row in rows:
            changed |= self._take(row)
        return changed

    def read_all(self) -> "Metrics":
        """Take in the whole file as it is now."""
        before = -1
        while self._tail.offset != before:
            before = self._tail.offset
            self.poll()
        return self

    def _take(self, row: Row) -> bool:
        step, attempt = count_in(row, "step"), count_in({"attempt": 1, **row}, "attempt")
        if step is None or attempt is None or attempt < self.attempt:
            return False
        if attempt > self.attempt:
            if self.attempt:
                self._begin_attempt(row, step, attempt)
            self.attempt = attempt
        elif self.last and step <= self.last["step"]:
            return False
        for name, value in row.items():
            if name in {"step", "attempt", "resumed_from"}:
                continue
            number = math.nan if value is None else number_in(row, name)
            if number is not None and (name in self._series or len(self._series) < _MOST_NAMES):
                series = self._series.setdefault(name, _Series())
                series.steps.append(step)
                series.values.append(number)
        self.last = row
        loss = number_in(row, "val_loss")
        if loss is not None and math.isfinite(loss) and (self.best is None or loss < self.best[1]):
            self._improvements.append((step, loss))
        return True

    def _begin_attempt(self, row: Row, step: int, attempt: int) -> None:
        resumed_from = count_in(row, "resumed_from")
        kept = resumed_from if resumed_from is not None and resumed_from < step else step - 1
        self.recoveries.append(Recovery(attempt, self.last.get("step", 0), max(0, kept)))
        for series in self._series.values():
            series.cut_after(kept)
        self.last = {}
        while self._improvements and self._improvements[-1][0] > kept:
            self._improvements.pop()

    def names(self) -> list[str]:
        """The metrics that have at least one value, in the order in which they appeared."""
        return [name for name, series in self._series.items() if series.steps]

    def newest(self, name: str) -> float | None:
        """The newest value of one metric, nan if it was not finite; None for a name that is not there."""
        series = self._series.get(name)
        return series.values[-1] if series is not None and series.values else None

    def series(self, name: str) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Steps and values of one metric; a value that was not finite is nan. Empty for a name that is not there."""
        import numpy as np  # here: a list of runs does without it

        series = self._series.get(name) or _Series()
        # Copies: an array that shared the growing buffer would keep it from growing (BufferError).
        return np.array(series.steps, dtype=np.int64), np.array(series.values, dtype=np.float64)


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
    epochs = dict(zip(*(column.tolist() for column in metrics.series("epoch")), strict=True))
    train = dict(zip(*(column.tolist() for column in metrics.series("train_eval_loss")), strict=True))
    steps, losses = metrics.series("val_loss")
    table: dict[int, EpochRow] = {}
    for step, val_loss in zip(steps.tolist(), losses.tolist(), strict=True):
        # An epoch that ends at this very step may come out a rounding error too late.
        passed = epochs.get(step, 0.0)
        epoch = math.ceil(passed - 1e-6) if math.isfinite(passed) else 0
        if epoch > 0:
            train_loss = train.get(step, math.nan)
            table[epoch] = EpochRow(epoch, step, train_loss, val_loss, perplexity(train_loss), perplexity(val_loss))
    return list(table.values())


def perplexity(loss: float) -> float:
    """e to the loss, infinite where a float cannot hold it: among how many equally likely tokens a model hesitates."""
    return math.exp(loss) if loss < 700 else math.inf
