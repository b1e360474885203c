"""Going on with a run, also under changed settings: which of them may change, and what there is left to train."""

import math
from collections.abc import Mapping
from typing import Any

from minigpt.config import Config, TrainConfig
from minigpt.configfile import keys, merge_config
from minigpt.counters import Counters
from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.journal import journal_rows, number_in
from minigpt.rundir import RunDirectory, RunState

Changes = dict[str, tuple[Any, Any]]
"""Settings in which a resumption differs, such as `train.max_steps`, with the old and the new value."""

_OF_ANOTHER_RUN = {
    "model": "the weights trained so far belong to another model",
    "data": "the weights, the batches and the evaluations so far come from another text, or its other reading",
    "run": "a run keeps its name and its place",
    "train.batch_size": "the batches, and with them the epochs, are counted by the size that the run began with",
    "train.seed": "the batches so far were drawn with another one, and the rest would not follow on them",
    "train.optimizer": "what the optimizer has gathered so far is of no use to another one",
}
_NO_STATE = {
    "train.ema_decay": "an average of the weights is kept from the beginning of a run or never",
    "train.momentum": "momentum is gathered from the beginning of a run or never",
}


def resumed_config(run: RunDirectory, overrides: Mapping[str, str]) -> tuple[Config, Changes]:
    """The configuration with which a run goes on, and what of it is changed; `overrides` as in `load_config`.

    Raises UserError if that cannot be, and if the run has come to its end and nothing is left to train.
    """
    config, changes = run.config(), Changes()
    if overrides:
        config, changes = changed_config(run, config, overrides)
    counters = _counters(run)
    if counters is not None and not counters.after_step_is_due and run.state() is RunState.FINISHED:
        # One that was killed at its very end may lack some of it, and goes on without another step.
        _require_more(run, counters, config.train)
    return config, changes


def changed_config(run: RunDirectory, config: Config, overrides: Mapping[str, str]) -> tuple[Config, Changes]:
    """A run's configuration with the command line's values laid over it, and what that changes.

    Steps and epochs are one limit here: whichever is given replaces the other. A number of epochs is turned into steps;
    if the run does not tell how, `max_steps` is 0, for whoever reads the corpus to fill in.

    Raises UserError with every problem at once, that of settings which a run that has begun must keep among them.
    """
    table = config.model_dump(exclude_none=True)
    known = {key for key, _ in keys()}
    counters = _counters(run) or Counters()
    steps_per_epoch = _steps_per_epoch(run)
    allowed, refused = dict(overrides), []
    for key, text in overrides.items():
        try:
            alone = merge_config(table, run.config_file, {key: text})
        except UserError:
            alone = None  # said below with everything else, or wrong only without the others
        reason = ""
        if key in known and (alone is None or _value(alone, key) != _value(config, key)):
            reason = _why_fixed(key, config, alone)
            if not reason and alone is not None:
                reason = _why_too_short(key, alone.train, counters, steps_per_epoch)
        if reason:
            refused.append(f"--{inert_line(key.replace('_', '-'), 60)} {inert_line(text, 60)}: {reason}")
            del allowed[key]
    new = merge_config(table, run.config_file, allowed, refused)
    new = new.model_copy(update={"train": _with_length(config.train, new.train, steps_per_epoch)})
    changes = {key: (_value(config, key), _value(new, key)) for key in known}
    return new, {key: (old, value) for key, (old, value) in sorted(changes.items()) if old != value}


def _why_fixed(key: str, config: Config, new: Config | None) -> str:
    """Why a run that has begun must keep a setting; empty if it need not."""
    if key == "run.about":
        return ""
    if reason := _OF_ANOTHER_RUN.get(key) or _OF_ANOTHER_RUN.get(key.partition(".")[0]):
        return f"{reason}; start a new run for that"
    # Neither can be told from the configuration alone once it is invalid.
    if new is None or key not in _NO_STATE or (_value(config, key) == 0) == (_value(new, key) == 0):
        return ""
    if key == "train.momentum" and config.train.optimizer not in {"sgd", "muon"}:
        return ""
    return f"{_NO_STATE[key]}; start a new run for that"


def _why_too_short(key: str, train: TrainConfig, counters: Counters, steps_per_epoch: float | None) -> str:
    """Why a new length is none for a run that has come so far; empty if it is one."""
    if key == "train.max_steps" and 0 < train.max_steps <= counters.step:
        return f"the run has come to step {counters.step:,} already; it must be more"
    per_epoch = steps_per_epoch if key == "train.max_epochs" and train.max_epochs else None
    if per_epoch is not None and _steps_of(train.max_epochs, per_epoch) <= counters.step:
        return f"the run has come to epoch {counters.step / per_epoch:.4g} already; it must be more"
    if key == "train.max_minutes" and 0 < 60 * train.max_minutes <= counters.elapsed:
        return f"the run has trained for {counters.elapsed / 60:.4g} minutes already; it must be more"
    return ""


def _with_length(old: TrainConfig, new: TrainConfig, steps_per_epoch: float | None) -> TrainConfig:
    """The number of steps and of epochs brought into line, whichever of them was changed."""
    if (new.max_steps, new.max_epochs) == (old.max_steps, old.max_epochs):
        return new
    if new.max_epochs == old.max_epochs and new.max_steps:
        return new.model_copy(update={"max_epochs": 0.0})
    if not new.max_epochs:
        return new
    own = new.max_steps if new.max_steps != old.max_steps else 0
    if steps_per_epoch is None:
        return new.model_copy(update={"max_steps": own})
    steps = _steps_of(new.max_epochs, steps_per_epoch)
    return new.model_copy(update={"max_steps": min(steps, own or steps)})


def _steps_of(epochs: float, steps_per_epoch: float) -> int:
    return max(1, math.ceil(epochs * steps_per_epoch - 1e-6))


def _steps_per_epoch(run: RunDirectory) -> float | None:
    """What the run's last start tells of it; None if that is no number to count with."""
    told = [number_in(row, "steps_per_epoch") for row in journal_rows(run.events_file) if row.get("event") == "started"]
    last = told[-1] if told else None
    return last if last is not None and 0 < last < 2**62 else None


def _counters(run: RunDirectory) -> Counters | None:
    """What the newest checkpoint counts; None without any, the step alone if it is damaged."""
    if not (kept := run.checkpoints()):
        return None
    try:
        return Counters.from_json(kept[-1].step, kept[-1].info())
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return Counters(kept[-1].step)  # the trainer puts it aside and says so


def _require_more(run: RunDirectory, counters: Counters, train: TrainConfig) -> None:
    shown, step = inert_line(run.name), counters.step
    match counters.end(train, counters.elapsed):
        case "steps":
            raise UserError(
                f"{shown}: has finished already, with step {step} of {train.max_steps}. "
                f"To go on, make it longer: --train.max-steps {2 * step}"
            )
        case "time":
            raise UserError(
                f"{shown}: has finished already, after {counters.elapsed / 60:.1f} of {train.max_minutes:g} "
                f"minutes. To go on, make it longer: --train.max-minutes {2 * train.max_minutes:g}"
            )
        case "patience":
            raise UserError(
                f"{shown}: has finished already, at step {step}, after {train.patience} evaluations without a "
                f"better validation loss. To go on, have more patience: --train.patience {2 * train.patience}"
            )


def _value(config: Config, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)
