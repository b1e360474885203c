"""The rows of metrics.jsonl, the table of epochs, and the loss spikes that show in them: written as a training goes."""

import math
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from minigpt.batches import Batches
from minigpt.clock import Clock
from minigpt.counters import Counters
from minigpt.files import write_atomically
from minigpt.journal import Row
from minigpt.learner import Learner
from minigpt.metrics import Metrics, epoch_table
from minigpt.run_log import RunLog
from minigpt.spikes import Spikes

_LOSSES_BEFORE = 100  # rows: Spikes gives the same answers then as if it had seen all of them


class MetricRows:
    """Writes a row at a time, from what the training counts; `metrics` are those before it, in the same file.

    `alike_since` is the step from which on it trained with the settings of today: losses from before, under another
    learning rate for example, are no reference for a spike.
    """

    def __init__(self, metrics: Metrics, log: RunLog, batches: Batches, alike_since: int) -> None:
        self._metrics = metrics
        self._log = log
        self._batches = batches
        self._alike_since = alike_since
        self._process = psutil.Process()

    def begin(self, counters: Counters, resumed_from: int | None) -> None:
        """Begin an attempt, which goes on from there."""
        self._resumed_from = resumed_from
        self._steps = 0
        self._alike_since = min(self._alike_since, counters.step)
        self._metrics.read_all()
        # An attempt that was left behind has rows beyond this step.
        steps, losses = self._metrics.series("train_loss")
        last = counters.step - counters.after_step_is_due
        are_alike = (steps > self._alike_since) & (steps <= last)
        self._spikes = Spikes(losses[are_alike][-_LOSSES_BEFORE:].tolist())

    def count_step(self) -> None:
        """Count a step into the throughput of the next row."""
        self._steps += 1

    def write(self, counters: Counters, learner: Learner, clock: Clock) -> None:
        """Write the row of this step, and tell of a loss that has leapt; what is counted per row begins anew."""
        row: Row = {"step": counters.step, "attempt": self._log.attempt}
        if self._resumed_from is not None:
            row["resumed_from"] = self._resumed_from
        row["tokens"] = self._batches.tokens_at(counters.step)
        row["epoch"] = counters.step / self._batches.steps_per_epoch
        if counters.steps_since_row + counters.nonfinite_steps:
            steps = counters.steps_since_row
            row["train_loss"] = float(learner.loss_sum) / steps if steps else math.nan
            row["learning_rate"] = counters.learning_rate
            row["grad_norm"] = math.nan if learner.grad_norm is None else float(learner.grad_norm)
        if counters.nonfinite_steps:
            row["nonfinite_steps"] = counters.nonfinite_steps
        row["elapsed"] = round(clock.elapsed(), 3)
        seconds = clock.new_row()
        if self._steps:
            tokens = row["tokens"] - self._batches.tokens_at(counters.step - self._steps)
            row["tokens_per_second"] = round(tokens / seconds, 1)
        row["memory_rss"] = self._process.memory_info().rss
        if learner.device.type == "cuda":
            row["cuda_allocated"] = torch.cuda.memory_allocated()
            row["cuda_reserved"] = torch.cuda.memory_reserved()
            row["cuda_peak"] = torch.cuda.max_memory_allocated()
        row |= counters.last_losses
        self._log.metrics.append(row)
        self._resumed_from = None  # only the first row of an attempt says it
        self._steps = 0
        learner.loss_sum.zero_()
        counters.steps_since_row = counters.nonfinite_steps = 0
        self._look_for_spike(counters.step, row.get("train_loss", math.nan))

    def _look_for_spike(self, step: int, loss: float) -> None:
        # The row of the very step at which the settings were changed is still one of the old ones.
        if step > self._alike_since and self._spikes.take(loss):
            self._log.notice(step, "spike", f"the training loss leapt to {loss:.4f} at step {step:,}", loss=loss)

    def write_epochs(self, file: Path) -> None:
        """Write the table of epochs anew, as a spreadsheet reads it. It only repeats what metrics.jsonl has."""
        self._metrics.read_all()
        lines = ["epoch,step,train_loss,val_loss,train_perplexity,val_perplexity"]
        for row in epoch_table(self._metrics):
            losses = (row.train_loss, row.val_loss, row.train_perplexity, row.val_perplexity)
            lines.append(",".join([str(row.epoch), str(row.step), *(f"{value:.6g}" for value in losses)]))
        if not self._log.metrics.is_in_place():
            return  # the directory is gone, or another run's by now
        with suppress(OSError):
            write_atomically(file, "\n".join(lines) + "\n")
