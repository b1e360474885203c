"""Evaluation: loss, perplexity, bits and accuracy over fixed windows, the same ones every time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from minigpt.device import Device
from minigpt.metrics import perplexity
from minigpt.tokenizer import Tokenizer
from minigpt.windows import BATCH_TOKENS, windows_at_once


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text: means over its tokens, and what it takes to convert them."""

    loss: float
    """Mean cross-entropy, the negative log-likelihood (NLL), in nats per token."""
    accuracy: float
    """Share of the tokens that were the likeliest one, 0 to 1."""
    tokens: int
    """How many were predicted."""
    characters: int
    """How many characters these tokens stand for."""
    bytes: int
    """And how many bytes of UTF-8."""

    @property
    def perplexity(self) -> float:
        """e to the loss: among how many equally likely tokens the model hesitates."""
        return perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        """Loss in bits, per character: comparable between tokenizers. nan for no character."""
        return self.loss * self.tokens / self.characters / math.log(2) if self.characters else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Loss in bits, per byte of UTF-8. nan for no byte."""
        return self.loss * self.tokens / self.bytes / math.log(2) if self.bytes else math.nan


@torch.no_grad()
def evaluate(
    model: nn.Module,
    windows: list[NDArray[np.integer]],
    tokenizer: Tokenizer,
    device: Device,
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[float], None] = lambda _: None,
) -> Evaluation:
    """Predict every id but the first of each window, without dropout; means are weighted by tokens.

    Leaves the model in the mode it was in and draws no random number. `progress` is told which share is done, 0 to 1;
    what it raises ends the evaluation. Not for no windows at all.
    """
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    correct = tokens = characters = size = done = 0
    try:
        for group in _same_length_groups(windows, tokenizer.vocab_size, batch_tokens):
            ids = np.stack(group).astype(np.int64)  # (B, T + 1)
            batch = torch.from_numpy(ids).to(device.type)
            with device.autocast():
                logits = model(batch[:, :-1]).flatten(0, 1)  # (B × T, V)
            targets = batch[:, 1:].flatten()  # (B × T)
            losses = F.cross_entropy(logits.float(), targets, reduction="none")
            # Summed in float64 on the host: the order and the precision of a sum over a million tokens matter.
            total += losses.cpu().double().sum()
            correct += int((logits.argmax(-1) == targets).sum())
            tokens += len(targets)
            characters += int(tokenizer.token_characters[ids[:, 1:]].sum())
            size += int(tokenizer.token_bytes[ids[:, 1:]].sum())
            done += len(group)
            progress(done / len(windows))
    finally:
        model.train(training)
    return Evaluation(float(total / tokens), correct / tokens, tokens, characters, size)


def _same_length_groups(
    windows: list[NDArray[np.integer]], vocab_size: int, batch_tokens: int
) -> list[list[NDArray[np.integer]]]:
    groups: list[list[NDArray[np.integer]]] = []
    for window in windows:
        size = windows_at_once(len(window) - 1, vocab_size, batch_tokens)
        if groups and len(groups[-1]) < size and len(groups[-1][0]) == len(window):
            groups[-1].append(window)
        else:
            groups.append([window])
    return groups
