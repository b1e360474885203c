"""The training loop. It knows nothing of any screen: it writes the run directory and polls it for commands."""

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor

from minigpt.batches import Split
from minigpt.checkpoint import load_weights, read_training_state, remove_checkpoint, write_checkpoint
from minigpt.commands import Command, take_commands
from minigpt.config import Config
from minigpt.device import Device, configure_threads
from minigpt.errors import UserError
from minigpt.evaluate import evaluate_loss
from minigpt.files import write_atomically
from minigpt.generate import generate
from minigpt.inert import inert_line
from minigpt.journal import JournalWriter, Row, read_journal
from minigpt.model import GPT
from minigpt.optimizer import build_optimizer, learning_rate_at
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.sampling import Sampling
from minigpt.tokenizer import Tokenizer
from minigpt.training_state import optimizer_states, restore_optimizer_states, restore_rng_states, rng_states

_POLL_INTERVAL = 0.05  # seconds between two looks into commands/


@dataclass(frozen=True)
class TrainingData:
    """What a trainer is given besides the configuration: the corpus as ids, and how to read them."""

    corpus: str
    corpus_sha256: str
    characters: int
    tokenizer: Tokenizer
    train: Split
    val: Split


@dataclass
class Counters:
    """What a checkpoint keeps besides tensors, so that a resumed run counts on where it was."""

    step: int = 0
    elapsed: float = 0.0
    best_step: int = -1
    best_val_loss: float = float("inf")
    steps_since_row: int = 0
    last_losses: dict[str, float] = field(default_factory=dict)
    """The losses of the evaluation at `step`, if there was one."""


class Trainer:
    """Trains one run, whose lock the caller holds, from its last checkpoint on or from the beginning."""

    def __init__(self, run: RunDirectory, config: Config, data: TrainingData, device: Device) -> None:
        self.run = run
        self.config = config
        self.data = data
        self.device = device
        self.threads = configure_threads(config.device)
        torch.manual_seed(config.train.seed)
        self.model = GPT(config.model, data.tokenizer.vocab_size).to(device.type)
        self.optimizer = build_optimizer(self.model, config.train, device.type)
        self.counters = Counters()
        self.loss_sum = torch.zeros((), device=device.type)
        self.grad_norm: Tensor | None = None
        self._loss: Callable[[Tensor, Tensor], Tensor] = self.model.loss
        self._compiled = False
        rows = read_journal(run.events_file)
        self.attempt = 1 + max((row["attempt"] for row in rows if isinstance(row.get("attempt"), int)), default=0)
        self.resumed_from: int | None = None
        self._rows_written = 0
        self._next_poll = 0.0
        self._process = psutil.Process()
        self._paused_at: float | None = None
        self._stop_command: Command | None = None
        self._notices: list[str] = []
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
        for notice in self._notices:
            self._event("notice", message=notice)
        if self.config.device.compile:
            self._compile()
        self.model.train()
        self._started = time.perf_counter()
        self._row_time, self._row_steps, self._idle = self._started, 0, 0.0
        self._elapsed_before = self.counters.elapsed
        try:
            if self.counters.step == 0 and self.resumed_from is None:
                self._after_step()
            while self.counters.step < self.config.train.max_steps:
                if not self._obey_commands(stop):
                    self._save()
                    self._event("stopped", **_answer(self._stop_command))
                    return "stopped"
                self._step()
                self._after_step()
            self._event("finished")
            return "finished"
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk must not hide what happened before it was full
                self._event("failed", message=str(error) or type(error).__name__)
            raise

    def _step(self) -> None:
        train = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.counters.step, train)
        ids, targets = self.data.train.random_batch(train.batch_size, train.seed, self.counters.step)
        with self.device.autocast():
            loss = self._loss(ids.to(self.device.type), targets.to(self.device.type))
        loss.backward()  # type: ignore[no-untyped-call]
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.grad_clip or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum += loss.detach()
        self.counters.step += 1
        self.counters.steps_since_row += 1
        self._row_steps += 1

    def _after_step(self) -> None:
        step, train = self.counters.step, self.config.train
        last = step == train.max_steps
        improved = False
        self.counters.last_losses = {}
        if step % train.eval_interval == 0 or last:
            improved = self._evaluate()
        if step % train.log_interval == 0 or self.counters.last_losses:
            self._write_row()
        if step % self.config.sample.interval == 0 or last:
            self._sample()
        if step % train.checkpoint_interval == 0 or improved or last:
            self._save()

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
        train_windows = self.data.train.windows(self.config.train.train_eval_tokens)
        train_loss = evaluate_loss(self.model, train_windows, self.device)
        val_loss = evaluate_loss(self.model, self.data.val.windows(), self.device)
        self.counters.last_losses = {"train_eval_loss": train_loss, "val_loss": val_loss}
        improved = val_loss < self.counters.best_val_loss
        if improved:
            self.counters.best_step, self.counters.best_val_loss = self.counters.step, val_loss
        self._event("evaluated", **self.counters.last_losses, best=improved)
        self._idle += time.perf_counter() - began
        return improved

    def _write_row(self) -> None:
        counters, train = self.counters, self.config.train
        tokens_per_step = train.batch_size * self.config.model.block_size
        row: Row = {"step": counters.step, "attempt": self.attempt}
        if self._rows_written == 0 and self.resumed_from is not None:
            row["resumed_from"] = self.resumed_from
        row["tokens"] = counters.step * tokens_per_step
        row["epoch"] = row["tokens"] / len(self.data.train)
        if counters.steps_since_row and self.grad_norm is not None:
            row["train_loss"] = float(self.loss_sum) / counters.steps_since_row  # waits for the device
            row["learning_rate"] = learning_rate_at(counters.step - 1, train)
            row["grad_norm"] = float(self.grad_norm)
        now = time.perf_counter()
        row["elapsed"] = round(self._elapsed(now), 3)
        if self._row_steps:
            seconds = max(1e-9, now - self._row_time - self._idle)
            row["tokens_per_second"] = round(self._row_steps * tokens_per_step / seconds, 1)
        row["memory_rss"] = self._process.memory_info().rss
        if self.device.type == "cuda":
            row["cuda_allocated"] = torch.cuda.memory_allocated()
            row["cuda_reserved"] = torch.cuda.memory_reserved()
            row["cuda_peak"] = torch.cuda.max_memory_allocated()
        if counters.last_losses:
            row |= counters.last_losses
            row["val_perplexity"] = _perplexity(counters.last_losses["val_loss"])
        self.metrics.append(row)
        self._rows_written += 1
        self._row_time, self._row_steps, self._idle = now, 0, 0.0
        self._require_finite(row.get("val_loss", 0.0))
        self.loss_sum.zero_()
        counters.steps_since_row = 0

    def _require_finite(self, val_loss: float = 0.0) -> None:
        """Raise UserError once the run has diverged: nothing of it is worth sampling from or saving."""
        grad_norm = 0.0 if self.grad_norm is None else float(self.grad_norm)
        if math.isfinite(float(self.loss_sum) + grad_norm + val_loss):
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
        sampling = Sampling(sample.max_new_tokens, sample.temperature, sample.top_k, sample.seed)
        text = "".join(generate(self.model, self.data.tokenizer, sample.prompt, sampling))
        row = {"step": self.counters.step, "attempt": self.attempt, "time": time.time()}
        settings = {"temperature": sample.temperature, "top_k": sample.top_k, "seed": sample.seed}
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
            checkpoint = write_checkpoint(self.run, counters.step, self.model, self._training_tensors(), self._info())
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

    def _event(self, event: str, **values: Any) -> None:
        row = {"event": event, "time": time.time(), "step": self.counters.step, "attempt": self.attempt}
        self.events.append({**row, **values})

    def _description(self) -> dict[str, Any]:
        return {
            "resumed_from": self.resumed_from,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "vocab_size": self.data.tokenizer.vocab_size,
            "corpus": self.data.corpus,
            "corpus_characters": self.data.characters,
            "train_tokens": len(self.data.train),
            "val_tokens": len(self.data.val),
            "device": self.device.type,
            "device_name": self.device.name,
            "device_uuid": self.device.uuid,
            "precision": self.device.precision,
            "compiled": self.config.device.compile,
            "threads": self.threads,
            "max_steps": self.config.train.max_steps,
            "torch": torch.__version__,
            "pid": os.getpid(),
        }

    def _elapsed(self, now: float) -> float:
        return self._elapsed_before + (now if self._paused_at is None else self._paused_at) - self._started

    # ── checkpoint and back ───────────────────────────────────────────────────────────────────────────────────

    def _training_tensors(self) -> dict[str, Tensor]:
        tensors = {"loss_sum": self.loss_sum, **rng_states(self.device.type)}
        if self.grad_norm is not None:
            tensors["grad_norm"] = self.grad_norm
        tensors |= optimizer_states(self.model, self.optimizer)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def _info(self) -> dict[str, Any]:
        counters = self.counters
        return {
            "attempt": self.attempt,
            "elapsed": self._elapsed(time.perf_counter()),
            "steps_since_row": counters.steps_since_row,
            "val_loss": counters.last_losses.get("val_loss"),
            "train_eval_loss": counters.last_losses.get("train_eval_loss"),
            "best": {"step": counters.best_step, "val_loss": counters.best_val_loss}
            if counters.best_step >= 0
            else None,
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
            load_weights(self.model, weights, checkpoint)
            restore_optimizer_states(tensors, self.model, self.optimizer)
            restore_rng_states(tensors, self.device.type)
            self.loss_sum.copy_(tensors["loss_sum"])
            if "grad_norm" in tensors:
                self.grad_norm = tensors["grad_norm"]
            best = info["best"] or {"step": -1, "val_loss": float("inf")}
            self.counters = Counters(
                step=checkpoint.step,
                elapsed=float(info["elapsed"]),
                best_step=int(best["step"]),
                best_val_loss=float(best["val_loss"]),
                steps_since_row=int(info["steps_since_row"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{inert_line(str(checkpoint.path))}: is damaged: {inert_line(repr(error))}") from None
        self.resumed_from = checkpoint.step
        # The process may have been killed between the checkpoint and the file that calls it the best.
        if self.counters.best_step == checkpoint.step:
            self._write_best()

    def _compile(self) -> None:
        compiled = torch.compile(self.model.loss)

        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            try:
                value: Tensor = compiled(ids, targets)
            except Exception as error:
                if self._compiled:
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._event("notice", message=f"torch.compile failed, going on in eager mode: {reason}")
                self._loss = self.model.loss
                return self.model.loss(ids, targets)
            self._compiled = True
            return value

        self._loss = loss


def _answer(command: Command | None) -> dict[str, str]:
    return {"command": command.id} if command else {}


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf
