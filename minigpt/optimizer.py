"""The optimizers and their learning rate."""

import inspect
import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from minigpt.config import TrainConfig

# torch prepares the methods of its optimizers for torch.compile when they are first called, and imports the compiler
# for that: a second before the first step, though nothing here compiles an optimizer. A method that has a prepared
# form already, here itself, is called as it is.
for _prepared in (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict):
    _method = inspect.unwrap(_prepared)
    _method.__dynamo_disable = _method


def apply_gradients(optimizer: Optimizer) -> None:
    """The optimizer's step, without the wrapping around `Optimizer.step` that imports torch's compiler."""
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def build_optimizers(model: nn.Module, config: TrainConfig, device_type: str) -> list[Optimizer]:
    """The configured optimizer: one, or for Muon two, since it is made for matrices only.

    AdamW and Muon decay matrices and embeddings, not biases and norms, as in GPT-2. Every parameter has exactly one
    optimizer. Sources: AdamW, Loshchilov and Hutter 2019; Adam, Kingma and Ba 2015; Muon, Jordan et al. 2024, with the
    scaling of Liu et al. 2025 under which AdamW's learning rates suit it.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    hidden = [
        parameter for name, parameter in named if config.optimizer == "muon" and _is_hidden_matrix(name, parameter)
    ]
    others = _without([parameter for _, parameter in named], hidden)
    decayed = [parameter for parameter in others if parameter.dim() >= 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": _without(others, decayed), "weight_decay": 0.0},
    ]
    betas, fused = (config.beta1, config.beta2), device_type in {"cpu", "cuda"}
    optimizers: list[Optimizer] = []
    match config.optimizer:
        case "adamw" | "muon":
            optimizers.append(torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=fused))
        case "adam":
            optimizers.append(torch.optim.Adam(others, lr=config.learning_rate, betas=betas, fused=fused))
        case "sgd":
            optimizers.append(torch.optim.SGD(others, lr=config.learning_rate, momentum=config.momentum))
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    taken = [
        id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    ]
    assert sorted(taken) == sorted(id(parameter) for _, parameter in named), (
        "each parameter needs exactly one optimizer"
    )
    return optimizers


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    # Embeddings and the head are tables of rows, not maps from one space to another: they stay with AdamW.
    return name.startswith("h.") and parameter.dim() == 2


def _without(parameters: Iterable[nn.Parameter], excluded: list[nn.Parameter]) -> list[nn.Parameter]:
    identities = set(map(id, excluded))
    return [parameter for parameter in parameters if id(parameter) not in identities]


def learning_rate_at(step: int, config: TrainConfig, progress: float | None = None) -> float:
    """The learning rate of the update that leads from `step` to `step` + 1.

    Linear warm-up from zero; then constant, a half cosine (Loshchilov and Hutter 2017), a line, or stable and a line
    at the end (warm-up, stable, decay; Hu et al. 2024), down to min_lr, which is reached at max_steps. `progress` is
    how much of the training is over, from 0 to 1, where that is told by a clock and not by steps.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if progress is None:
        progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    progress = min(1.0, progress)
    match config.lr_schedule:
        case "constant":
            share = 1.0
        case "cosine":
            share = 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            share = 1 - progress
        case "wsd":
            share = min(1.0, (1 - progress) / config.decay_fraction)
    if config.lr_schedule == "constant":
        return config.learning_rate
    return config.min_lr + share * (config.learning_rate - config.min_lr)
