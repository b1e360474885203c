"""How long a step takes on this machine, by doing a few on random ids."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from minigpt.config import Config
from minigpt.device import Device, configure_threads
from minigpt.errors import UserError
from minigpt.learner import Learner

STEPS = 5
SECONDS = 3.0  # of measuring, after which no further step is begun
LONGEST = 30.0  # seconds that one step may take to be measured whole


@dataclass(frozen=True)
class StepTime:
    """What was measured, in eager mode."""

    seconds: float
    """Of one whole step: the median, scaled up if only a part of the batch was measured."""
    steps: int
    """How many were measured, after one to warm up."""
    sequences: int
    """In the batch that was measured."""


def measure_step(
    config: Config, vocab_size: int, device: Device, progress: Callable[[str], None] = lambda _: None
) -> StepTime:
    """Train a model for some steps and drop it. Advances torch's global generator: not for a process that trains.

    Where a whole step would take longer than half a minute, fewer sequences are measured, in micro-batches of the same
    size if possible. `progress` is told in words what is done. Raises UserError if memory runs out.
    """
    configure_threads(config.device)
    progress("building the model")
    try:
        return _measure(config, vocab_size, device, progress)
    except (MemoryError, torch.OutOfMemoryError):
        pass
    except RuntimeError as error:  # how torch says it on the CPU and on MPS
        if not any(words in str(error) for words in ("not enough memory", "can't allocate memory", "out of memory")):
            raise
    raise UserError("memory ran out; try more --train.gradient-accumulation-steps, which makes the pieces smaller")


def _measure(config: Config, vocab_size: int, device: Device, progress: Callable[[str], None]) -> StepTime:
    train = config.train
    learner = Learner(config, vocab_size, device, lambda _kind, _message: None)

    def step(sequences: int) -> float:
        ids, targets = torch.randint(vocab_size, (2, sequences, config.model.block_size))
        _wait_for(device)
        began = time.perf_counter()
        learner.update(ids, targets, train.min_lr)
        _wait_for(device)
        return time.perf_counter() - began

    progress("warming up")
    step(1)
    sequences = min(train.batch_size, max(1, int(LONGEST / step(1))))
    if sequences < train.batch_size:
        micro_batch = -(-train.batch_size // train.gradient_accumulation_steps)
        sequences = max(1, sequences // micro_batch) * min(micro_batch, sequences)
        learner.config = train.model_copy(update={"gradient_accumulation_steps": -(-sequences // micro_batch)})
    if sequences > 1:
        step(sequences)
    times: list[float] = []
    while len(times) < STEPS and sum(times) < SECONDS:
        progress(f"measuring step {len(times) + 1}")
        times.append(step(sequences))
    return StepTime(median(times) * train.batch_size / sequences, len(times), sequences)


def _wait_for(device: Device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
