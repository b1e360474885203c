"""Whether `minigpt estimate` tells the truth: predicted against measured peaks of memory, for every preset.

    python benchmarks/estimate_check.py                on the CPU, and on a GPU where there is one
    python benchmarks/estimate_check.py --tokens 4096  fewer tokens in a batch on the CPU, where memory or time is short

Measured are bytes of live tensors: on the CPU the allocations that torch's profiler reports, on a GPU
`max_memory_allocated`; of a whole step as the trainer takes it, of an evaluation, and of reading a prompt.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from minigpt.batches import Split
from minigpt.config import Config
from minigpt.configfile import load_config
from minigpt.corpus import vocab_size_of
from minigpt.device import Device
from minigpt.estimate import MIB, Peak, estimate_memory
from minigpt.evaluate import evaluate
from minigpt.learner import Learner
from minigpt.model import KVCache
from minigpt.presets import list_presets
from minigpt.tokenizer import Tokenizer
from minigpt.windows import windows_at_once

LIMIT = 0.15  # how far a prediction may be off


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192, help="most tokens of a batch on the CPU (default 8192)")
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], default=["cpu", "cuda"])
    parser.add_argument("--presets", nargs="+", default=[preset.name for preset in list_presets()])
    options = parser.parse_args()
    print(
        f"{'preset':17}{'device':7}{'precision':10}{'batch':>7}  {'what':11}{'predicted':>13}{'measured':>13}{'off':>8}"
    )
    worst = 0.0
    for device_type in options.devices:
        if device_type == "cuda" and not torch.cuda.is_available():
            print("no CUDA device here")
            continue
        for name in options.presets:
            for precision in ("float32", "bf16") if device_type == "cpu" else ("float32", "bf16", "fp16"):
                config = load_config(name)
                if device_type == "cpu":
                    config = smaller(config, options.tokens)
                train = config.train
                batch = f"{train.batch_size}/{train.gradient_accumulation_steps}"
                found = compare(config, vocab_size_of(config), device_type, precision)
                for what, (predicted, measured) in found.items():
                    off = predicted.total / measured - 1
                    worst = max(worst, abs(off))
                    sizes = f"{predicted.total / MIB:9.1f} MiB{measured / MIB:9.1f} MiB{off:+8.1%}"
                    print(f"{name:17}{device_type:7}{precision:10}{batch:>7}  {what:11}{sizes}  {predicted.phase}")
                    sys.stdout.flush()
    print(f"worst: {worst:.1%} off; at most {LIMIT:.0%} are allowed")
    return int(worst > LIMIT)


def smaller(config: Config, tokens: int) -> Config:
    """The same configuration with at most so many tokens in a step."""
    batch = max(1, min(config.train.batch_size, tokens // config.model.block_size))
    pieces = min(config.train.gradient_accumulation_steps, batch)
    train = config.train.model_copy(update={"batch_size": batch, "gradient_accumulation_steps": pieces})
    return config.model_copy(update={"train": train})


def compare(
    config: Config, vocab_size: int, device_type: str, precision: str, *, only_training: bool = False
) -> dict[str, tuple[Peak, int]]:
    """Predicted peak and measured bytes, of training, evaluation and generation."""
    estimate = estimate_memory(config, vocab_size, device_type, precision)
    work = Work(config, vocab_size, device_type, precision)
    found = {"training": (estimate.training, measured_peak(work.update, work.between(), device_type))}
    if only_training:
        return found
    found["evaluation"] = estimate.evaluation, measured_peak(work.evaluate, work.between(), device_type)
    # Generation is estimated without a training beside it.
    work.learner.optimizers, work.learner.averaged = [], None
    found["generation"] = (estimate.generation, measured_peak(work.read_prompt, work.between(), device_type))
    return found


class Work:
    """What the trainer does, on random ids."""

    def __init__(self, config: Config, vocab_size: int, device_type: str, precision: str) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.device = Device(device_type, device_type, precision)
        self.learner = Learner(config, vocab_size, self.device, lambda _kind, _message: None)
        self.update()  # the first one makes the optimizer's state

    def update(self) -> None:
        ids, targets = torch.randint(self.vocab_size, (2, self.config.train.batch_size, self.config.model.block_size))
        self.learner.update(ids, targets, 1e-3)

    def evaluate(self) -> None:
        context = self.config.model.block_size
        length = 2 * windows_at_once(context, self.vocab_size) * context + 1  # two batches
        split = Split(np.random.default_rng(0).integers(self.vocab_size, size=length), "validation", context)
        ones = np.ones(self.vocab_size, dtype=np.int64)
        tokenizer = cast(
            Tokenizer, SimpleNamespace(vocab_size=self.vocab_size, token_characters=ones, token_bytes=ones)
        )
        evaluate(self.learner.speaker, split.windows(), tokenizer, self.device)

    @torch.inference_mode()
    def read_prompt(self) -> None:
        model, context = self.learner.model.eval(), self.config.model.block_size
        cache = KVCache(self.config.model, context, like=model.wte.weight)
        model(torch.randint(self.vocab_size, (1, context)).to(self.device.type), cache)

    def between(self) -> int:
        """Bytes of the tensors that are there between two steps."""
        learner = self.learner
        tensors: list[torch.Tensor] = [
            *learner.model.parameters(),
            *(learner.averaged.parameters() if learner.averaged else []),
        ]
        for optimizer in learner.optimizers:
            for state in optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        # A tied table is one parameter, listed once.
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def measured_peak(work: Callable[[], None], between: int, device_type: str) -> int:
    """The most bytes of live tensors while `work` is done, where `between` bytes are there before and after."""
    gc.collect()
    if device_type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        gc.collect()
        # The workspaces of cuBLAS come from the same allocator and stay; the estimate has them in the process's share.
        return torch.cuda.max_memory_allocated() - max(0, torch.cuda.memory_allocated() - between)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    results: Any = profiler.profiler.kineto_results
    events = sorted((event for event in results.events() if event.name() == "[memory]"), key=lambda e: e.start_ns())
    return between + max(accumulate((int(event.nbytes()) for event in events), initial=0))


if __name__ == "__main__":
    raise SystemExit(main())
