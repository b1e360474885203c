"""Back to a good checkpoint, after a training has diverged or its weights were left half changed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from minigpt.checkpoint import remove_checkpoint
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.errors import UserError
from minigpt.learner import Learner
from minigpt.restoring import restore_newest
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.saving import Saver


@dataclass(frozen=True)
class WentBack:
    """Where a training goes on from, once its learner is as it was there."""

    counters: Counters
    reason: str
    """"diverged" or "memory"."""
    message: str


class WayBack:
    """Takes a learner back to the run's checkpoints, and further back where the newest has led into trouble again."""

    def __init__(
        self,
        run: RunDirectory,
        learner: Learner,
        data: TrainingData,
        saver: Saver,
        notice: Callable[[str, str], None],
    ) -> None:
        self._run = run
        self._learner = learner
        self._data = data
        self._saver = saver
        self._notice = notice
        self._went_to = -1
        self._abandoned: list[Checkpoint] = []

    def after_divergence(self, counters: Counters, most: int) -> WentBack:
        """With half the learning rate. Raises UserError when it has been gone `most` times already."""
        recoveries, scale = counters.recoveries + 1, counters.learning_rate_scale / 2
        times = f"for the {_ordinal(recoveries)} time " if counters.recoveries else ""
        what = f"the loss was no longer a finite number at step {counters.step:,}"
        advice = "Try a lower --train.learning-rate, a longer --train.warmup-steps or --train.grad-clip 1."
        self._saver.finish()
        if recoveries > most or not self._run.checkpoints():
            raise UserError(f"{what} {times}".rstrip() + f"; {self._saver.kept()}. {advice}")
        restored = self._go(recoveries, scale)
        message = f"{what}: back to step {restored.step:,}, with {scale:g} of the learning rate"
        return WentBack(restored, "diverged", message)

    def after_half_an_update(self, counters: Counters) -> WentBack:
        """With the same learning rate: memory ran out while the weights were changing."""
        what = "out of memory while the weights were changing"
        self._saver.finish()
        if not self._run.checkpoints():
            raise UserError(f"{what}, before anything was saved: start anew")
        restored = self._go(counters.recoveries, counters.learning_rate_scale)
        return WentBack(restored, "memory", f"{what}: back to step {restored.step:,}")

    def remove_abandoned(self) -> None:
        """Remove what was saved on a way that has been left, as far as the disk lets it; a save tries again."""
        for checkpoint in list(self._abandoned):
            with suppress(OSError):
                if checkpoint.path.exists():
                    remove_checkpoint(checkpoint)
                self._abandoned.remove(checkpoint)

    def _go(self, recoveries: int, learning_rate_scale: float) -> Counters:
        # To the newest checkpoint, or the one before if that has led here already.
        kept = [checkpoint for checkpoint in self._run.checkpoints() if checkpoint not in self._abandoned]
        before = kept[-1].step + (kept[-1].step != self._went_to or len(kept) == 1)
        restored = restore_newest(
            self._run, self._learner, self._data, lambda text: self._notice("checkpoint", text), before
        )
        assert restored is not None
        restored.recoveries, restored.learning_rate_scale = recoveries, learning_rate_scale
        self._abandoned = [checkpoint for checkpoint in self._run.checkpoints() if checkpoint.step > restored.step]
        self.remove_abandoned()
        self._went_to = restored.step
        return restored


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
