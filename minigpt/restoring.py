"""Back to a checkpoint: the learner and the counters as they were at its step."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor

from minigpt.checkpoint import load_weights, read_training_state
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.device import is_out_of_memory
from minigpt.errors import NewerVersionError, UnreadableError, UserError
from minigpt.inert import inert_line
from minigpt.learner import Learner
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.saving import reason_of, write_best


def restore_newest(
    run: RunDirectory,
    learner: Learner,
    data: TrainingData,
    notice: Callable[[str], None],
    before: int | None = None,
) -> Counters | None:
    """Put the learner back to the newest checkpoint, or the newest one before a step; None without any.

    One that is damaged is put aside, which `notice` is told; if all are, this raises UserError: no run is ever started
    over. So it does where a checkpoint may be whole but cannot be taken up just now.
    """
    try:
        kept = run.find_checkpoints()
    except OSError as error:
        raise UserError(f"{inert_line(str(run.checkpoints_dir))}: cannot be read: {reason_of(error)}") from None
    found = [checkpoint for checkpoint in kept if before is None or checkpoint.step < before]
    for checkpoint in reversed(found):
        try:
            weights, tensors, info = read_training_state(checkpoint, learner.speaker)
            counters = None
            if info.get("corpus_sha256") == data.corpus_sha256:
                counters = _restore(checkpoint, learner, weights, tensors, info)
        except NewerVersionError:
            raise  # it is whole
        except UnreadableError as error:
            raise UnreadableError(
                f"{error}. It may be whole, and was left as it is: try again, or take another --device.type. "
                "Moved to another place by hand, it would give way to the one before it."
            ) from None
        except UserError as error:
            if checkpoint == found[0]:
                raise  # nothing older to fall back on
            _put_aside(checkpoint)
            notice(f"{error}; it was put aside and the one before it taken")
            continue
        if counters is None:
            raise UserError(
                f"{inert_line(data.corpus)}: is not the text any more that this run was trained on. "
                "Put the old text back, or start a new run."
            )
        # The process may have been killed between the checkpoint and the file that calls it the best.
        if counters.best_step in {kept.step for kept in found}:
            with suppress(OSError):  # a full disk; the next checkpoint's writer tries again
                write_best(run, counters.best_step, counters.best_val_loss)
        return counters
    return None


def _put_aside(checkpoint: Checkpoint) -> None:
    """Take its name from a damaged checkpoint. Raises UserError: left there, it would be taken for a good one."""
    aside = checkpoint.path.with_name(f"damaged-{checkpoint.path.name}")
    try:
        if aside.is_symlink() or not aside.is_dir():
            aside.unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.path.rename(aside)
    except OSError as error:
        shown = inert_line(str(checkpoint.path))
        raise UserError(f"{shown}: is damaged, and cannot be put aside: {reason_of(error)}") from None


def _restore(
    checkpoint: Checkpoint,
    learner: Learner,
    weights: dict[str, Tensor],
    tensors: dict[str, Tensor],
    info: dict[str, Any],
) -> Counters:
    shown = inert_line(str(checkpoint.path))
    try:
        load_weights(learner.speaker, weights, checkpoint)
        learner.restore(tensors, info, updates=checkpoint.step)
        return Counters.from_json(checkpoint.step, info)
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError, OverflowError, AttributeError) as error:
        reason = inert_line(str(error) or repr(error))
        if is_out_of_memory(error):
            raise UnreadableError(f"{shown}: there is no memory to take it up: {reason}") from None
        # A device that fails says nothing about what was to be copied to it.
        if "cuda error" in reason.lower():
            raise UnreadableError(f"{shown}: cannot be taken up: {reason}") from None
        raise UserError(f"{shown}: is damaged: {reason}") from None
