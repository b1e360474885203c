"""The training loop. It knows nothing of any screen: it writes the run directory and polls it for commands."""

import contextlib
import json
import math
import os
import threading
import time
from typing import Any

import psutil
import torch
from torch import Tensor

from minigpt.batches import Batches
from minigpt.checkpoint import load_weights, read_training_state, remove_checkpoint, write_checkpoint
from minigpt.commands import Command, take_commands
from minigpt.config import Config
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.device import Device, configure_threads
from minigpt.errors import UserError
from minigpt.evaluate import Evaluation, evaluate
from minigpt.files import write_atomically
from minigpt.generate import generate
from minigpt.inert import inert_line
from minigpt.journal import JournalWriter, Row, read_journal
from minigpt.learner import Learner
from minigpt.metrics import Metrics, epoch_table
from minigpt.optimizer import learning_rate_at
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.sampling import Sampling

_POLL_INTERVAL = 0.05  # seconds between two looks into commands/


class Trainer:
    """Trains one run, whose lock the caller holds, from its last checkpoint on or from the beginning."""

    def __init__(self, run: RunDirectory, config: Config, data: TrainingData, device: Device) -> None:
        self.run = run
        self.config = config
        self.data = data
        self.device = device
        self.threads = configure_threads(config.device)
        self.learner = Learner(config, data.tokenizer.vocab_size, device, self._notice)
        self.batches = Batches(data.train, config.train.batch_size, config.data.batches, config.train.seed)
        self.counters = Counters()
        self.learning_rate = 0.0
        rows = read_journal(run.events_file)
        self.attempt = 1 + max((row["attempt"] for row in rows if isinstance(row.get("attempt"), int)), default=0)
        self.resumed_from: int | None = None
        self._rows_written = 0
        self._next_poll = 0.0
        self._process = psutil.Process()
        self._paused_at: float | None = None
        self._stop_command: Command | None = None
        self._notices: list[str] = []
        self._own_metrics = Metrics(run.metrics_file)
        run.clear_unfinished_checkpoints()
        self._restore_newest()

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def train(self, stop: threading.Event) -> str:
        """Train to the end, or until `stop` is set or a viewer says so. Returns "finished" or "stopped"."""
        with contextlib.ExitStack() as journals:
            self.metrics = journals.enter_context(contextlib.closing(JournalWriter(self.run.metrics_file)))
            self.events = journals.enter_context(contextlib.closing(JournalWriter(self.run.events_file)))
            self.samples = journals.enter_context(contextlib.closing(JournalWriter(self.run.samples_file)))
            return self._train(stop)

    def _train(self, stop: threading.Event) -> str:
        if self.attempt > 1:
            take_commands(self.run.commands_dir)  # they were meant for the attempt that is gone
        self._event("started", **self._description())
        for notice in self.data.notices:
            self._notice("corpus", notice)
        for notice in self._notices:
            self._notice("checkpoint", notice)
        if self.config.device.compile:
            self.learner.compile()
        self.learner.model.train()
        self._started = time.perf_counter()
        self._row_time, self._row_steps, self._idle = self._started, 0, 0.0
        self._elapsed_before = self.counters.elapsed
        try:
            if self.counters.step == 0 and self.resumed_from is None:
                self._after_step()
            end = self._end()
            while end is None:
                if not self._obey_commands(stop):
                    self._save()
                    self._event("stopped", **_answer(self._stop_command))
                    return "stopped"
                self._step()
                end = self._after_step()
            self._event("finished", reason=end)
            return "finished"
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk must not hide what happened before it was full
                self._event("failed", message=str(error) or type(error).__name__)
            raise

    def _step(self) -> None:
        ids, targets = self.batches.at(self.counters.step)
        self.learning_rate = learning_rate_at(self.counters.step, self.config.train, self._progress())
        self.learner.update(ids, targets, self.learning_rate)
        self.counters.step += 1
        self.counters.steps_since_row += 1
        self._row_steps += 1

    def _progress(self) -> float | None:
        """How much of a training is over that the clock may end; None where steps alone tell."""
        train = self.config.train
        if not train.max_minutes:
            return None
        by_clock = self._elapsed_so_far() / (60 * train.max_minutes)
        by_steps = (self.counters.step - train.warmup_steps) / max(1, train.max_steps - train.warmup_steps)
        return max(by_clock, by_steps) if train.max_steps else by_clock

    def _end(self) -> str | None:
        """Which limit has been reached: "steps", "time" or "patience"; None if the training goes on."""
        return self.counters.end(self.config.train, self._elapsed_so_far())

    def _after_step(self) -> str | None:
        step, train = self.counters.step, self.config.train
        end = self._end()
        improved = False
        self.counters.last_losses = {}
        if self._evaluation_is_due() or end:
            improved = self._evaluate()
            end = self._end()  # patience may be exhausted now
        if step % train.log_interval == 0 or self.counters.last_losses:
            self._write_row()
        if self.counters.last_losses:
            self._write_epochs()
        if step % self.config.sample.interval == 0 or end:
            self._sample()
        if step % train.checkpoint_interval == 0 or improved or end:
            self._save()
        return end

    def _evaluation_is_due(self) -> bool:
        step, interval = self.counters.step, self.config.train.eval_interval
        if interval:
            return step % interval == 0
        return step == 0 or self._epoch_at(step) > self._epoch_at(step - 1)

    def _epoch_at(self, step: int) -> int:
        # A hair's breadth more, against products like 3 × (1 / 3) that come out below 1.
        return int(step / self.batches.steps_per_epoch + 1e-9)

    def _obey_commands(self, stop: threading.Event) -> bool:
        # Whether to go on. While paused it waits here, looking for commands and for the stop event.
        while True:
            now = time.perf_counter()
            if now >= self._next_poll:
                self._next_poll = now + _POLL_INTERVAL
                for command in take_commands(self.run.commands_dir):
                    if command.name == "stop":
                        self._stop_command = command
                        stop.set()
                    elif command.name == "pause" and self._paused_at is None:
                        self._paused_at, self._idle_before_pause = now, self._idle
                        self._event("paused", command=command.id)
                    elif command.name == "resume" and self._paused_at is not None:
                        # A pause counts neither as training time nor into the throughput.
                        self._idle = self._idle_before_pause + now - self._paused_at
                        self._started += now - self._paused_at
                        self._paused_at = None
                        self._event("continued", command=command.id)
                    else:
                        self._obey(command)
            if stop.is_set():
                return False
            if self._paused_at is None:
                return True
            stop.wait(_POLL_INTERVAL)

    def _obey(self, command: Command) -> None:
        match command.name:
            case "save":
                self._save(command)
            case "sample":
                self._sample(command)
            case _:
                self._event("notice", message=f"{command.name}: nothing to do", command=command.id)

    # ── what is written ───────────────────────────────────────────────────────────────────────────────────────

    def _evaluate(self) -> bool:
        began = time.perf_counter()
        self._event("evaluating")  # it may take minutes, in which nothing else happens
        counters, speaker = self.counters, self.learner.speaker
        windows = {
            "train_eval": self.data.train.windows(self.config.train.train_eval_tokens),
            "val": self.data.val.windows(),
        }
        train, val = (evaluate(speaker, some, self.data.tokenizer, self.device) for some in windows.values())
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
        self._idle += time.perf_counter() - began
        return improved

    def _write_row(self) -> None:
        counters, learner = self.counters, self.learner
        row: Row = {"step": counters.step, "attempt": self.attempt}
        if self._rows_written == 0 and self.resumed_from is not None:
            row["resumed_from"] = self.resumed_from
        row["tokens"] = self.batches.tokens_at(counters.step)
        row["epoch"] = counters.step / self.batches.steps_per_epoch
        if counters.steps_since_row and learner.grad_norm is not None:
            row["train_loss"] = float(learner.loss_sum) / counters.steps_since_row  # waits for the device
            row["learning_rate"] = self.learning_rate
            row["grad_norm"] = float(learner.grad_norm)
        now = time.perf_counter()
        row["elapsed"] = round(self._elapsed(now), 3)
        if self._row_steps:
            seconds = max(1e-9, now - self._row_time - self._idle)
            tokens = row["tokens"] - self.batches.tokens_at(counters.step - self._row_steps)
            row["tokens_per_second"] = round(tokens / seconds, 1)
        row["memory_rss"] = self._process.memory_info().rss
        if self.device.type == "cuda":
            row["cuda_allocated"] = torch.cuda.memory_allocated()
            row["cuda_reserved"] = torch.cuda.memory_reserved()
            row["cuda_peak"] = torch.cuda.max_memory_allocated()
        row |= counters.last_losses
        self.metrics.append(row)
        self._rows_written += 1
        self._row_time, self._row_steps, self._idle = now, 0, 0.0
        self._require_finite(row.get("val_loss", 0.0))
        learner.loss_sum.zero_()
        counters.steps_since_row = 0

    def _write_epochs(self) -> None:
        """Write the table of epochs anew, as a spreadsheet reads it. It only repeats what metrics.jsonl has."""
        self._own_metrics.read_all()
        lines = ["epoch,step,train_loss,val_loss,train_perplexity,val_perplexity"]
        for row in epoch_table(self._own_metrics):
            losses = (row.train_loss, row.val_loss, row.train_perplexity, row.val_perplexity)
            lines.append(",".join([str(row.epoch), str(row.step), *(f"{value:.6g}" for value in losses)]))
        with contextlib.suppress(OSError):
            write_atomically(self.run.epochs_file, "\n".join(lines) + "\n")

    def _require_finite(self, val_loss: float = 0.0) -> None:
        """Raise UserError once the run has diverged: nothing of it is worth sampling from or saving."""
        learner = self.learner
        # With fp16 a gradient may overflow: that update was left out, and the next is scaled down.
        overflows = learner.grad_norm is None or learner.scaler.is_enabled()
        grad_norm = 0.0 if overflows else float(learner.grad_norm or 0.0)
        if math.isfinite(float(learner.loss_sum) + grad_norm + val_loss):
            return
        kept = self.run.checkpoints()
        where = f"the last good checkpoint is that of step {kept[-1].step}" if kept else "nothing was saved"
        raise UserError(
            f"the loss was no longer a finite number at step {self.counters.step}; {where}. "
            "Try a lower --train.learning-rate, a longer --train.warmup-steps or --train.grad-clip 1."
        )

    def _sample(self, command: Command | None = None) -> None:
        self._require_finite()
        began = time.perf_counter()
        sample = self.config.sample
        settings = {name: getattr(sample, name) for name in ("temperature", "top_k", "top_p", "seed")}
        sampling = Sampling(max_new_tokens=sample.max_new_tokens, **settings)
        text = "".join(generate(self.learner.speaker, self.data.tokenizer, sample.prompt, sampling))
        row = {"step": self.counters.step, "attempt": self.attempt, "time": time.time()}
        self.samples.append({**row, "prompt": sample.prompt, "text": text, **settings})
        self._event("sampled", **_answer(command))
        self._idle += time.perf_counter() - began

    def _save(self, command: Command | None = None) -> None:
        began = time.perf_counter()
        counters = self.counters
        found = self.run.checkpoints()
        is_best = counters.best_step == counters.step
        if not found or found[-1].step != counters.step:
            self._require_finite()
            # A checkpoint vouches for the rows up to its step: they must be as durable as it is.
            for journal in (self.metrics, self.events, self.samples):
                journal.sync()
            checkpoint = write_checkpoint(
                self.run, counters.step, self.learner.speaker, self.learner.tensors(), self._info()
            )
            found.append(checkpoint)
        if is_best:
            self._write_best()
        keep = {checkpoint.step for checkpoint in found[-self.config.train.keep_checkpoints :]} | {counters.best_step}
        for checkpoint in found:
            if checkpoint.step not in keep:
                remove_checkpoint(checkpoint)
        self._event("saved", checkpoint=found[-1].path.name, best=is_best, **_answer(command))
        self._idle += time.perf_counter() - began

    def _write_best(self) -> None:
        best = {"step": self.counters.best_step, "val_loss": self.counters.best_val_loss}
        write_atomically(self.run.best_file, json.dumps(best) + "\n")

    def _notice(self, kind: str, message: str, **values: Any) -> None:
        self._event("notice", kind=kind, message=message, **values)

    def _event(self, event: str, **values: Any) -> None:
        row = {"event": event, "time": time.time(), "step": self.counters.step, "attempt": self.attempt}
        self.events.append({**row, **values})

    def _description(self) -> dict[str, Any]:
        return {
            "resumed_from": self.resumed_from,
            "parameters": sum(parameter.numel() for parameter in self.learner.model.parameters()),
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
        }

    def _elapsed_so_far(self) -> float:
        return self._elapsed(time.perf_counter())

    def _elapsed(self, now: float) -> float:
        return self._elapsed_before + (now if self._paused_at is None else self._paused_at) - self._started

    # ── checkpoint and back ───────────────────────────────────────────────────────────────────────────────────

    def _info(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "elapsed": self._elapsed_so_far(),
            **self.counters.to_json(),
            **self.learner.numbers(),
            "corpus_sha256": self.data.corpus_sha256,
        }

    def _restore_newest(self) -> None:
        """Go back to the newest checkpoint that can be read; one that is damaged is put aside, and that is said."""
        found = self.run.checkpoints()
        for checkpoint in reversed(found):
            try:
                weights, tensors, info = read_training_state(checkpoint)
            except UserError as error:
                if checkpoint == found[0]:
                    raise  # nothing older to fall back on, and no run is ever started over
                self._notices.append(f"{error}; it was put aside and the one before it taken")
                checkpoint.path.rename(checkpoint.path.with_name(f"damaged-{checkpoint.path.name}"))
                continue
            self._restore(checkpoint, weights, tensors, info)
            return

    def _restore(
        self, checkpoint: Checkpoint, weights: dict[str, Tensor], tensors: dict[str, Tensor], info: dict[str, Any]
    ) -> None:
        if info.get("corpus_sha256") != self.data.corpus_sha256:
            raise UserError(
                f"{inert_line(self.data.corpus)}: is not the text any more that this run was trained on. "
                "Put the old text back, or start a new run."
            )
        try:
            load_weights(self.learner.speaker, weights, checkpoint)
            self.learner.restore(tensors, info, updates=checkpoint.step)
            self.counters = Counters.from_json(checkpoint.step, info)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
            reason = inert_line(str(error) or repr(error))
            raise UserError(f"{inert_line(str(checkpoint.path))}: is damaged: {reason}") from None
        self.resumed_from = checkpoint.step
        # The process may have been killed between the checkpoint and the file that calls it the best.
        if self.counters.best_step == checkpoint.step:
            self._write_best()


def _columns(split: str, evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as metrics.jsonl has it."""
    return {
        f"{split}_loss": evaluation.loss,
        f"{split}_perplexity": evaluation.perplexity,
        f"{split}_accuracy": evaluation.accuracy,
        f"{split}_bpc": evaluation.bits_per_character,
        f"{split}_bpb": evaluation.bits_per_byte,
    }


def _answer(command: Command | None) -> dict[str, str]:
    return {"command": command.id} if command else {}
