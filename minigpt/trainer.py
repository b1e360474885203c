"""The training loop. It knows nothing of any screen: it writes the run directory and polls it for commands."""

import contextlib
import math
import threading
import time
from functools import partial
from typing import Any

from minigpt.attempts import alike_since, changes_training, last_attempt, untold_crash
from minigpt.batches import Batches
from minigpt.checkpoint import Snapshot, write_checkpoint_info
from minigpt.clock import Clock
from minigpt.commands import Command
from minigpt.config import Config
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.device import Device, configure_threads, free_memory, is_out_of_memory
from minigpt.ending import Ending
from minigpt.errors import UserError
from minigpt.examining import Examiner
from minigpt.files import write_atomically
from minigpt.going_back import WayBack, WentBack
from minigpt.inbox import Inbox
from minigpt.inert import inert_line
from minigpt.journal import journal_rows
from minigpt.learner import Learner
from minigpt.metric_rows import MetricRows
from minigpt.metrics import Metrics
from minigpt.optimizer import learning_rate_at
from minigpt.restoring import restore_newest
from minigpt.run_log import RunLog
from minigpt.rundir import RunDirectory, RunLock
from minigpt.saving import Saver, answer, reason_of
from minigpt.stalls import StallWatch
from minigpt.started import description

_LOCK_INTERVAL = 3.0  # seconds between two looks whether the lock is still in its place
_NONFINITE_IN_A_ROW = 3  # steps left out one after the other, and the training has diverged


class Trainer:
    """Trains one run, whose lock the caller holds, from its last checkpoint on or from the beginning.

    `changed` are the settings, with their old and new values, in which a resumption differs; `preset` is the name of
    what a new run was made from, for whoever compares them. `was_free` says that nobody held the lock before: an
    attempt that has not told its end has then crashed, and this one says so.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        data: TrainingData,
        device: Device,
        *,
        lock: RunLock,
        changed: dict[str, tuple[Any, Any]] | None = None,
        preset: str = "",
        was_free: bool = False,
    ) -> None:
        self.run = run
        self.config = config
        self.data = data
        self.device = device
        self.threads = configure_threads(config.device)
        self.learner = Learner(config, data.tokenizer.vocab_size, device, self._notice)
        self.batches = Batches(data.train, config.train.batch_size, config.data.batches, config.train.seed)
        self.steps_done = 0
        """In this process, for whoever waits for the first one."""
        self.detach_failure = ""
        """Why the run could not be handed over when that was asked for last."""
        self.notices = [("corpus", notice) for notice in data.notices]
        """Kinds and messages of what is to be said once it begins."""
        self._lock = lock
        self._next_look_at_lock = 0.0
        self._changed = changed or {}
        self._preset = preset
        run.clear_unfinished()
        restored = restore_newest(run, self.learner, data, lambda text: self.notices.append(("checkpoint", text)))
        self.counters = restored or Counters()
        self.resumed_from = None if restored is None else restored.step
        metrics = Metrics(run.metrics_file).read_all()
        try:
            since = self.counters.step if changes_training(changed) else alike_since(journal_rows(run.events_file))
            self._crash = untold_crash(run, metrics) if was_free else None
            self.log = RunLog(run, lock, attempt=1 + last_attempt(run, metrics))
        except OSError as error:
            raise UserError(f"{inert_line(str(run.path))}: cannot be written to: {reason_of(error)}") from None
        self.saver = Saver(run, lock, self.log, data.tokenizer)
        self._rows = MetricRows(metrics, self.log, self.batches, since)
        self._rows.begin(self.counters, self.resumed_from)
        self._stalls = StallWatch(self._tell_stall)
        self._examiner = Examiner(
            self.learner.speaker,
            data,
            config,
            device,
            log=self.log,
            look_up=self._look_up,
            sign_of_life=self._stalls.sign_of_life,
        )
        self._way_back = WayBack(run, self.learner, data, self.saver, self._notice)

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def train(self, stop: threading.Event, detach: threading.Event) -> str:
        """Train to the end, or until an event is set, or a viewer says so.

        Returns "finished", "stopped", or "detach": with an exact checkpoint for another process to go on from.
        """
        self._inbox = Inbox(self.run.commands_dir, stop, detach)
        self._ending = Ending(self._inbox, self.saver, self.log, partial(self._obey, may_pause=False))
        with contextlib.closing(self.log), contextlib.closing(self.saver), self._stalls:
            try:
                return self._train()
            except Exception as error:
                self.saver.finish()
                with contextlib.suppress(OSError):
                    if self._lock.is_in_place():  # or whoever trains it by now would seem to have failed
                        self._event("failed", message=str(error) or type(error).__name__)
                raise

    def _train(self) -> str:
        self._tell_the_start()
        if self.config.device.compile:
            self.learner.compile()
        self.learner.model.train()
        self._clock = Clock(self.counters.elapsed)
        end = self._end_before_step()
        while True:
            if self.counters.after_step_is_due:
                with contextlib.suppress(_AskedToEndError):
                    end = self._after_step()
            if end is not None:
                attempt = self.log.attempt
                self._ending.save(self._save)
                if self.log.attempt == attempt:
                    break
                end = self._end_before_step()  # it has gone back
                continue
            outcome = self._answer()
            if outcome is not None:
                return outcome
            if not self.counters.after_step_is_due:  # broken off, or gone back to where it is
                self._step()
        self._ending.tell(self.counters.step, "finished", reason=end)
        return "finished"

    def _step(self) -> None:
        counters = self.counters
        ids, targets = self.batches.at(counters.step)
        progress = counters.progress(self.config.train, self._clock.elapsed())
        scheduled = learning_rate_at(counters.step, self.config.train, progress)
        counters.learning_rate = scheduled * counters.learning_rate_scale
        try:
            applied = self.learner.update(ids, targets, counters.learning_rate)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = _first_line(error)
        else:
            reason = ""
        if reason:  # only here: the exception and its frames would hold on to the memory
            self._take_less_memory(reason)
            return
        counters.step += 1
        counters.after_step_is_due = True
        self.steps_done += 1
        self._stalls.step_done()
        self._rows.count_step()
        if applied:
            counters.steps_since_row += 1
            counters.nonfinite_in_a_row = 0
            return
        counters.nonfinite_steps += 1
        counters.nonfinite_in_a_row += 1
        if counters.nonfinite_in_a_row == 1:
            self._notice(
                "nonfinite", f"loss or gradient of step {counters.step:,} is no finite number: it was left out"
            )

    def _end(self) -> str | None:
        """Which limit has been reached: "steps", "time" or "patience"; None if the training goes on."""
        return self.counters.end(self.config.train, self._clock.elapsed())

    def _end_before_step(self) -> str | None:
        # What is due at this step comes first.
        return None if self.counters.after_step_is_due else self._end()

    def _after_step(self) -> str | None:
        counters, step, train = self.counters, self.counters.step, self.config.train
        counters.last_losses = {}
        if counters.nonfinite_in_a_row >= _NONFINITE_IN_A_ROW:
            self._rows.write(counters, self.learner, self._clock)
            self._go_back_from_divergence()
            return None
        end = self._end()
        improved = False
        if self._evaluation_is_due() or end:
            improved = self._evaluate()
            end = self._end()  # patience may be exhausted now
        if step % train.log_interval == 0 or counters.last_losses:
            self._rows.write(counters, self.learner, self._clock)
        if counters.last_losses:
            self._rows.write_epochs(self.run.epochs_file)
            if not math.isfinite(counters.last_losses["val_loss"]):
                self._go_back_from_divergence()
                return None
        if step % self.config.sample.interval == 0 or end:
            self._sample()
        counters.after_step_is_due = False
        if not end and (step % train.checkpoint_interval == 0 or improved or self.saver.should_try_again):
            self._save()
        self.saver.look()
        return end

    def _evaluation_is_due(self) -> bool:
        step, interval = self.counters.step, self.config.train.eval_interval
        if interval:
            return step % interval == 0
        return step == 0 or self._epoch_at(step) > self._epoch_at(step - 1)

    def _epoch_at(self, step: int) -> int:
        # A hair's breadth more, against products like 3 × (1 / 3) that come out below 1.
        return int(step / self.batches.steps_per_epoch + 1e-9)

    # ── what is asked of it ───────────────────────────────────────────────────────────────────────────────────

    def _answer(self) -> str | None:
        # None for going on. While paused it waits here, looking for commands and for the events.
        while True:
            self._obey()
            if self._inbox.stop.is_set():
                self._ending.save(self._save)
                self._ending.tell(self.counters.step, "stopped", **answer(self._inbox.stop_command))
                return "stopped"
            if self._inbox.detach.is_set() and self._can_detach():
                self._event("handing_over")
                return "detach"
            if not self._clock.paused:
                return None
            self._inbox.wait()

    def _obey(self, *, may_pause: bool = True) -> None:
        self._look_around()
        for command in self._inbox.take():
            match command.name:
                case "pause" if may_pause and not self._clock.paused:
                    self._clock.pause()
                    self._event("paused", command=command.id)
                case "resume" if self._clock.paused:
                    self._clock.go_on()
                    self._event("continued", command=command.id)
                case "save":
                    self._save(command)
                    self.saver.finish()
                case "sample":
                    self._sample(command)
                case _:
                    self._event("notice", message=f"{command.name}: nothing to do", command=command.id)

    def _look_around(self) -> None:
        """Look for commands, and whether the lock is in its place. Raises UserError if another process has the run."""
        self._stalls.sign_of_life()
        self._inbox.look()
        now = time.monotonic()
        if now < self._next_look_at_lock:
            return
        self._next_look_at_lock = now + _LOCK_INTERVAL
        with contextlib.suppress(OSError):  # a checkpoint tells what cannot be made again
            if not self._lock.is_in_place():
                self.saver.make_directory_again(self.config, self.counters.step)

    def _look_up(self, _share: float) -> None:
        # In the middle of an evaluation, which may take minutes. Whatever is left undone is done by the next attempt.
        self._look_around()
        if self._inbox.stop.is_set() or (self._inbox.detach.is_set() and not self._clock.paused):
            raise _AskedToEndError

    def _can_detach(self) -> bool:
        """Save for a successor. If that cannot be the request is dropped, and why is said."""
        self.detach_failure = "the run is paused: let it go on first" if self._clock.paused else ""
        if not self.detach_failure:
            self._save()
            if not self.saver.finish() and (error := self.saver.error):
                self.detach_failure = f"the checkpoint for it could not be written: {reason_of(error)}"
        if self.detach_failure:
            self._inbox.detach.clear()
            self._notice("detach", f"not handed over: {self.detach_failure}")
        return not self.detach_failure

    # ── what is written ───────────────────────────────────────────────────────────────────────────────────────

    def _notice(self, kind: str, message: str, **values: Any) -> None:
        self.log.notice(self.counters.step, kind, message, **values)

    def _tell_stall(self, stalled: bool, message: str) -> None:
        # In another thread than all the rest; and another process may have the run since this one stands still.
        with contextlib.suppress(OSError):
            if self._lock.is_in_place():
                if stalled:
                    self._notice("stall", message)
                else:
                    self._event("went_on", message=message)

    def _event(self, event: str, **values: Any) -> None:
        self.log.event(self.counters.step, event, **values)

    def _tell_the_start(self) -> None:
        if self._crash is not None:
            self.log.event(**self._crash)
        model, per_epoch, scale = self.learner.model, self.batches.steps_per_epoch, self.counters.learning_rate_scale
        self._event(
            "started",
            resumed_from=self.resumed_from,
            **description(self.config, self.data, self.device, model, steps_per_epoch=per_epoch, threads=self.threads),
            **({"learning_rate_scale": scale} if scale != 1 else {}),
            **({"changed": self._changed} if self._changed else {}),
            **({"preset": self._preset} if self._preset else {}),
        )
        for kind, message in self.notices:
            self._notice(kind, message)

    def _evaluate(self) -> bool:
        with self._clock.besides():
            return self._examiner.evaluate(self.counters)

    def _sample(self, command: Command | None = None) -> None:
        with self._clock.besides():
            self._examiner.sample(self.counters.step, command)

    def _save(self, command: Command | None = None) -> int:
        """Begin to write a checkpoint of this step, and say of which: weights that are no numbers make it go back."""
        if not self.learner.is_finite():
            self._go_back_from_divergence()
        self._way_back.remove_abandoned()
        counters = self.counters
        best = (counters.best_step, counters.best_val_loss) if counters.best_step >= 0 else None
        with self._clock.besides():
            self.saver.save(self.config, counters.step, self._snapshot, best=best, command=command)
        return counters.step

    def _snapshot(self) -> Snapshot:
        return Snapshot.take(self.counters.step, self.learner.speaker, self.learner.tensors(), self._info())

    def _info(self) -> dict[str, Any]:
        self.counters.elapsed = self._clock.elapsed()
        return {
            "attempt": self.log.attempt,
            **self.counters.to_json(),
            **self.learner.numbers(),
            "corpus_sha256": self.data.corpus_sha256,
        }

    # ── trouble inside ────────────────────────────────────────────────────────────────────────────────────────

    def _take_less_memory(self, reason: str) -> None:
        """Compute a batch in twice as many pieces, and the step again. Raises UserError once each is one sequence."""
        free_memory(self.device.type)
        train = self.config.train
        if train.gradient_accumulation_steps >= train.batch_size:
            raise UserError(
                f"out of memory at step {self.counters.step:,}, with one sequence at a time ({inert_line(reason)}). "
                f"A smaller --model.block-size, --model.n-embd or --model.n-layer takes less; {self.saver.kept()}."
            )
        pieces = min(2 * train.gradient_accumulation_steps, train.batch_size)
        train = train.model_copy(update={"gradient_accumulation_steps": pieces})
        self.config = self.config.model_copy(update={"train": train})
        self.learner.config = train
        with contextlib.suppress(OSError):  # a resumption would find out again
            write_atomically(self.run.config_file, self.config.to_toml())
        message = f"out of memory: each batch is computed in {pieces} pieces from now on, with the same result"
        self._notice("memory", message, gradient_accumulation_steps=pieces)
        if self.learner.half_applied:
            self._go_back(self._way_back.after_half_an_update(self.counters))

    def _go_back_from_divergence(self) -> None:
        self._go_back(self._way_back.after_divergence(self.counters, self.config.train.max_recoveries))

    def _go_back(self, to: WentBack) -> None:
        """Go on from where the learner has been taken back to, as a new attempt."""
        self.counters = to.counters
        self.resumed_from = to.counters.step
        self._clock.set_back(to.counters.elapsed)
        self._rows.begin(to.counters, self.resumed_from)
        self.log.attempt += 1
        # Whoever is killed now goes on from here, and with the lower rate.
        with contextlib.suppress(OSError):
            write_checkpoint_info(self.run.checkpoint(str(self.resumed_from)).path, self.resumed_from, self._info())
        self._event(
            "recovered",
            reason=to.reason,
            message=to.message,
            resumed_from=self.resumed_from,
            learning_rate_scale=to.counters.learning_rate_scale,
            recoveries=to.counters.recoveries,
        )


class _AskedToEndError(Exception):
    """Somebody wants the end, or a successor, while an evaluation goes on."""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
