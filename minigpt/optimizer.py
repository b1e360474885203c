"""The optimizer and its learning rate."""

import math

import torch
from torch import nn

from minigpt.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig, device_type: str) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) that decays matrices and embeddings, not biases and norms, as GPT-2 did."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if parameter.dim() >= 2]
    others = [parameter for parameter in parameters if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=device_type in {"cpu", "cuda"}
    )


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of the update that leads from `step` to `step` + 1.

    Linear warm-up from zero, then constant, a half cosine (Loshchilov and Hutter 2017) or a line down to min_lr,
    which is reached at max_steps.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.lr_schedule == "constant":
        return config.learning_rate
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps))
    share = 0.5 * (1 + math.cos(math.pi * progress)) if config.lr_schedule == "cosine" else 1 - progress
    return config.min_lr + share * (config.learning_rate - config.min_lr)
