"""Back to a checkpoint: the learner and the counters as they were at its step."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor

from minigpt.checkpoint import load_weights, read_training_state
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.errors import NewerVersionError, UserError
from minigpt.inert import inert_line
from minigpt.learner import Learner
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.saving import write_best


def restore_newest(
    run: RunDirectory,
    learner: Learner,
    data: TrainingData,
    notice: Callable[[str], None],
    before: int | None = None,
) -> Counters | None:
    """Put the learner back to the newest checkpoint, or the newest one before a step; None without any.

    One that is damaged is put aside, which `notice` is told; if all are, this raises UserError: no run is ever started
    over.
    """
    found = [checkpoint for checkpoint in run.checkpoints() if before is None or checkpoint.step < before]
    for checkpoint in reversed(found):
        try:
            weights, tensors, info = read_training_state(checkpoint, learner.speaker)
            counters = None
            if info.get("corpus_sha256") == data.corpus_sha256:
                counters = _restore(checkpoint, learner, weights, tensors, info)
        except NewerVersionError:
            raise  # it is whole
        except UserError as error:
            if checkpoint == found[0]:
                raise  # nothing older to fall back on
            notice(f"{error}; it was put aside and the one before it taken")
            aside = checkpoint.path.with_name(f"damaged-{checkpoint.path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.path.rename(aside)
            continue
        if counters is None:
            raise UserError(
                f"{inert_line(data.corpus)}: is not the text any more that this run was trained on. "
                "Put the old text back, or start a new run."
            )
        # The process may have been killed between the checkpoint and the file that calls it the best.
        if counters.best_step in {kept.step for kept in found}:
            with suppress(OSError):  # a full disk; the next best one will be called so
                write_best(run, counters.best_step, counters.best_val_loss)
        return counters
    return None


def _restore(
    checkpoint: Checkpoint,
    learner: Learner,
    weights: dict[str, Tensor],
    tensors: dict[str, Tensor],
    info: dict[str, Any],
) -> Counters:
    try:
        load_weights(learner.speaker, weights, checkpoint)
        learner.restore(tensors, info, updates=checkpoint.step)
        return Counters.from_json(checkpoint.step, info)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        reason = inert_line(str(error) or repr(error))
        raise UserError(f"{inert_line(str(checkpoint.path))}: is damaged: {reason}") from None
