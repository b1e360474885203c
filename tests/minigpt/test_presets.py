"""Each preset is what its reference says, to the last parameter, and marks what the reference leaves open."""

import re
from typing import Any

import numpy as np
import pytest
import tomli
import torch

from minigpt.batches import Batches, split_ids
from minigpt.config import Config
from minigpt.configfile import load_config
from minigpt.model import GPT, count_parameters
from minigpt.paths import presets_dir
from minigpt.presets import list_presets

SIX_LAYERS = {
    "data.corpus": "tinyshakespeare",
    "data.tokenizer": "char",
    "data.batches": "random",
    "data.val_fraction": 0.1,
    "model.n_layer": 6,
    "model.n_head": 6,
    "model.n_embd": 384,
    "model.block_size": 256,
    "model.ffn_width": 4 * 384,
    "model.norm": "layernorm",
    "model.final_norm": True,
    "model.positions": "learned",
    "model.qk_norm": False,
    "model.activation": "relu",
    "model.dropout": 0.2,
    "model.tie_weights": False,
    "model.bias_qkv": False,
    "model.bias_proj": True,
    "model.bias_mlp": True,
    "model.bias_norm": True,
    "model.bias_head": True,
    "train.batch_size": 64,
    "train.eval_interval": 500,
}

FACTS: dict[str, dict[str, Any]] = {
    "laptop-8gb": {
        **SIX_LAYERS,
        "model.norm_placement": "pre",
        "train.optimizer": "adamw",
        "train.lr_schedule": "cosine",
        "train.max_steps": 0,
        "train.max_minutes": 480,
    },
    "gpt2-tokens": {
        "data.tokenizer": "gpt2",
        "data.batches": "epochs",
        "data.val_fraction": 0.1,
        "model.n_layer": 2,
        "model.n_head": 4,
        "model.n_embd": 128,
        "model.block_size": 512,
        "model.ffn_width": 512,
        "model.activation": "relu",
        "model.norm": "layernorm",
        "model.norm_placement": "post",
        "model.final_norm": False,
        "model.positions": "learned",
        "model.bias_qkv": True,
        "model.bias_proj": True,
        "model.tie_weights": True,
        "model.bias_head": False,
        "model.dropout": 0.1,
        "train.batch_size": 8,
        "train.optimizer": "adam",
        "train.learning_rate": 5e-4,
        "train.grad_clip": 1.0,
        "train.max_epochs": 10,
        "train.max_steps": 0,
        "train.eval_interval": 0,
    },
    "microgpt": {
        **SIX_LAYERS,
        "model.norm_placement": "branch",
        "train.optimizer": "adamw",
        "train.learning_rate": 3e-4,
        "train.max_steps": 5000,
    },
    "shakespeare-char": {
        **SIX_LAYERS,
        "model.norm_placement": "pre",
        "train.optimizer": "adamw",
        "train.max_steps": 5000,
    },
    "gpt-mini": {
        "data.corpus": "tinyshakespeare",
        "data.tokenizer": "char",
        "model.n_layer": 6,
        "model.n_head": 4,
        "model.n_embd": 128,
        "model.block_size": 256,
        "model.ffn_width": 512,
        "model.activation": "gelu",
        "model.norm": "layernorm",
        "model.norm_placement": "pre",
        "model.final_norm": True,
        "model.positions": "learned",
        "model.bias_qkv": True,
        "model.bias_proj": True,
        "model.tie_weights": True,
        "model.bias_head": False,
        "model.dropout": 0.1,
        "train.batch_size": 64,
        "train.optimizer": "adamw",
        "train.max_steps": 10_000,
    },
    "gpt2-124m": {
        "data.tokenizer": "gpt2",
        "model.n_layer": 12,
        "model.n_head": 12,
        "model.n_embd": 768,
        "model.block_size": 1024,
        "model.ffn_width": 3072,
        "model.activation": "gelu_tanh",
        "model.norm_placement": "pre",
        "model.final_norm": True,
        "model.positions": "learned",
        "model.tie_weights": True,
    },
}
"""What the references' table says of each, as it came out after reading."""

PARAMETERS = {
    "laptop-8gb": (65, 10_788_929),
    "gpt2-tokens": (50_257, 6_894_976),
    "microgpt": (65, 10_788_929),
    "shakespeare-char": (65, 10_788_929),
    "gpt-mini": (65, 1_230_976),
    "gpt2-124m": (50_257, 124_439_808),
}

OUR_CHOICES = {
    "gpt2-tokens": ["corpus", "bias_qkv", "norm_placement", "final_norm", "activation", "tie_weights", "lr_schedule"],
    "microgpt": ["activation", "optimizer", "lr_schedule", "warmup_steps"],
    "shakespeare-char": ["activation", "batch_size", "optimizer", "learning_rate"],
    "gpt-mini": ["dropout", "batch_size", "learning_rate", "lr_schedule"],
    "laptop-8gb": ["tokenizer", "block_size", "learning_rate"],
}
"""What a reference does not state: the line of each says so."""


def text_of(name: str) -> str:
    return (presets_dir() / f"{name}.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "vocab_size", "expected"), [(name, *rest) for name, rest in PARAMETERS.items()])
def test_a_preset_has_exactly_the_parameters_of_its_reference(name: str, vocab_size: int, expected: int) -> None:
    config = load_config(name)
    assert count_parameters(config.model, vocab_size) == expected
    with torch.device("meta"):
        model = GPT(config.model, vocab_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    said = re.findall(r"([\d,]+)\s+parameters", text_of(name)[:600].replace("\n# ", " "))
    assert said in ([], [f"{expected:,}"]), "the file's own words"


@pytest.mark.parametrize("name", FACTS)
def test_a_preset_has_the_shape_and_the_training_of_its_reference(name: str) -> None:
    config = load_config(name)
    found = {key: getattr(getattr(config, (parts := key.split("."))[0]), parts[1]) for key in FACTS[name]}
    assert found == FACTS[name]
    assert len({config.model.dropout_on(part) for part in ("embd", "attn", "resid")}) == 1


@pytest.mark.parametrize("name", OUR_CHOICES)
def test_a_preset_marks_what_its_reference_leaves_open(name: str) -> None:
    lines = text_of(name).splitlines()
    for key in OUR_CHOICES[name]:
        (line,) = [line for line in lines if re.match(rf"{key}\s*=", line)]
        assert "our choice" in line, line


@pytest.mark.parametrize("preset", list_presets(), ids=lambda preset: preset.name)
def test_every_preset_begins_with_its_reason_and_says_nothing_twice(preset: Any) -> None:
    text = preset.path.read_text(encoding="utf-8")
    assert text.startswith("# "), "why it is as it is"
    assert tomli.loads(text)["run"].keys() == {"about"}
    config = load_config(preset.name)
    assert Config.model_validate(config.model_dump()) == config
    assert max(map(len, text.splitlines())) <= 120


def test_our_own_recipe_is_of_the_ten_million_class() -> None:
    """What it reaches is compared with models of 10.8M parameters: it must not be larger."""
    config = load_config("shakespeare-best")
    assert 10_000_000 < count_parameters(config.model, 65) <= 10_788_929
    assert (config.data.corpus, config.data.tokenizer, config.data.val_fraction) == ("tinyshakespeare", "char", 0.1)


def test_gpt2_tokens_has_the_geometry_of_its_reference() -> None:
    """50,191 sequences of 512 tokens, nine tenths of them for training, are 5,647 steps an epoch in eights."""
    config = load_config("gpt2-tokens")
    ids = np.arange(50_191 * 512, dtype=np.uint32) % 50_257
    assert ids.astype(np.int64).nbytes / 2**20 == pytest.approx(196, abs=0.1)
    train, val = split_ids(ids, config.data.val_fraction, config.model.block_size)
    batches = Batches(train, config.train.batch_size, config.data.batches, config.train.seed)
    assert batches.steps_per_epoch == 5647
    # A sequence that the cut between the splits goes through belongs to neither.
    assert (batches.sequences, len(val) // 512) == (45_171, 5019)
    assert batches.tokens_at(10 * 5647) == 10 * 45_171 * 512
    assert [batches.at(step)[0].shape for step in (0, 5645, 5646)] == [(8, 512), (8, 512), (3, 512)]


def test_gpt2_tokens_learns_from_whole_sequences_of_its_vocabulary() -> None:
    """Its two layers in full, on synthetic ids: the first loss is a guess among 50,257, and three steps lower it."""
    from minigpt.config import DeviceConfig
    from minigpt.device import choose_device
    from minigpt.learner import Learner

    config = load_config("gpt2-tokens", {"train.batch_size": "1", "model.block_size": "64", "device.type": "cpu"})
    learner = Learner(config, 50_257, choose_device(DeviceConfig(type="cpu")), lambda *_: None)
    ids = torch.arange(65)[None] * 7 % 50_257
    losses = []
    for _ in range(3):
        learner.loss_sum.zero_()
        learner.update(ids[:, :-1], ids[:, 1:], config.train.learning_rate)
        losses.append(learner.loss_sum.item())
    assert losses[0] == pytest.approx(np.log(50_257), abs=0.1)
    assert losses[2] < losses[1] < losses[0]
