"""Evaluation: the mean loss over fixed windows, the same ones every time."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from minigpt.device import Device


@torch.no_grad()
def evaluate_loss(
    model: nn.Module, windows: list[NDArray[np.integer]], device: Device, batch_tokens: int = 8192
) -> float:
    """Mean cross-entropy in nats per token over windows of ids, without dropout, weighted by tokens.

    Leaves the model in the mode it was in and draws no random number.
    """
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    try:
        for group in _same_length_groups(windows, batch_tokens):
            batch = torch.from_numpy(np.stack(group).astype(np.int64)).to(device.type)  # (B, T + 1)
            with device.autocast():
                logits = model(batch[:, :-1])  # (B, T, V)
            losses = F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="none")
            # Summed in float64 on the host: the order and the precision of a sum over a million tokens matter.
            total += losses.cpu().double().sum()
            count += losses.numel()
    finally:
        model.train(training)
    return float(total / count)


def _same_length_groups(windows: list[NDArray[np.integer]], batch_tokens: int) -> list[list[NDArray[np.integer]]]:
    groups: list[list[NDArray[np.integer]]] = []
    for window in windows:
        size = max(1, batch_tokens // (len(window) - 1))
        if groups and len(groups[-1]) < size and len(groups[-1][0]) == len(window):
            groups[-1].append(window)
        else:
            groups.append([window])
    return groups
