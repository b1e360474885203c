"""The training loop. It knows nothing of any screen: it writes the run directory and polls it for commands."""

import contextlib
import errno
import math
import os
import threading
import time
from collections import deque
from typing import Any

import psutil
import torch

from minigpt.batches import Batches
from minigpt.checkpoint import Snapshot, remove_checkpoint, write_checkpoint_info
from minigpt.clock import Clock
from minigpt.commands import Command, take_commands
from minigpt.config import Config
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.device import Device, configure_threads, free_memory, is_out_of_memory
from minigpt.errors import UserError
from minigpt.evaluate import Evaluation, evaluate
from minigpt.files import write_atomically
from minigpt.generate import generate
from minigpt.inert import inert_line
from minigpt.journal import Row, count_in, journal_rows
from minigpt.learner import Learner
from minigpt.metrics import Metrics, epoch_table
from minigpt.model import GPT
from minigpt.optimizer import learning_rate_at
from minigpt.peak_flops import flops_per_token, peak_flops
from minigpt.restoring import restore_newest
from minigpt.run_log import RunLog
from minigpt.rundir import Checkpoint, RunDirectory, RunLock
from minigpt.sampling import Sampling
from minigpt.saving import RETRY_INTERVAL, Saver, answer, reason_of
from minigpt.spikes import Spikes
from minigpt.windows import BATCH_TOKENS

_POLL_INTERVAL = 0.05  # seconds between two looks into commands/
_LOCK_INTERVAL = 3.0  # seconds between two looks whether the lock is still in its place
_NONFINITE_IN_A_ROW = 3  # steps left out one after the other, and the training has diverged


class Trainer:
    """Trains one run, whose lock the caller holds, from its last checkpoint on or from the beginning.

    `changed` are the settings, with their old and new values, in which a resumption differs; `preset` is the name of
    what a new run was made from, for whoever compares them.
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
        self._lock = lock
        self._changed = changed or {}
        self._preset = preset
        self._rows_written = 0
        self._row_steps = 0
        self._next_poll = self._next_look_at_lock = 0.0
        self._process = psutil.Process()
        self._commands: deque[Command] = deque()
        self._stop_command: Command | None = None
        self.notices = [("corpus", notice) for notice in data.notices]
        """Kinds and messages of what is to be said once it begins."""
        self._recovered_to = -1
        self._abandoned: list[Checkpoint] = []
        self._evaluation_tokens = BATCH_TOKENS
        self._own_metrics = Metrics(run.metrics_file)
        run.clear_unfinished()
        restored = restore_newest(run, self.learner, data, lambda text: self.notices.append(("checkpoint", text)))
        self.counters = restored or Counters()
        self.resumed_from = None if restored is None else restored.step
        self._own_metrics.read_all()
        self._spikes = self._spikes_so_far()
        try:
            self.log = RunLog(run, lock, attempt=1 + self._last_attempt())
        except OSError as error:
            raise UserError(f"{inert_line(str(run.path))}: cannot be written to: {reason_of(error)}") from None
        self.saver = Saver(run, lock, self.log, data.tokenizer)

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def train(self, stop: threading.Event, detach: threading.Event) -> str:
        """Train to the end, or until an event is set, or a viewer says so.

        Returns "finished", "stopped", or "detach": with an exact checkpoint for another process to go on from.
        """
        self._stop, self._detach = stop, detach
        with contextlib.closing(self.log), contextlib.closing(self.saver):
            try:
                return self._train()
            except Exception as error:
                self.saver.finish()
                with contextlib.suppress(OSError):
                    if self._lock.is_in_place():  # or whoever trains it by now would seem to have failed
                        self._event("failed", message=str(error) or type(error).__name__)
                raise

    def _train(self) -> str:
        self._event("started", **self._description())
        for kind, message in self.notices:
            self._notice(kind, message)
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
                self._save_in_the_end()
                if self.log.attempt == attempt:
                    break
                end = self._end_before_step()  # it has gone back
                continue
            outcome = self._obey_commands()
            if outcome is not None:
                return outcome
            if not self.counters.after_step_is_due:  # broken off, or gone back to where it is
                self._step()
        self._tell_the_end("finished", reason=end)
        return "finished"

    def _step(self) -> None:
        counters = self.counters
        ids, targets = self.batches.at(counters.step)
        scheduled = learning_rate_at(counters.step, self.config.train, self._progress())
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
        self._row_steps += 1
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

    def _progress(self) -> float | None:
        """How much of a training is over that the clock may end; None where steps alone tell."""
        train = self.config.train
        if not train.max_minutes:
            return None
        by_clock = self._clock.elapsed() / (60 * train.max_minutes)
        by_steps = (self.counters.step - train.warmup_steps) / max(1, train.max_steps - train.warmup_steps)
        return max(by_clock, by_steps) if train.max_steps else by_clock

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
            self._write_row()
            self._go_back_from_divergence()
            return None
        end = self._end()
        improved = False
        if self._evaluation_is_due() or end:
            improved = self._evaluate()
            end = self._end()  # patience may be exhausted now
        if step % train.log_interval == 0 or counters.last_losses:
            self._write_row()
        if counters.last_losses:
            self._write_epochs()
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

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    def _obey_commands(self) -> str | None:
        # None for going on. While paused it waits here, looking for commands and for the events.
        while True:
            self._poll_commands()
            while self._commands:
                self._obey(self._commands.popleft())
            if self._stop.is_set():
                self._save_in_the_end()
                self._tell_the_end("stopped", **answer(self._stop_command))
                return "stopped"
            if self._detach.is_set() and self._can_detach():
                self._event("handing_over")
                return "detach"
            if not self._clock.paused:
                return None
            self._stop.wait(_POLL_INTERVAL)

    def _poll_commands(self) -> None:
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + _POLL_INTERVAL
        for command in take_commands(self.run.commands_dir):
            if command.name != "stop":
                self._commands.append(command)
            elif self._stop_command is None:
                self._stop_command = command
                self._stop.set()
            else:
                self._decline(command)
        if now >= self._next_look_at_lock:
            self._next_look_at_lock = now + _LOCK_INTERVAL
            self._keep_lock()

    def _keep_lock(self) -> None:
        # Without it in its place another process may begin to train the run. Raises UserError if one has.
        with contextlib.suppress(OSError):  # a checkpoint tells what cannot be made again
            if not self._lock.is_in_place():
                self.saver.make_directory_again(self.config, self.counters.step)

    def _obey(self, command: Command) -> None:
        match command.name:
            case "pause" if not self._clock.paused:
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
                self._decline(command)

    def _decline(self, command: Command) -> None:
        self._event("notice", message=f"{command.name}: nothing to do", command=command.id)

    def _can_detach(self) -> bool:
        """Save for a successor. If that cannot be the request is dropped, and why is said."""
        self.detach_failure = "the run is paused: let it go on first" if self._clock.paused else ""
        if not self.detach_failure:
            self._save()
            if not self.saver.finish() and (error := self.saver.error):
                self.detach_failure = f"the checkpoint for it could not be written: {reason_of(error)}"
        if self.detach_failure:
            self._detach.clear()
            self._notice("detach", f"not handed over: {self.detach_failure}")
        return not self.detach_failure

    def _look_up(self, _share: float) -> None:
        # In the middle of an evaluation, which may take minutes. Whatever is left undone is done by the next attempt.
        self._poll_commands()
        if self._stop.is_set() or (self._detach.is_set() and not self._clock.paused):
            raise _AskedToEndError

    # ── what is written ───────────────────────────────────────────────────────────────────────────────────────

    def _evaluate(self) -> bool:
        with self._clock.besides():
            self._event("evaluating")  # it may take minutes, in which nothing else happens
            counters = self.counters
            train = self._evaluation_of(self.data.train.windows(self.config.train.train_eval_tokens))
            val = self._evaluation_of(self.data.val.windows())
            counters.last_losses = {**_columns("train_eval", train), **_columns("val", val)}
            improved = counters.take_evaluation(train.loss, val.loss)
            self._event("evaluated", train_eval_loss=train.loss, val_loss=val.loss, best=improved)
            if counters.begins_to_overfit(train.loss):
                self._notice(
                    "overfitting",
                    f"overfitting: the validation loss was lowest at step {counters.best_step:,} "
                    f"({counters.best_val_loss:.4f}), and only the training loss has fallen since. "
                    "The best checkpoint is kept.",
                    since=counters.best_step,
                )
            return improved

    def _evaluation_of(self, windows: list[Any]) -> Evaluation:
        while True:
            try:
                return evaluate(
                    self.learner.speaker,
                    windows,
                    self.data.tokenizer,
                    self.device,
                    batch_tokens=self._evaluation_tokens,
                    progress=self._look_up,
                )
            except Exception as error:
                if not is_out_of_memory(error) or self._evaluation_tokens <= self.config.model.block_size:
                    raise
            free_memory(self.device.type)
            self._evaluation_tokens //= 2
            tokens = self._evaluation_tokens
            self._notice("memory", f"out of memory: evaluations look at {tokens:,} tokens at a time from now on")

    def _write_row(self) -> None:
        counters, learner = self.counters, self.learner
        row: Row = {"step": counters.step, "attempt": self.log.attempt}
        if self._rows_written == 0 and self.resumed_from is not None:
            row["resumed_from"] = self.resumed_from
        row["tokens"] = self.batches.tokens_at(counters.step)
        row["epoch"] = counters.step / self.batches.steps_per_epoch
        if counters.steps_since_row + counters.nonfinite_steps:
            steps = counters.steps_since_row
            row["train_loss"] = float(learner.loss_sum) / steps if steps else math.nan
            row["learning_rate"] = counters.learning_rate
            row["grad_norm"] = math.nan if learner.grad_norm is None else float(learner.grad_norm)
        if counters.nonfinite_steps:
            row["nonfinite_steps"] = counters.nonfinite_steps
        row["elapsed"] = round(self._clock.elapsed(), 3)
        seconds = self._clock.new_row()
        if self._row_steps:
            tokens = row["tokens"] - self.batches.tokens_at(counters.step - self._row_steps)
            row["tokens_per_second"] = round(tokens / seconds, 1)
        row["memory_rss"] = self._process.memory_info().rss
        if self.device.type == "cuda":
            row["cuda_allocated"] = torch.cuda.memory_allocated()
            row["cuda_reserved"] = torch.cuda.memory_reserved()
            row["cuda_peak"] = torch.cuda.max_memory_allocated()
        row |= counters.last_losses
        self.log.metrics.append(row)
        self._rows_written += 1
        self._row_steps = 0
        learner.loss_sum.zero_()
        counters.steps_since_row = counters.nonfinite_steps = 0
        if self._spikes.take(row.get("train_loss", math.nan)):
            loss = row["train_loss"]
            self._notice("spike", f"the training loss leapt to {loss:.4f} at step {counters.step:,}", loss=loss)

    def _write_epochs(self) -> None:
        """Write the table of epochs anew, as a spreadsheet reads it. It only repeats what metrics.jsonl has."""
        self._own_metrics.read_all()
        lines = ["epoch,step,train_loss,val_loss,train_perplexity,val_perplexity"]
        for row in epoch_table(self._own_metrics):
            losses = (row.train_loss, row.val_loss, row.train_perplexity, row.val_perplexity)
            lines.append(",".join([str(row.epoch), str(row.step), *(f"{value:.6g}" for value in losses)]))
        if not self.log.metrics.is_in_place():
            return  # the directory is gone, or another run's by now
        with contextlib.suppress(OSError):
            write_atomically(self.run.epochs_file, "\n".join(lines) + "\n")

    def _sample(self, command: Command | None = None) -> None:
        with self._clock.besides():
            sample = self.config.sample
            settings = {name: getattr(sample, name) for name in ("temperature", "top_k", "top_p", "seed")}
            sampling = Sampling(max_new_tokens=sample.max_new_tokens, **settings)
            try:
                text = self._write_text(self.learner.speaker, sampling)
            except UserError as error:  # numbers too large for the model: the loss tells whether it has diverged
                self._notice("nonfinite", f"no sample at step {self.counters.step:,}: {error}", **answer(command))
                return
            row = {"step": self.counters.step, "attempt": self.log.attempt, "time": time.time()}
            self.log.samples.append({**row, "prompt": sample.prompt, "text": text, **settings})
            self._event("sampled", **answer(command))

    def _write_text(self, speaker: GPT, sampling: Sampling) -> str:
        try:
            return "".join(generate(speaker, self.data.tokenizer, self.config.sample.prompt, sampling))
        except Exception as error:
            if not is_out_of_memory(error) or speaker.wte.weight.is_cpu:
                raise
        free_memory(self.device.type)
        with torch.device("meta"):  # initial weights would be drawn from the training's own generator
            model = GPT(self.config.model, self.data.tokenizer.vocab_size)
        model.load_state_dict({name: tensor.cpu() for name, tensor in speaker.state_dict().items()}, assign=True)
        return self._write_text(model, sampling)

    def _notice(self, kind: str, message: str, **values: Any) -> None:
        self.log.notice(self.counters.step, kind, message, **values)

    def _event(self, event: str, **values: Any) -> None:
        self.log.event(self.counters.step, event, **values)

    def _description(self) -> dict[str, Any]:
        parameters = sum(parameter.numel() for parameter in self.learner.model.parameters())
        peak = peak_flops(self.device.name, self.device.precision)
        return {
            "resumed_from": self.resumed_from,
            "parameters": parameters,
            "flops_per_token": flops_per_token(self.config.model, self.data.tokenizer.vocab_size, parameters),
            **({} if peak is None else {"peak_flops": peak}),
            "vocab_size": self.data.tokenizer.vocab_size,
            "tokenizer": self.config.data.tokenizer,
            "corpus": self.data.corpus,
            "corpus_characters": self.data.characters,
            "corpus_bytes": self.data.bytes,
            "train_tokens": len(self.data.train),
            "val_tokens": len(self.data.val),
            "device": self.device.type,
            "device_name": self.device.name,
            "device_uuid": self.device.uuid,
            "precision": self.device.precision,
            "compiled": self.config.device.compile,
            "threads": self.threads,
            "max_steps": self.config.train.max_steps,
            "max_minutes": self.config.train.max_minutes,
            "steps_per_epoch": self.batches.steps_per_epoch,
            "torch": torch.__version__,
            "pid": os.getpid(),
            **({"learning_rate_scale": scale} if (scale := self.counters.learning_rate_scale) != 1 else {}),
            **({"changed": self._changed} if self._changed else {}),
            **({"preset": self._preset} if self._preset else {}),
        }

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────

    def _save(self, command: Command | None = None) -> None:
        """Begin to write a checkpoint of this step."""
        if not self.learner.is_finite():
            self._go_back_from_divergence()
        self._remove_abandoned()
        counters = self.counters
        best = (counters.best_step, counters.best_val_loss) if counters.best_step >= 0 else None
        with self._clock.besides():
            self.saver.save(self.config, counters.step, self._snapshot, best=best, command=command)

    def _save_in_the_end(self) -> None:
        """Save, and try again while that fails: nothing else is left to do. Raises UserError if somebody waits."""
        tries = 0
        while True:
            self._save()
            if self.saver.finish():
                return
            tries += 1
            if self._stop.is_set() and tries >= 3:
                reason = reason_of(self.saver.error) if self.saver.error else ""
                raise UserError(f"step {self.counters.step:,} could not be saved: {reason}; {self.saver.kept()}")
            self._wait_for_room()

    def _tell_the_end(self, event: str, **values: Any) -> None:
        """Say how it ended. This waits for room too: without these words the run would seem to have crashed."""
        self._event(event, **values)
        tries = 0
        while (error := self.log.error) is not None and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            self.saver.look()
            tries += 1
            if self._stop.is_set() and tries >= 3:
                return
            self._wait_for_room()
            with contextlib.suppress(OSError):
                self.log.flush()

    def _wait_for_room(self) -> None:
        """Between two attempts to write in the end, where nothing is left to do but to obey."""
        if self._stop.is_set():
            time.sleep(1)
            return
        again_at = time.monotonic() + RETRY_INTERVAL / 3
        while time.monotonic() < again_at and not self._stop.wait(_POLL_INTERVAL):
            self._poll_commands()
            while self._commands:
                command = self._commands.popleft()
                if command.name == "pause":
                    self._decline(command)
                else:
                    self._obey(command)

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

    def _go_back_from_divergence(self) -> None:
        """Back to a good checkpoint, with half the rate. Raises UserError when that has been done often enough."""
        counters, at = self.counters, self.counters.step
        recoveries, scale = counters.recoveries + 1, counters.learning_rate_scale / 2
        times = f"for the {_ordinal(recoveries)} time " if counters.recoveries else ""
        what = f"the loss was no longer a finite number at step {at:,}"
        advice = "Try a lower --train.learning-rate, a longer --train.warmup-steps or --train.grad-clip 1."
        self.saver.finish()
        if recoveries > self.config.train.max_recoveries or not self.run.checkpoints():
            raise UserError(f"{what} {times}".rstrip() + f"; {self.saver.kept()}. {advice}")
        self._go_back(recoveries, scale)
        self._event(
            "recovered",
            reason="diverged",
            message=f"{what}: back to step {self.resumed_from:,}, with {scale:g} of the learning rate",
            resumed_from=self.resumed_from,
            learning_rate_scale=scale,
            recoveries=recoveries,
        )

    def _take_less_memory(self, reason: str) -> None:
        """Compute a batch in twice as many pieces, and the step again. Raises UserError once each is one sequence."""
        train = self.config.train
        free_memory(self.device.type)
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
            self.saver.finish()
            if not self.run.checkpoints():
                raise UserError("out of memory while the weights were changing, before anything was saved: start anew")
            self._go_back(self.counters.recoveries, self.counters.learning_rate_scale)
            values = {"recoveries": self.counters.recoveries, "learning_rate_scale": self.counters.learning_rate_scale}
            message = f"out of memory while the weights were changing: back to step {self.resumed_from:,}"
            self._event("recovered", reason="memory", message=message, resumed_from=self.resumed_from, **values)

    def _go_back(self, recoveries: int, learning_rate_scale: float) -> None:
        """Take up the newest checkpoint, or the one before if that has led here already, as a new attempt."""
        kept = [checkpoint for checkpoint in self.run.checkpoints() if checkpoint not in self._abandoned]
        before = kept[-1].step + (kept[-1].step != self._recovered_to or len(kept) == 1)
        restored = restore_newest(
            self.run, self.learner, self.data, lambda text: self._notice("checkpoint", text), before
        )
        assert restored is not None
        self.counters = restored
        self.counters.recoveries, self.counters.learning_rate_scale = recoveries, learning_rate_scale
        self._abandoned = [checkpoint for checkpoint in self.run.checkpoints() if checkpoint.step > restored.step]
        self._remove_abandoned()
        self._recovered_to = self.resumed_from = restored.step
        paused = self._clock.paused
        self._clock = Clock(restored.elapsed)
        if paused:
            self._clock.pause()
        self._own_metrics.read_all()
        self._spikes = self._spikes_so_far()
        self._row_steps = self._rows_written = 0
        self.log.attempt += 1
        # Whoever is killed now goes on from here, and with the lower rate.
        with contextlib.suppress(OSError):
            write_checkpoint_info(self.run.checkpoint(str(restored.step)).path, restored.step, self._info())

    def _remove_abandoned(self) -> None:
        """Remove what was saved on a way that has been left, as far as the disk lets it; a save tries again."""
        for checkpoint in list(self._abandoned):
            with contextlib.suppress(OSError):
                if checkpoint.path.exists():
                    remove_checkpoint(checkpoint)
                self._abandoned.remove(checkpoint)

    def _spikes_so_far(self) -> Spikes:
        # An attempt that was left behind has rows beyond this step.
        steps, losses = self._own_metrics.series("train_loss")
        last = self.counters.step - self.counters.after_step_is_due
        return Spikes(losses[steps <= last][-100:].tolist())

    def _last_attempt(self) -> int:
        # Any of these files may be lost, and for readers the rows of an attempt that is not the last do not count.
        events = [count_in(row, "attempt") or 0 for row in journal_rows(self.run.events_file)]
        infos = [count_in(checkpoint.info(), "attempt") or 0 for checkpoint in self.run.checkpoints()[-1:]]
        return max([self._own_metrics.attempt, *events, *infos])


class _AskedToEndError(Exception):
    """Somebody wants the end, or a successor, while an evaluation goes on."""


def _columns(split: str, evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as metrics.jsonl has it."""
    return {
        f"{split}_loss": evaluation.loss,
        f"{split}_perplexity": evaluation.perplexity,
        f"{split}_accuracy": evaluation.accuracy,
        f"{split}_bpc": evaluation.bits_per_character,
        f"{split}_bpb": evaluation.bits_per_byte,
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
