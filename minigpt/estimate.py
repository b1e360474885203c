"""What a training will take before anything is trained: parameters and memory, worked out without torch or a device.

`estimate_memory` is quick enough for a form that shows its answer while somebody types.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from minigpt.config import Config, ModelConfig, TrainConfig
from minigpt.shadow import FLOAT32, HALF, INT64, Ledger, Shadow, Storage
from minigpt.shadow_gpt import ShadowGPT
from minigpt.windows import windows_at_once

MIB = 1 << 20

# A CUDA process holds this before it has a single tensor: the driver's context (300 to 500 MiB, more on data-centre
# GPUs), kernels that are loaded as they are first called, and the workspaces of cuBLAS (8 MiB each, 32 on Hopper).
CUDA_OWN = 576 * MIB
# Python with torch loaded, on the CPU: 240 MiB, and more once it has computed.
HOST_OWN = 320 * MIB
# torch's caching allocator takes memory in blocks of 2 to 20 MiB and more, and cannot always fill the holes in them.
CUDA_MARGIN = 0.08


@dataclass(frozen=True)
class Peak:
    """The moment at which something takes most memory; sizes in bytes."""

    phase: str
    """When it is, in words."""
    weights: int
    gradients: int
    optimizer: int
    """The optimizer's moments and momenta."""
    average: int
    """The moving average of the weights."""
    activations: int
    """What the backward pass needs, logits, temporaries, the key/value cache."""

    @property
    def total(self) -> int:
        """All of it: bytes of live tensors."""
        return self.weights + self.gradients + self.optimizer + self.average + self.activations


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory of a configuration on one kind of device, in eager mode; sizes in bytes."""

    device_type: str
    micro_batch: int
    """Sequences that are computed at a time."""
    training: Peak
    """The peak of a step."""
    evaluation: Peak
    """The peak of an evaluation between two steps."""
    generation: Peak
    """The peak of writing text with a context that is full, by itself: no training beside it."""

    @property
    def own(self) -> int:
        """What the process takes before it has a tensor: the CUDA context and workspaces, or Python and torch."""
        return CUDA_OWN if self.device_type == "cuda" else HOST_OWN

    @property
    def tensors(self) -> int:
        """The most that training takes in tensors."""
        return max(self.training.total, self.evaluation.total)

    @property
    def margin(self) -> int:
        """What the allocator may lose to fragmentation."""
        return int(self.tensors * CUDA_MARGIN) if self.device_type == "cuda" else 0

    @property
    def checkpoint(self) -> int:
        """The copy that is written to the disk while the training goes on; it is in the host's memory."""
        return self.training.weights + self.training.optimizer + self.training.average

    @property
    def needed(self) -> int:
        """What a training needs of the device in all: its largest peak, the process's own share and the margin."""
        copy = self.checkpoint if self.device_type == "cpu" else 0
        return self.tensors + copy + self.margin + self.own


def estimate_memory(config: Config, vocab_size: int, device_type: str, precision: str) -> MemoryEstimate:
    """The memory of training, evaluating and generating with a vocabulary of `vocab_size` tokens.

    `device_type` is cpu, cuda or mps; `precision` is float32, bf16 or fp16. Needs neither torch nor the device.
    """
    half = precision in {"bf16", "fp16"}
    train, model = config.train, config.model
    micro_batch = math.ceil(train.batch_size / train.gradient_accumulation_steps)
    return MemoryEstimate(
        device_type,
        micro_batch,
        _training(config, vocab_size, Shadow(Ledger(), device_type, half=half, training=True), micro_batch),
        _evaluation(config, vocab_size, Shadow(Ledger(), device_type, half=half, training=False)),
        _generation(model, vocab_size, Shadow(Ledger(), device_type, half=False, training=False)),
    )


def fitting_accumulation(
    config: Config, vocab_size: int, device_type: str, precision: str, capacity: int
) -> int | None:
    """The fewest gradient accumulation steps with which a training fits `capacity` bytes; None if none do."""

    def fits(steps: int) -> bool:
        train = config.train.model_copy(update={"gradient_accumulation_steps": steps})
        changed = config.model_copy(update={"train": train})
        return estimate_memory(changed, vocab_size, device_type, precision).needed <= capacity

    # Only the size of the micro-batch matters, and memory grows with it: the largest that fits, by bisection.
    low, high = 0, config.train.batch_size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(math.ceil(config.train.batch_size / middle)) else (low, middle - 1)
    return math.ceil(config.train.batch_size / low) if low else None


# ── what is done with the model ───────────────────────────────────────────────────────────────────────────────────


def _training(config: Config, vocab_size: int, shadow: Shadow, micro_batch: int) -> Peak:
    """Any step but the first: the optimizer has its state, and the gradients are made anew."""
    ledger, train, context = shadow.ledger, config.train, config.model.block_size
    gpt = ShadowGPT(config.model, vocab_size, shadow)
    _state = [*_optimizer_state(ledger, gpt, train), *_average(ledger, gpt, train)]
    # On the CPU the pieces are views of the whole batch; a GPU is given them one by one.
    sequences = train.batch_size if shadow.device_type == "cpu" else micro_batch
    _batch = shadow.memory(2 * sequences * context * INT64)
    # The first micro-batch has no gradients beside it; all others are like the second.
    for _ in range(min(2, train.gradient_accumulation_steps)):
        ledger.phase = "forward pass"
        gpt.loss(micro_batch, context)
        shadow.leave_autocast()
        ledger.phase = "backward pass"
        shadow.backward()
    ledger.phase = "optimizer's step"
    shadow.memory(_optimizer_temporaries(gpt, train, shadow.device_type))
    return _peak(ledger)


def _evaluation(config: Config, vocab_size: int, shadow: Shadow) -> Peak:
    ledger, context = shadow.ledger, config.model.block_size
    gpt = ShadowGPT(config.model, vocab_size, shadow)
    _state = [*_optimizer_state(ledger, gpt, config.train), *_average(ledger, gpt, config.train)]
    shadow.weights_are_learned = not config.train.ema_decay  # the average is what is evaluated
    rows = windows_at_once(context, vocab_size)
    ledger.phase = "evaluation"
    _batch = shadow.memory(rows * (context + 1) * INT64)
    for _ in range(2):  # the logits of one batch are there until those of the next are
        logits = gpt.forward(rows, context)
        shadow.leave_autocast()
        in_float32 = shadow.cast(logits, FLOAT32)
        _log_softmax = shadow.memory(logits.numel * FLOAT32)
        del in_float32, _log_softmax
    return _peak(ledger)


def _generation(config: ModelConfig, vocab_size: int, shadow: Shadow) -> Peak:
    gpt = ShadowGPT(config, vocab_size, shadow)
    shadow.ledger.phase = "prompt"
    _cache = shadow.memory(2 * config.n_layer * config.block_size * config.n_embd * FLOAT32)
    gpt.forward(1, config.block_size)
    return _peak(shadow.ledger)


def _peak(ledger: Ledger) -> Peak:
    sizes = ledger.at_peak
    return Peak(
        phase=ledger.peak_phase,
        weights=sizes["weights"],
        gradients=sizes["gradients"],
        optimizer=sizes["optimizer"],
        average=sizes["average"],
        activations=sizes["activations"],
    )


# ── optimizers ────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_hidden_matrix(name: str, shape: tuple[int, int]) -> bool:
    return name.startswith("h.") and shape[1] > 1


def _elements(shapes: Iterable[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def _optimizer_state(ledger: Ledger, gpt: ShadowGPT, train: TrainConfig) -> list[Storage]:
    moments = {"adamw": 2, "adam": 2, "muon": 2, "sgd": 1 if train.momentum else 0}[train.optimizer]
    size = moments * _elements(gpt.shapes.values())
    if train.optimizer == "muon":  # one momentum for the matrices, where AdamW has two
        size -= _elements(shape for name, shape in gpt.shapes.items() if _is_hidden_matrix(name, shape))
    return [Storage(ledger, size * FLOAT32, "optimizer")]


def _average(ledger: Ledger, gpt: ShadowGPT, train: TrainConfig) -> list[Storage]:
    return [Storage(ledger, _elements(gpt.shapes.values()) * FLOAT32, "average")] if train.ema_decay else []


def _optimizer_temporaries(gpt: ShadowGPT, train: TrainConfig, device_type: str) -> int:
    matrices = {name: shape for name, shape in gpt.shapes.items() if shape[1] > 1}
    match train.optimizer:
        case "muon":  # the update in float32, and Newton and Schulz's iteration in bf16, matrix by matrix
            hidden = [shape for name, shape in matrices.items() if _is_hidden_matrix(name, shape)]
            sizes = [
                rows * columns * (FLOAT32 + 2 * HALF) + 2 * min(rows, columns) ** 2 * HALF for rows, columns in hidden
            ]
            return max(sizes, default=0)
        case "adam" | "adamw" if device_type == "mps":  # not fused there
            return _elements(gpt.shapes.values()) * FLOAT32
    return 0
