"""The evaluation is the mean over all targets, and leaves no trace in the training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigpt.batches import Split
from minigpt.config import ModelConfig
from minigpt.device import Device
from minigpt.evaluate import evaluate_loss
from minigpt.model import GPT

CPU = Device("cpu", "test", "float32")


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.5), 11)


def test_loss_is_the_mean_over_tokens_not_over_windows(model: GPT) -> None:
    """Guards the weighting: the short last window must not count as much as a whole one."""
    ids = np.random.default_rng(0).integers(0, 11, size=8 * 5 + 4)
    windows = Split(ids, "validation", 8).windows()
    assert len(windows[-1]) < 9
    measured = evaluate_loss(model, windows, CPU, batch_tokens=16)
    model.eval()
    losses = []
    for window in windows:
        row = torch.from_numpy(window)[None]
        losses += F.cross_entropy(model(row[:, :-1])[0], row[0, 1:], reduction="none").tolist()
    assert len(losses) == len(ids) - 1
    assert measured == pytest.approx(np.mean(losses), abs=1e-6)


def test_the_size_of_the_groups_does_not_change_what_is_measured(model: GPT) -> None:
    ids = np.random.default_rng(1).integers(0, 11, size=200)
    windows = Split(ids, "validation", 8).windows()
    losses = [evaluate_loss(model, windows, CPU, batch_tokens=tokens) for tokens in (1, 24, 10_000)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def test_evaluating_draws_no_random_number_and_keeps_the_mode(model: GPT) -> None:
    """Guards determinism: dropout left on, or a draw from the global generator, would change the run."""
    windows = Split(np.arange(100) % 11, "validation", 8).windows()
    model.train()
    before = torch.get_rng_state()
    assert evaluate_loss(model, windows, CPU) == evaluate_loss(model, windows, CPU)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
