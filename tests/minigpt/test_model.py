"""The model is GPT-2's, sees no future, learns, and counts its parameters rightly."""

import math

import pytest
import torch

from minigpt.checkpoint import gpt2_config, gpt2_weights
from minigpt.config import ModelConfig
from minigpt.model import GPT, count_parameters

VOCAB = 37

SHAPES = {
    "gpt2": ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=12, activation="gelu_tanh"),
    "exact-gelu": ModelConfig(n_layer=2, n_head=4, n_embd=16, block_size=12),
    "untied-head-bias": ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=12, tie_weights=False, bias_head=True),
    "no-biases": ModelConfig(
        n_layer=3, n_head=2, n_embd=8, block_size=5, bias_qkv=False, bias_proj=False, bias_mlp=False, bias_norm=False
    ),
}


@pytest.fixture(params=SHAPES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return SHAPES[request.param]


def test_logits_equal_those_of_hugging_face_gpt2() -> None:
    """Guards the whole architecture: any other order of norm, residual, GELU or scaling gives other logits."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    config = ModelConfig(n_layer=3, n_head=4, n_embd=32, block_size=24, activation="gelu_tanh")
    ours = GPT(config, VOCAB).eval()
    # Away from the small initial weights, where a missing bias or a wrong scale would hardly show.
    for parameter in ours.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    theirs = GPT2LMHeadModel(GPT2Config(**gpt2_config(config, VOCAB))).eval()
    missing, unexpected = theirs.load_state_dict(gpt2_weights(ours), strict=False)
    assert unexpected == []
    assert [name for name in missing if name != "lm_head.weight" and not name.endswith("attn.bias")] == []
    ids = torch.randint(0, VOCAB, (4, 24))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)


def test_changing_a_later_token_never_changes_an_earlier_logit(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = GPT(config, VOCAB).eval()
    ids = torch.randint(0, VOCAB, (1, config.block_size))
    before = model(ids)
    for position in range(1, config.block_size):
        changed = ids.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCAB
        after = model(changed)
        assert torch.equal(before[:, :position], after[:, :position])
        assert not torch.equal(before[:, position:], after[:, position:])


def test_every_parameter_gets_a_gradient(config: ModelConfig) -> None:
    """Guards against a part that is built but not used. The key's bias is exempt: a softmax ignores what all keys share."""
    torch.manual_seed(0)
    model = GPT(config, VOCAB)
    ids = torch.randint(0, VOCAB, (8, config.block_size + 1))
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grad = parameter.grad
        if name.endswith("c_attn.bias"):
            query, _key, value = grad.chunk(3)
            assert query.abs().max() > 0 and value.abs().max() > 0, name
        else:
            assert grad.abs().max() > 0, name


def test_first_loss_is_that_of_a_uniform_guess(config: ModelConfig) -> None:
    """Guards the initialisation: larger first weights start far above ln V."""
    torch.manual_seed(0)
    model = GPT(config, VOCAB).eval()
    ids = torch.randint(0, VOCAB, (16, config.block_size + 1))
    assert model.loss(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(math.log(VOCAB), abs=0.05)


def test_overfits_one_batch(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = GPT(config, VOCAB)
    ids = torch.randint(0, VOCAB, (4, config.block_size + 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=0.0)
    for _ in range(200):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_parameter_count_by_arithmetic_is_that_of_the_model(config: ModelConfig) -> None:
    model = GPT(config, VOCAB)
    assert count_parameters(config, VOCAB) == sum(parameter.numel() for parameter in model.parameters())


def test_residual_projections_start_smaller() -> None:
    """GPT-2 divides the weights that end a residual branch by √(2 · n_layer)."""
    torch.manual_seed(0)
    config = ModelConfig(n_layer=8, n_head=2, n_embd=64, block_size=8)
    model = GPT(config, VOCAB)
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight"):
            assert parameter.std().item() == pytest.approx(0.02 / 4, rel=0.1), name
        elif parameter.dim() >= 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
        elif name.endswith("bias"):
            assert not parameter.any(), name


def test_dropout_only_while_training() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.5), VOCAB)
    ids = torch.randint(0, VOCAB, (2, 8))
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))
