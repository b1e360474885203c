"""Trouble in the arithmetic: a loss that is no number, a loss that leaps, a device without memory."""

import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minigpt.attempts import alike_since
from minigpt.checkpoint import remove_checkpoint
from minigpt.commands import send_command
from minigpt.config import Config
from minigpt.device import is_out_of_memory
from minigpt.errors import UserError
from minigpt.evaluate import evaluate
from minigpt.going_back import WentBack
from minigpt.journal import Row, read_journal
from minigpt.learner import Learner
from minigpt.metrics import Metrics
from minigpt.rundir import Checkpoint, RunDirectory, RunState
from minigpt.session import TrainingSession
from minigpt.spikes import Spikes
from minigpt.trainer import Trainer
from tests.training import (
    assert_same_run,
    finish,
    in_evaluation,
    resume,
    rows_by_step,
    tiny_config,
    train,
    write_corpus,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.txt")


def events(run: RunDirectory, *names: str) -> list[Row]:
    return [row for row in read_journal(run.events_file) if row.get("event") in names]


def notices(run: RunDirectory, kind: str) -> list[Row]:
    return [row for row in events(run, "notice") if row.get("kind") == kind]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def before_update(monkeypatch: pytest.MonkeyPatch, act: Callable[[Learner], object]) -> None:
    """Let something happen before each update: a real divergence takes luck, this takes none."""
    update = Learner.update

    def acting(self: Learner, ids: Tensor, targets: Tensor, learning_rate: float) -> bool:
        act(self)
        return update(self, ids, targets, learning_rate)

    monkeypatch.setattr(Learner, "update", acting)


def poisoned_loss(steps: set[int]) -> Callable[[Learner], None]:
    """A loss that is no number at these steps, counted from 0; the weights stay what they are."""

    def poison(learner: Learner) -> None:
        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            value = learner.model.loss(ids, targets)
            return value * math.nan if learner.updates in steps else value

        learner._loss = loss

    return poison


# ── a loss that is no finite number ───────────────────────────────────────────────────────────────────────────────


def test_a_step_whose_loss_is_no_number_is_left_out_and_the_run_goes_on(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad batch used to end the run; and Adam's moments must not see it either."""
    before_update(monkeypatch, poisoned_loss({9}))
    run = train(tiny_config(corpus, tmp_path / "run", train={"keep_checkpoints": 100, "checkpoint_interval": 1}))
    assert run.state() is RunState.FINISHED
    at = {checkpoint.step: checkpoint.path / "model.safetensors" for checkpoint in run.checkpoints()}
    assert at[10].read_bytes() == at[9].read_bytes()
    assert at[11].read_bytes() != at[10].read_bytes()
    row = rows_by_step(run)[12]
    assert row["nonfinite_steps"] == 1 and math.isfinite(row["train_loss"])
    assert [notice["step"] for notice in notices(run, "nonfinite")] == [10]


def test_a_gradient_that_is_no_number_is_left_out_too(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(learner: Learner) -> None:
        for handle in hooks:
            handle.remove()
        hooks.clear()
        if learner.updates == 9:
            hooks.append(learner.model.wte.weight.register_hook(lambda grad: torch.full_like(grad, math.inf)))

    hooks: list[Any] = []
    before_update(monkeypatch, overflow)
    run = train(tiny_config(corpus, tmp_path / "run", train={"log_interval": 1}))
    rows = rows_by_step(run)
    assert rows[10]["nonfinite_steps"] == 1 and rows[10]["train_loss"] is None and rows[10]["grad_norm"] is None
    assert "nonfinite_steps" not in rows[11] and run.state() is RunState.FINISHED


def test_resumed_in_the_middle_of_bad_steps_it_is_the_same_run(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the counts of left-out steps, and an optimizer without any state where all steps were left out."""
    before_update(monkeypatch, poisoned_loss({0, 1, 21}))
    changes = {"keep_checkpoints": 100, "checkpoint_interval": 2}
    whole = train(tiny_config(corpus, tmp_path / "run", train=changes))
    for stop_at in (2, 22):
        cut = cut_after(whole, tmp_path / f"cut-{stop_at}", stop_at)
        assert_same_run(whole, resume(cut))


def cut_after(run: RunDirectory, path: Path, step: int) -> RunDirectory:
    import shutil

    cut = RunDirectory(Path(shutil.copytree(run.path, path)))
    for checkpoint in cut.checkpoints():
        if checkpoint.step > step:
            shutil.rmtree(checkpoint.path)
    return cut


def test_after_three_in_a_row_it_goes_back_with_half_the_rate(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def diverge(learner: Learner) -> None:
        if learner.updates >= 22 and len(told) < 3:
            told.append(learner.updates)
            poisoned_loss({22, 23, 24})(learner)
        else:
            learner._loss = learner.model.loss

    before_update(monkeypatch, diverge)
    run = train(tiny_config(corpus, tmp_path / "run"))
    (recovered,) = events(run, "recovered")
    assert recovered["reason"] == "diverged" and recovered["resumed_from"] == 20 and recovered["recoveries"] == 1
    assert recovered["attempt"] == 2 and "back to step 20, with 0.5 of the learning rate" in recovered["message"]
    rates = {row["step"]: row for row in read_journal(run.metrics_file) if row["attempt"] == 2}
    undisturbed = rows_by_step(train(tiny_config(corpus, tmp_path / "other")))
    assert rates[24]["learning_rate"] == pytest.approx(undisturbed[24]["learning_rate"] / 2)
    assert rates[24]["resumed_from"] == 20
    steps = Metrics(run.metrics_file).read_all().series("train_loss")[0].tolist()
    assert steps == [4, 8, 12, 15, 16, 20, 24, 28, 30, 32, 36, 40]
    assert run.state() is RunState.FINISHED and run.checkpoint("last").info()["learning_rate_scale"] == 0.5


def test_a_run_that_goes_on_diverging_stops_and_keeps_what_is_good(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_update(monkeypatch, poisoned_loss(set(range(22, 100))))
    config = tiny_config(corpus, tmp_path / "run", train={"max_recoveries": 2})
    with pytest.raises(
        UserError, match="no longer a finite number at step 25 for the 3rd time; the last checkpoint is"
    ):
        train(config)
    run = RunDirectory(tmp_path / "run")
    assert [row["learning_rate_scale"] for row in events(run, "recovered")] == [0.5, 0.25]
    # The second time it goes further back: the weights of step 20 may have been the beginning of the end.
    assert [row["resumed_from"] for row in events(run, "recovered")] == [20, 15]
    assert events(run, "failed") and run.checkpoint("last").step == 20


def test_killed_after_a_recovery_the_lower_rate_is_not_forgotten(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_update(monkeypatch, poisoned_loss({22, 23, 24}))
    go_back = Trainer._go_back

    def killed(self: Trainer, to: WentBack) -> None:
        go_back(self, to)
        raise KeyboardInterrupt  # as good as a kill: nothing more is written

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_go_back", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config(corpus, tmp_path / "run"))
    run = RunDirectory(tmp_path / "run")
    info = run.checkpoint("last").info()
    assert (info["step"], info["recoveries"], info["learning_rate_scale"]) == (20, 1, 0.5)


def test_weights_that_are_no_numbers_are_never_saved(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has spoilt them: a checkpoint of them would be the one to which the run goes back."""

    def spoil(learner: Learner) -> None:
        if learner.updates == 19:
            learner.model.wte.weight.register_hook(lambda _: spoil_weights(learner))

    def spoil_weights(learner: Learner) -> None:
        learner.model.wpe.weight.data[0, 0] = math.nan

    before_update(monkeypatch, spoil)
    with pytest.raises(UserError, match="no longer a finite number at step 2"):
        train(tiny_config(corpus, tmp_path / "run", train={"max_recoveries": 0}))
    assert RunDirectory(tmp_path / "run").checkpoint("last").step == 15


def test_weights_that_are_no_numbers_in_the_end_are_no_end(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out when the last checkpoint was to be saved: it went back ten steps, and called itself finished."""
    is_finite, told = Learner.is_finite, []

    def spoilt_once(self: Learner) -> bool:
        if self.updates == 40 and not told:
            told.append(self.updates)
            return False
        return is_finite(self)

    monkeypatch.setattr(Learner, "is_finite", spoilt_once)
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert [row["resumed_from"] for row in events(run, "recovered")] == [30]
    assert [row["step"] for row in events(run, "finished")] == [40] and run.checkpoint("last").step == 40


def test_gradients_that_are_never_numbers_in_fp16_are_a_divergence(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was taken for an overflow, for which the scale is too large, until that was 0 and the run over."""

    def spoil(learner: Learner) -> None:
        if learner.updates == 22:
            learner.model.wte.weight.register_hook(lambda grad: torch.full_like(grad, math.nan))

    before_update(monkeypatch, spoil)
    fp16 = {"precision": "fp16", "threads": 1}
    config = tiny_config(corpus, tmp_path / "run", device=fp16, train={"max_steps": 60, "max_recoveries": 0})
    with pytest.raises(UserError, match="no longer a finite number at step 4"):
        train(config)
    info = RunDirectory(tmp_path / "run").checkpoint("last").info()
    assert info["step"] == 40 and info["applied"] == 22 and info["scaler"]["scale"] < 1


def test_what_lies_on_the_way_that_was_left_counts_no_more(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time, its checkpoints and its losses; what was evaluated where it goes on from does."""
    before_update(monkeypatch, poisoned_loss({22, 23, 24}))
    step, go_back, seen = Trainer._step, Trainer._go_back, []

    def slow(self: Trainer) -> None:
        if self.counters.step == 22:
            self._clock._before += 1000.0
        step(self)

    def noting(self: Trainer, to: WentBack) -> None:
        go_back(self, to)
        info = self.run.checkpoint(str(self.counters.step)).info()
        seen.append((self.run.checkpoint("last").step, self._clock.elapsed() < 1000, info["val_loss"]))

    monkeypatch.setattr(Trainer, "_step", slow)
    monkeypatch.setattr(Trainer, "_go_back", noting)
    with pytest.raises(UserError, match="for the 3rd time"):
        train(tiny_config(corpus, tmp_path / "run", train={"max_recoveries": 2}))
    (evaluated,) = [row["val_loss"] for row in events(RunDirectory(tmp_path / "run"), "evaluated") if row["step"] == 15]
    assert seen == [(20, True, None), (15, True, evaluated)]


def test_a_disk_that_takes_nothing_does_not_keep_it_from_going_back(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left behind cannot be removed then. It is later, and is never taken for a checkpoint of the new way."""
    refused: list[Checkpoint] = []

    def refuse_once(checkpoint: Checkpoint) -> None:
        if not refused:
            refused.append(checkpoint)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        remove_checkpoint(checkpoint)

    def twice(learner: Learner) -> None:
        if learner.updates == 22 and len(diverged) < 2:
            diverged.append(learner.updates)
            poisoned_loss({22, 23, 24})(learner)
        elif learner.updates < 22:
            learner._loss = learner.model.loss

    runs = []
    for name in ("disturbed", "undisturbed"):
        diverged: list[int] = []
        with monkeypatch.context() as patch:
            before_update(patch, twice)
            if name == "disturbed":
                patch.setattr("minigpt.going_back.remove_checkpoint", refuse_once)
            runs.append(train(tiny_config(corpus, tmp_path / name, train={"keep_checkpoints": 100})))
    assert [checkpoint.step for checkpoint in refused] == [20]
    assert_same_run(*runs)
    ours, theirs = (run.checkpoint("20").path / "model.safetensors" for run in runs)
    assert ours.read_bytes() == theirs.read_bytes()


def test_going_back_while_paused_it_stays_paused(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save finds out that the weights are no numbers: nobody has asked it to train on."""
    is_finite, asked = Learner.is_finite, []

    def spoilt_once(self: Learner) -> bool:
        return asked.pop() if asked else is_finite(self)

    monkeypatch.setattr(Learner, "is_finite", spoilt_once)
    session = TrainingSession(config=tiny_config(corpus, tmp_path / "run", train={"max_steps": 10**6}), preset="test")
    session.start()
    try:
        wait_for(lambda: session.steps_done)
        run = session.run_directory
        assert run is not None
        send_command(run.commands_dir, "pause")
        wait_for(lambda: events(run, "paused"))
        asked.append(False)
        save = send_command(run.commands_dir, "save")
        wait_for(lambda: any(row.get("command") == save for row in events(run, "saved")))
        assert events(run, "recovered") and run.state() is RunState.PAUSED
        trainer = session._trainer
        assert trainer is not None and trainer._clock.paused
    finally:
        session.request_stop()
        session.join()


# ── spikes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_leap_of_the_loss_is_a_spike_and_noise_is_none() -> None:
    noise = torch.Generator().manual_seed(1)
    losses = [4.0 * 0.99**row + 0.05 * float(torch.randn((), generator=noise)) for row in range(300)]
    spikes = Spikes()
    assert not any(spikes.take(loss) for loss in losses)
    assert spikes.take(losses[-1] + 1.0)
    assert not spikes.take(losses[-1] + 1.0)  # told once
    assert not spikes.take(losses[-1]) and spikes.take(losses[-1] + 1.0)
    assert not spikes.take(math.nan) and not Spikes().take(9.0)


def test_a_spike_is_told(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leap(learner: Learner) -> None:
        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            value = learner.model.loss(ids, targets)
            return value + 40.0 if learner.updates == 30 else value

        learner._loss = loss

    before_update(monkeypatch, leap)
    run = train(tiny_config(corpus, tmp_path / "run", train={"log_interval": 1}))
    (spike,) = notices(run, "spike")
    assert spike["step"] == 31 and spike["loss"] > 40


def test_resumed_in_the_middle_the_same_spikes_are_told(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the losses before, and not by those of steps that are done again, beside which all seemed to leap."""

    def leap(learner: Learner) -> None:
        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            value = learner.model.loss(ids, targets)
            return value + 40.0 if 48 <= learner.updates < 53 else value

        learner._loss = loss

    before_update(monkeypatch, leap)
    settings = {"max_steps": 200, "log_interval": 1, "checkpoint_interval": 20, "eval_interval": 50}
    changes = {"train": {**settings, "keep_checkpoints": 100}, "sample": {"interval": 1000}}
    run = train(tiny_config(corpus, tmp_path / "run", **changes))
    told = [spike["step"] for spike in notices(run, "spike")]
    assert 49 in told
    for at in (20, 40, 50):  # long before the leap, just before it, and in its middle
        cut = cut_after(run, tmp_path / f"cut-{at}", at)
        resume(cut)
        assert [spike["step"] for spike in notices(cut, "spike")][len(told) :] == [step for step in told if step > at]


def test_other_losses_under_other_settings_are_no_spikes(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made longer, a run begins its schedule again: the loss that rose with the learning rate was called a spike.

    So it was once more whenever the longer run was resumed, from wherever; what leaps later on is one still.
    """

    def higher(learner: Learner) -> None:
        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            value = learner.model.loss(ids, targets)
            return value + 20.0 * (learner.updates >= 40) + 80.0 * (learner.updates == 70)

        learner._loss = loss

    before_update(monkeypatch, higher)
    settings = {"log_interval": 1, "checkpoint_interval": 1, "keep_checkpoints": 100}
    run = train(tiny_config(corpus, tmp_path / "run", train=settings))
    told = len(notices(run, "spike"))
    finish(TrainingSession(resume=run, changes={"train.max_steps": "80"}))
    assert [spike["step"] for spike in notices(run, "spike")][told:] == [71]
    for at in (41, 45, 65):
        cut = cut_after(run, tmp_path / f"cut-{at}", at)
        resume(cut)
        assert [spike["step"] for spike in notices(cut, "spike")][told:] == [71, 71], at


def leaping(steps: set[int], poisoned: Iterable[int] = (), times: int = 0) -> Callable[[Learner], None]:
    """A loss that leaps in the rows of these steps; that of the poisoned ones is no number, so many times."""
    left = dict.fromkeys(poisoned, times)

    def leap(learner: Learner) -> None:
        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            step = learner.updates + 1
            if left.get(step):
                left[step] -= 1
                return learner.model.loss(ids, targets) * math.nan
            return learner.model.loss(ids, targets) + 80.0 * (step in steps)

        learner._loss = loss

    return leap


def test_a_row_that_was_left_over_is_one_of_the_old_settings(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in an evaluation, a step's row is written by the next attempt: nine rows of its own are no reference."""
    before_update(monkeypatch, leaping({25, 40}))
    with monkeypatch.context() as patch:
        in_evaluation(patch, 15, lambda trainer: trainer._inbox.stop.set())
        run = train(tiny_config(corpus, tmp_path / "run", train={"log_interval": 1}))
    finish(TrainingSession(resume=run, changes={"train.max_steps": "41"}))
    assert rows_by_step(run)[25]["train_loss"] > 80
    assert [spike["step"] for spike in notices(run, "spike")] == [40]


def test_gone_back_beyond_a_change_the_new_settings_hold_from_there(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps up to the change are done again with the new settings, and are a reference for the next."""
    run = train(tiny_config(corpus, tmp_path / "run", train={"log_interval": 1}))
    before_update(monkeypatch, leaping({41}, {43, 44, 45}, times=2))
    finish(TrainingSession(resume=run, changes={"train.max_steps": "50"}))
    assert [row["resumed_from"] for row in events(run, "recovered")] == [40, 30]
    assert [spike["step"] for spike in notices(run, "spike")] == [41]


@pytest.mark.parametrize(
    ("events", "since"),
    [
        ([], 0),
        ([{"event": "started", "resumed_from": None}, {"event": "started", "resumed_from": 30}], 0),
        ([{"event": "started", "resumed_from": 30, "changed": {"train.max_steps": [40, 80]}}], 30),
        ([{"event": "started", "resumed_from": 30, "changed": {"sample.prompt": ["a", "b"]}}], 0),
        ([{"event": "started", "resumed_from": 30, "changed": {"train.beta1": [0, 1]}}, {"event": "saved"}], 30),
    ],
)
def test_since_when_a_run_was_trained_alike(events: list[Row], since: int) -> None:
    assert alike_since(events) == since


@pytest.mark.parametrize("event", ["started", "recovered"])
def test_taken_up_from_further_back_the_new_settings_hold_from_there(event: str) -> None:
    """And a later resumption, without changes, moves nothing."""
    changed = {"event": "started", "resumed_from": 30, "changed": {"train.learning_rate": [1e-2, 1e-3]}}
    back, later = ({"event": event, "resumed_from": step} for step in (20, 60))
    assert alike_since([changed, back, later]) == 20
    assert alike_since([back, changed, {**changed, "resumed_from": "rubbish", "changed": 7}]) == 0


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────────


def out_of_memory_above(most: int) -> Callable[[Learner], None]:
    """A device on which a loss of more than so many sequences does not fit, after some of it was computed."""

    def limit(learner: Learner) -> None:
        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            value = learner.model.loss(ids, targets)  # draws dropout's random numbers
            if len(ids) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return value

        learner._loss = loss

    return limit


@pytest.mark.parametrize(("most", "pieces"), [(2, 2), (1, 4)])
def test_out_of_memory_the_batch_is_computed_in_pieces_with_the_same_result(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, most: int, pieces: int
) -> None:
    """The step is repeated from its start: the same dropout, nothing of the broken-off one left in the gradient."""
    asked = train(tiny_config(corpus, tmp_path / "asked", train={"gradient_accumulation_steps": pieces}))
    before_update(monkeypatch, out_of_memory_above(most))
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert_same_run(asked, run)
    assert [notice["gradient_accumulation_steps"] for notice in notices(run, "memory")] == [2, 4][: pieces // 2]
    assert notices(run, "memory")[0]["step"] == 0


def test_a_resumption_starts_with_the_pieces_that_fit(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_update(monkeypatch, out_of_memory_above(1))
    run = train(tiny_config(corpus, tmp_path / "run", train={"keep_checkpoints": 100}))
    assert run.config().train.gradient_accumulation_steps == 4
    cut = cut_after(run, tmp_path / "cut", 20)
    known = len(notices(cut, "memory"))
    assert_same_run(run, resume(cut))
    assert len(notices(cut, "memory")) == known


def test_when_one_sequence_does_not_fit_it_says_what_would(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_update(monkeypatch, out_of_memory_above(0))
    with pytest.raises(UserError, match=r"out of memory at step 0, with one sequence at a time .*--model.block-size"):
        train(tiny_config(corpus, tmp_path / "run"))


def test_out_of_memory_while_the_weights_change_it_goes_back_to_the_checkpoint(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an update cannot be repeated; before it, everything is as it was."""
    apply = Learner._apply
    broken: list[int] = []

    def half(self: Learner) -> None:
        if self.updates == 22 and not broken:
            broken.append(self.updates)
            self.half_applied = True
            self.model.wte.weight.data.add_(1.0)
            raise torch.OutOfMemoryError("CUDA out of memory")
        apply(self)

    monkeypatch.setattr(Learner, "_apply", half)
    run = train(tiny_config(corpus, tmp_path / "run", train={"keep_checkpoints": 100}))
    (recovered,) = events(run, "recovered")
    assert recovered["reason"] == "memory" and recovered["resumed_from"] == 20
    assert recovered["learning_rate_scale"] == 1 and recovered["recoveries"] == 0
    monkeypatch.undo()
    # Undisturbed from the same step on, with as many pieces.
    again = cut_after(run, tmp_path / "again", 20)
    assert_same_run(run, resume(again))


def test_after_it_has_gone_back_memory_may_run_out_again(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time before any weight has changed: that step is done again, and nothing else."""
    apply, broken = Learner._apply, []

    def half(self: Learner) -> None:
        if self.updates == 22 and not broken:
            broken.append(self.updates)
            self.half_applied = True
            raise torch.OutOfMemoryError("CUDA out of memory")
        apply(self)

    def limit(learner: Learner) -> None:
        if broken and learner.updates == 20:
            out_of_memory_above(1)(learner)

    monkeypatch.setattr(Learner, "_apply", half)
    before_update(monkeypatch, limit)
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert [row["resumed_from"] for row in events(run, "recovered")] == [20]
    assert [notice["gradient_accumulation_steps"] for notice in notices(run, "memory")] == [2, 4]
    assert [notice["step"] for notice in notices(run, "memory")] == [22, 20]


def test_an_evaluation_that_does_not_fit_is_done_in_smaller_batches(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*arguments: Any, batch_tokens: int, **options: Any) -> Any:
        if batch_tokens > 1024:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return evaluate(*arguments, batch_tokens=batch_tokens, **options)

    whole = train(tiny_config(corpus, tmp_path / "whole"))
    monkeypatch.setattr("minigpt.examining.evaluate", limited)
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert rows_by_step(run)[40]["val_loss"] == pytest.approx(rows_by_step(whole)[40]["val_loss"], abs=1e-5)
    assert "1,024 tokens at a time" in notices(run, "memory")[-1]["message"]


def test_what_is_out_of_memory_and_what_is_not() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("anything"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("size mismatch"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_device_without_memory(tmp_path: Path, corpus: Path) -> None:
    """With most of the device taken away a large batch does not fit, and smaller pieces of it do."""
    config: Config = tiny_config(
        write_corpus(corpus, 300_000),
        tmp_path / "run",
        device={"type": "cuda", "precision": "float32"},
        model={"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 512},
        train={"batch_size": 64, "max_steps": 4, "checkpoint_interval": 4},
    )
    torch.cuda.set_per_process_memory_fraction((1 << 30) / torch.cuda.get_device_properties().total_memory)
    try:
        session = TrainingSession(config=config, preset="test")
        run = finish(session)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert notices(run, "memory") and run.state() is RunState.FINISHED
    assert json.loads(run.best_file.read_text())["step"] >= 0
