"""How long the rest of a run takes, and when it is evaluated and saved next: from its rows and its configuration."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigpt.journal import count_in, number_in
from tui.run.following import Following

_STEPS_FROM = 50  # rows: what a step takes is their median, so that one that met with something else does not count
_MOST_ROWS = 20_000
_CYCLES = 5  # of evaluations and the like, over which the time beside the steps is averaged


@dataclass(frozen=True)
class Speed:
    """What a run spends its time on."""

    step: float
    """Seconds of one step, nothing else counted."""
    besides: float
    """Seconds of evaluations, samples and checkpoints in `cycle` steps."""
    cycle: int
    shortest: int
    """Steps from one of these to the next."""


def seconds_left(following: Following) -> float | None:
    """How long the rest will take, by whichever limit comes first; None while unknown.

    The first row of an attempt is not gone by: it holds the compilation, and caches that were cold.
    """
    elapsed = following.latest("elapsed")
    if following.starting or elapsed is None:
        return None
    limits = []
    if following.max_steps and (speed := speed_of(following)) is not None:
        steps = max(0, following.max_steps - following.step)
        times = math.ceil(steps / speed.shortest)  # each run is evaluated and saved at its end
        limits.append(steps * speed.step + times * speed.besides * speed.shortest / speed.cycle)
    if following.seconds_allowed:
        limits.append(max(0.0, following.seconds_allowed - elapsed))
    return min((limit for limit in limits if math.isfinite(limit)), default=None)


def speed_of(following: Following) -> Speed | None:
    """How fast the present attempt trains; None until it has written a row after its first one."""
    steps, elapsed = following.series("elapsed")
    recoveries = following.metrics.recoveries
    # The first row with steps in it, which is left out.
    cold = int(steps.searchsorted(recoveries[-1].resumed_from if recoveries else 0, "right"))
    if cold + 1 >= steps.size:
        return None
    every = [interval for interval in _intervals(following) if 0 < interval <= max(1, following.max_steps)]
    cycle = max(every, default=max(1, following.max_steps))
    cycles = min(_CYCLES, int(steps[-1] - steps[0]) // cycle)
    first = int(steps.searchsorted(steps[-1] - cycles * cycle)) if cycles else 0
    # Not all the rows of a long run, each time: it may have a million.
    first = max(first, steps.size - _MOST_ROWS)
    seconds = _step_seconds(following, steps[first:], elapsed[first:])
    newest = seconds[max(cold + 1 - first, 0) :][-_STEPS_FROM:]
    newest = newest[np.isfinite(newest) & (newest >= 0)]
    if not newest.size:
        return None
    step = float(np.median(newest))
    # Where no cycle is over yet: the run was evaluated before its first step, which its first row tells.
    before = 0.0 if not cycles and steps[0] == 0 else float(elapsed[first])
    known = np.where(np.isfinite(seconds), seconds, step)[1:]
    spent = float(elapsed[-1]) - before - float(known @ np.diff(steps[first:]))
    share = max(1.0, int(steps[-1] - steps[first]) / cycle) if cycles else 1.0
    besides = max(0.0, spent / share) if math.isfinite(spent) else 0.0
    return Speed(step, besides, cycle, min(every, default=cycle))


def _step_seconds(following: Following, steps: NDArray[np.int64], elapsed: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a step took on average in each of these rows, which are the newest; nan where that is not known."""
    seconds = np.full(steps.size, np.nan)
    timed, rates = following.series("tokens_per_second")
    counted, tokens = following.series("tokens")
    with np.errstate(all="ignore"):  # of rows that somebody else wrote
        if counted.size < steps.size or counted[-steps.size] != steps[0] or not timed.size:
            # Not told: then all that happened counts as steps.
            seconds[1:] = np.diff(elapsed) / np.diff(steps)
            return seconds
        per_step = np.diff(tokens[-steps.size :]) / np.diff(steps)
        newest = int(timed.searchsorted(steps[0], "right"))
        timed, rates = timed[newest:], rates[newest:]
        places = steps.searchsorted(timed).clip(max=steps.size - 1)
        there = steps[places] == timed
        seconds[places[there]] = per_step[places[there] - 1] / rates[there]
    return seconds


# ── what comes next ───────────────────────────────────────────────────────────────────────────────────────────────


def steps_to_evaluation(following: Following) -> int | None:
    """How many steps there are to the next evaluation; None if that is not known."""
    interval = count_in({"": following.configured("train", "eval_interval")}, "")
    epoch = number_in(following.started, "steps_per_epoch")
    if interval is None:
        interval = _seen_interval(following)
    if interval:
        return _within(following, interval - following.step % interval)
    if interval is None or epoch is None or not 0 < epoch < 1e15:
        return None
    epochs = int(following.step / epoch + 1e-9)  # as the trainer counts them
    return _within(following, math.ceil((epochs + 1) * epoch - 1e-6) - following.step)


def steps_to_checkpoint(following: Following) -> int | None:
    """How many steps there are to the next regular checkpoint; None if that is not known."""
    interval = count_in({"": following.configured("train", "checkpoint_interval")}, "")
    return _within(following, interval - following.step % interval) if interval else None


def _within(following: Following, steps: int) -> int:
    # At the end of the run it is done in any case.
    return min(steps, max(0, following.max_steps - following.step)) if following.max_steps else steps


def _intervals(following: Following) -> list[int]:
    evaluation = count_in({"": following.configured("train", "eval_interval")}, "")
    if evaluation is None:
        evaluation = _seen_interval(following)
    if evaluation == 0:
        epoch = number_in(following.started, "steps_per_epoch")
        evaluation = round(epoch) if epoch is not None and 0 < epoch < 1e15 else None
    saving = count_in({"": following.configured("train", "checkpoint_interval")}, "")
    sampling = count_in({"": following.configured("sample", "interval")}, "")
    return [interval for interval in (evaluation, saving, sampling) if interval]


def _seen_interval(following: Following) -> int | None:
    """Steps between the last two evaluations."""
    steps, _ = following.series("val_loss")
    return int(steps[-1] - steps[-2]) if steps.size >= 2 else None
