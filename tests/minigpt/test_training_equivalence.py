"""Trainings that must come out the same: in pieces and whole, ours and Hugging Face's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minigpt.batches import Batches, Split
from minigpt.checkpoint import gpt2_config, gpt2_weights
from minigpt.config import Config, DeviceConfig, ModelConfig
from minigpt.device import choose_device
from minigpt.learner import Learner
from minigpt.optimizer import build_optimizers, learning_rate_at
from tests.architectures import ARCHITECTURES
from tests.training import rows_by_step, tiny_config, train, write_corpus

VOCAB = 37
STEPS = 20


def batches_for(config: Config) -> Batches:
    ids = torch.randint(0, VOCAB, (500,), generator=torch.Generator().manual_seed(1)).numpy()
    split = Split(ids, "training", config.model.block_size)
    return Batches(split, config.train.batch_size, config.data.batches, config.train.seed)


def losses_of(learner: Learner, config: Config) -> list[float]:
    """Loss of each of twenty steps, as the trainer takes them."""
    batches, losses = batches_for(config), []
    for step in range(STEPS):
        learner.loss_sum.zero_()
        learner.update(*batches.at(step), learning_rate_at(step, config.train))
        losses.append(learner.loss_sum.item())
    return losses


def learner_for(config: Config, dtype: torch.dtype = torch.float32) -> Learner:
    learner = Learner(config, VOCAB, choose_device(DeviceConfig(type="cpu")), lambda *_: None)
    learner.model.to(dtype)
    learner.loss_sum = learner.loss_sum.to(dtype)
    return learner


# ── in pieces and whole ───────────────────────────────────────────────────────────────────────────────────────────

PIECES = [(8, 2), (8, 8), (8, 3), (7, 4)]  # also where the pieces differ in size


def accumulating(model: ModelConfig, batch_size: int, pieces: int, **train_values: Any) -> Config:
    values = {"batch_size": batch_size, "gradient_accumulation_steps": pieces, "warmup_steps": 3, **train_values}
    without_dropout = dict.fromkeys(("dropout", "dropout_embd", "dropout_attn", "dropout_resid"), 0.0)
    return Config.model_validate({"model": {**model.model_dump(), **without_dropout}, "train": values})


@pytest.mark.parametrize("batches", ["random", "epochs"])
@pytest.mark.parametrize(("batch_size", "pieces"), PIECES, ids=str)
def test_twenty_steps_in_pieces_are_those_of_the_large_batch(batch_size: int, pieces: int, batches: str) -> None:
    """In float64, where no rounding hides a wrong weight; with epochs the last batch is smaller than the others."""
    found = []
    for count in (1, pieces):
        config = accumulating(ARCHITECTURES["default"], batch_size, count, optimizer="sgd", learning_rate=0.1)
        config = config.model_copy(update={"data": config.data.model_copy(update={"batches": batches})})
        learner = learner_for(config, torch.float64)
        losses = losses_of(learner, config)
        found.append((losses, [parameter.detach().clone() for parameter in learner.model.parameters()]))
    (whole, whole_weights), (in_pieces, weights) = found
    assert in_pieces == pytest.approx(whole, abs=1e-9, rel=0)
    assert whole[-1] != pytest.approx(whole[0], abs=1e-3)  # it did train
    for one, other in zip(whole_weights, weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_step_in_pieces_has_the_large_batchs_loss(architecture: str) -> None:
    losses, norms = [], []
    for pieces in (1, 3):
        config = accumulating(ARCHITECTURES[architecture], 8, pieces)
        learner = learner_for(config)
        learner.update(*batches_for(config).at(0), 1e-3)
        losses.append(learner.loss_sum.item())
        norms.append(float(learner.grad_norm if learner.grad_norm is not None else torch.nan))
    assert losses[1] == pytest.approx(losses[0], abs=1e-6, rel=0)
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_a_run_in_pieces_writes_the_rows_of_the_large_batch(tmp_path: Path) -> None:
    """The whole way: from the configuration through the trainer into metrics.jsonl."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    rows = []
    for pieces in (1, 3):
        changes = {
            "model": {"dropout": 0.0},
            "train": {"gradient_accumulation_steps": pieces, "max_steps": 24, "optimizer": "sgd", "log_interval": 1},
            "data": {"batches": "epochs"},
        }
        rows.append(rows_by_step(train(tiny_config(corpus, tmp_path / str(pieces), **changes))))
    whole, in_pieces = rows
    assert whole.keys() == in_pieces.keys()
    for step, row in whole.items():
        for name in ("train_loss", "val_loss", "grad_norm"):
            if name in row:
                assert in_pieces[step][name] == pytest.approx(row[name], rel=1e-4), (step, name)
        for name in ("tokens", "epoch", "learning_rate"):
            assert in_pieces[step].get(name) == row.get(name), (step, name)
    assert in_pieces[1]["train_loss"] == pytest.approx(whole[1]["train_loss"], abs=1e-6, rel=0)


# ── ours and Hugging Face's ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
def test_twenty_steps_are_those_of_hugging_face_gpt2(activation: str) -> None:
    """From the same weights, with AdamW, warm-up, clipping and weight decay: any other gradient shows in the losses."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=32, activation=activation)
    config = Config(
        model=model,
        train=Config().train.model_copy(update={"batch_size": 8, "max_steps": STEPS, "warmup_steps": 5}),
    )
    learner = learner_for(config)
    theirs = GPT2LMHeadModel(GPT2Config(**(gpt2_config(model, VOCAB) or {}))).train()
    theirs.load_state_dict(gpt2_weights(learner.model), strict=False)
    (optimizer,) = build_optimizers(theirs, config.train, "cpu")
    batches = batches_for(config)

    def their_step(step: int, ids: Tensor, targets: Tensor) -> float:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config.train)
        loss = torch.nn.functional.cross_entropy(theirs(ids).logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), config.train.grad_clip)
        optimizer.step()
        return loss.item()

    expected = [their_step(step, *batches.at(step)) for step in range(STEPS)]
    found = losses_of(learner, config)
    assert found == pytest.approx(expected, abs=1e-4, rel=0)
    assert found[-1] < found[0] - 0.05
