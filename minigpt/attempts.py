"""What the attempts before this one have left behind: how many there were, and since when they trained alike."""

from collections.abc import Iterable, Mapping

from minigpt.journal import Row, count_in, journal_rows
from minigpt.metrics import Metrics
from minigpt.rundir import RunDirectory, last_state_event


def last_attempt(run: RunDirectory, metrics: Metrics) -> int:
    """The number of the last one; 0 for none.

    Any of the files may be lost, and for readers the rows of an attempt that is not the last do not count.
    """
    events = [count_in(row, "attempt") or 0 for row in journal_rows(run.events_file)]
    infos = [count_in(checkpoint.info(), "attempt") or 0 for checkpoint in run.checkpoints()[-1:]]
    return max([metrics.attempt, *events, *infos])


def untold_crash(run: RunDirectory, metrics: Metrics) -> Row | None:
    """What is to be said of the last attempt if nobody trains the run and its end is not told; None if it is.

    Who is killed cannot say so. Step and attempt are the last that are known of.
    """
    state, reached = None, (metrics.attempt, count_in(metrics.last, "step") or 0)
    for row in journal_rows(run.events_file):
        state = last_state_event([row], state)
        reached = max(reached, (count_in(row, "attempt") or 0, count_in(row, "step") or 0))
    if state not in {"started", "paused", "continued"}:
        return None
    attempt, step = reached
    message = f"the process that trained it ended without a word; it had come to step {step:,}"
    return {"event": "crashed", "step": step, "attempt": attempt, "message": message}


def alike_since(events: Iterable[Row]) -> int:
    """The step from which on a run was trained with the settings that it has now; 0 if from its beginning on."""
    since = 0
    for row in events:
        if row.get("event") not in {"started", "recovered"}:
            continue
        step = count_in(row, "resumed_from") or 0
        # Taken up again from further back, what came after that was done with the new settings.
        since = step if changes_training(row.get("changed")) else min(since, step)
    return since


# How often something is done beside the steps, and when they end early.
_BESIDES = frozenset(
    f"train.{key}"
    for key in (
        *("eval_interval", "train_eval_tokens", "checkpoint_interval", "keep_checkpoints", "keep_every"),
        *("patience", "max_recoveries"),
    )
)


def changes_training(changed: object) -> bool:
    """Whether the `changed` of an event has a setting of the training: losses before and after are then not alike."""
    keys = map(str, changed) if isinstance(changed, Mapping) else ()
    return any(key.startswith("train.") and key not in _BESIDES for key in keys)
