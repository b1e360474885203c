"""What a training counts: how far it is, its best evaluation, and how long there was no better one."""

import math
from dataclasses import dataclass, field
from typing import Any

from minigpt.config import TrainConfig
from minigpt.journal import number_in

_LOSSES = ("val_loss", "train_eval_loss")
_OVERFITTING_AFTER = 3  # evaluations in a row without a better validation loss


@dataclass
class Counters:
    """What a checkpoint keeps besides tensors, so that a resumed run counts on where it was."""

    step: int = 0
    elapsed: float = 0.0
    """Seconds of training, as of the last checkpoint."""
    best_step: int = -1
    best_val_loss: float = math.inf
    best_train_loss: float = math.inf
    """`train_eval_loss` where val_loss was best; infinite for a run that an earlier version began."""
    evaluations_since_best: int = 0
    told_overfitting: int = -1
    """The best step for which it has been said that the model only learns by heart since."""
    steps_since_row: int = 0
    """Steps that were applied since the last row of metrics; `nonfinite_steps` were left out."""
    nonfinite_steps: int = 0
    nonfinite_in_a_row: int = 0
    after_step_is_due: bool = True
    """Whether evaluation, row, sample and checkpoint of the present step are still to come."""
    recoveries: int = 0
    """How often a training that diverged has gone back to a checkpoint."""
    learning_rate_scale: float = 1.0
    """What the learning rate is multiplied by since."""
    learning_rate: float = 0.0
    """That of the last step."""

    last_losses: dict[str, float] = field(default_factory=dict)
    """The figures of the evaluation at `step`, if there was one."""

    def take_evaluation(self, train_loss: float, val_loss: float) -> bool:
        """Count an evaluation at this step; whether it is the best so far."""
        improved = val_loss < self.best_val_loss
        if improved:
            self.best_step, self.best_val_loss, self.best_train_loss = self.step, val_loss, train_loss
        self.evaluations_since_best = 0 if improved else self.evaluations_since_best + 1
        return improved

    def begins_to_overfit(self, train_loss: float) -> bool:
        """Whether for some evaluations only the training loss has fallen; true once for each best step."""
        overfits = (
            self.evaluations_since_best >= _OVERFITTING_AFTER
            and train_loss < self.best_train_loss < math.inf
            and self.told_overfitting != self.best_step
        )
        if overfits:
            self.told_overfitting = self.best_step
        return overfits

    def end(self, train: TrainConfig, elapsed: float) -> str | None:
        """Which limit has been reached: "steps", "time" (in seconds of training) or "patience"; None for none."""
        if train.max_steps and self.step >= train.max_steps:
            return "steps"
        if train.max_minutes and elapsed >= 60 * train.max_minutes:
            return "time"
        return "patience" if train.patience and self.evaluations_since_best >= train.patience else None

    def progress(self, train: TrainConfig, elapsed: float) -> float | None:
        """How much of a training is over that the clock may end; None where steps alone tell."""
        if not train.max_minutes:
            return None
        by_clock = elapsed / (60 * train.max_minutes)
        by_steps = (self.step - train.warmup_steps) / max(1, train.max_steps - train.warmup_steps)
        return max(by_clock, by_steps) if train.max_steps else by_clock

    def to_json(self) -> dict[str, Any]:
        """What checkpoint.json says of them, besides the step."""
        best = {
            "step": self.best_step,
            "val_loss": self.best_val_loss,
            "train_eval_loss": None if math.isinf(self.best_train_loss) else self.best_train_loss,
        }
        return {
            "elapsed": self.elapsed,
            "steps_since_row": self.steps_since_row,
            "nonfinite_steps": self.nonfinite_steps,
            "nonfinite_in_a_row": self.nonfinite_in_a_row,
            "after_step_is_due": self.after_step_is_due,
            "recoveries": self.recoveries,
            "learning_rate_scale": self.learning_rate_scale,
            "learning_rate": self.learning_rate,
            "evaluations_since_best": self.evaluations_since_best,
            "told_overfitting": self.told_overfitting,
            **{name: self.last_losses.get(name) for name in _LOSSES},
            "best": best if self.best_step >= 0 else None,
        }

    @classmethod
    def from_json(cls, step: int, info: dict[str, Any]) -> "Counters":
        """The inverse, from a whole checkpoint.json. Raises KeyError, TypeError, ValueError or OverflowError."""
        best = info["best"] or {"step": -1, "val_loss": math.inf}
        # Some are not there in checkpoints of earlier versions.
        best_train_loss = best.get("train_eval_loss")
        counters = cls(
            step=step,
            elapsed=float(info["elapsed"]),
            best_step=int(best["step"]),
            best_val_loss=float(best["val_loss"]),
            best_train_loss=math.inf if best_train_loss is None else float(best_train_loss),
            evaluations_since_best=int(info.get("evaluations_since_best", 0)),
            told_overfitting=int(info.get("told_overfitting", -1)),
            steps_since_row=int(info["steps_since_row"]),
            nonfinite_steps=int(info.get("nonfinite_steps", 0)),
            nonfinite_in_a_row=int(info.get("nonfinite_in_a_row", 0)),
            after_step_is_due=info.get("after_step_is_due") is True,
            recoveries=int(info.get("recoveries", 0)),
            learning_rate_scale=float(info.get("learning_rate_scale", 1.0)),
            learning_rate=float(info.get("learning_rate", 0.0)),
        )
        losses = {name: number_in(info, name) for name in _LOSSES}
        counters.last_losses = {name: loss for name, loss in losses.items() if loss is not None and math.isfinite(loss)}
        if max(abs(value) for value in vars(counters).values() if isinstance(value, int)) >= 2**62:
            raise ValueError("a count is too large to be one")
        if not math.isfinite(counters.elapsed) or min(counters.elapsed, counters.steps_since_row) < 0:
            raise ValueError("elapsed and steps_since_row must be numbers from 0 on")
        if not 0 <= counters.learning_rate < math.inf:
            raise ValueError("learning_rate must be a number from 0 on")
        if not 0 < counters.learning_rate_scale <= 1:
            raise ValueError("learning_rate_scale must be above 0 and at most 1")
        return counters
