"""How good a model under training is at a step, and how it writes: evaluations and samples, told to the run's log.

Where a device has no memory left for them the results are the same, computed with less of it.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from minigpt.commands import Command
from minigpt.config import Config
from minigpt.counters import Counters
from minigpt.dataset import TrainingData
from minigpt.device import Device, free_memory, is_out_of_memory
from minigpt.errors import UserError
from minigpt.evaluate import Evaluation, evaluate
from minigpt.generate import generate
from minigpt.model import GPT
from minigpt.run_log import RunLog
from minigpt.sampling import Sampling
from minigpt.saving import answer
from minigpt.windows import BATCH_TOKENS


class Examiner:
    """Examines one model, always in the same way.

    `look_up` is called often during an evaluation, with the share that is done; what it raises ends it. `sign_of_life`
    is called often during a sample.
    """

    def __init__(
        self,
        model: GPT,
        data: TrainingData,
        config: Config,
        device: Device,
        *,
        log: RunLog,
        look_up: Callable[[float], None],
        sign_of_life: Callable[[], None],
    ) -> None:
        self._model = model
        self._data = data
        self._config = config
        self._device = device
        self._log = log
        self._look_up = look_up
        self._sign_of_life = sign_of_life
        self._batch_tokens = BATCH_TOKENS

    def evaluate(self, counters: Counters) -> bool:
        """Evaluate both splits, and count that; whether it was the best evaluation so far."""
        step = counters.step
        self._log.event(step, "evaluating")  # it may take minutes, in which nothing else happens
        train = self._evaluation(step, self._data.train.windows(self._config.train.train_eval_tokens))
        val = self._evaluation(step, self._data.val.windows())
        counters.last_losses = {**_columns("train_eval", train), **_columns("val", val)}
        improved = counters.take_evaluation(train.loss, val.loss)
        self._log.event(step, "evaluated", train_eval_loss=train.loss, val_loss=val.loss, best=improved)
        if counters.begins_to_overfit(train.loss):
            self._log.notice(
                step,
                "overfitting",
                f"overfitting: the validation loss was lowest at step {counters.best_step:,} "
                f"({counters.best_val_loss:.4f}), and only the training loss has fallen since. "
                "The best checkpoint is kept.",
                since=counters.best_step,
            )
        return improved

    def _evaluation(self, step: int, windows: list[Any]) -> Evaluation:
        while True:
            try:
                return evaluate(
                    self._model,
                    windows,
                    self._data.tokenizer,
                    self._device,
                    batch_tokens=self._batch_tokens,
                    progress=self._look_up,
                )
            except Exception as error:
                if not is_out_of_memory(error) or self._batch_tokens <= self._config.model.block_size:
                    raise
            # Only here: the exception and its frames would hold on to the memory.
            free_memory(self._device.type)
            self._batch_tokens //= 2
            message = f"out of memory: evaluations look at {self._batch_tokens:,} tokens at a time from now on"
            self._log.notice(step, "memory", message)

    def sample(self, step: int, command: Command | None = None) -> None:
        """Let it continue the configuration's prompt, for whoever has asked for it."""
        sample = self._config.sample
        settings = {name: getattr(sample, name) for name in ("temperature", "top_k", "top_p", "seed")}
        sampling = Sampling(max_new_tokens=sample.max_new_tokens, **settings)
        try:
            text = self._text(self._model, sampling)
        except UserError as error:  # numbers too large for the model: the loss tells whether it has diverged
            self._log.notice(step, "nonfinite", f"no sample at step {step:,}: {error}", **answer(command))
            return
        row = {"step": step, "attempt": self._log.attempt, "time": time.time()}
        self._log.samples.append({**row, "prompt": sample.prompt, "text": text, **settings})
        self._log.event(step, "sampled", **answer(command))

    def _text(self, model: GPT, sampling: Sampling) -> str:
        text = ""
        try:
            for piece in generate(model, self._data.tokenizer, self._config.sample.prompt, sampling):
                self._sign_of_life()
                text += piece
            return text
        except Exception as error:
            if not is_out_of_memory(error) or model.wte.weight.is_cpu:
                raise
        free_memory(self._device.type)
        with torch.device("meta"):  # initial weights would be drawn from the training's own generator
            copy = GPT(self._config.model, self._data.tokenizer.vocab_size)
        copy.load_state_dict({name: tensor.cpu() for name, tensor in model.state_dict().items()}, assign=True)
        return self._text(copy, sampling)


def _columns(split: str, evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as metrics.jsonl has it."""
    return {
        f"{split}_loss": evaluation.loss,
        f"{split}_perplexity": evaluation.perplexity,
        f"{split}_accuracy": evaluation.accuracy,
        f"{split}_bpc": evaluation.bits_per_character,
        f"{split}_bpb": evaluation.bits_per_byte,
    }
