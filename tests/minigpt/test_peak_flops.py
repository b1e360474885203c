"""What a device can do at most and what a token takes: the two figures that model FLOPs utilisation is made of."""

import subprocess
import sys

import pytest

from minigpt.config import Config, ModelConfig
from minigpt.journal import read_journal
from minigpt.model import GPT
from minigpt.peak_flops import flops_per_token, peak_flops
from tests.training import train


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756.5),
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA A100-SXM4-80GB", "float32", 19.5),
        ("NVIDIA A100 80GB PCIe", "fp16", 312.0),
        ("NVIDIA L4", "bf16", 121.0),
        ("Tesla T4", "fp16", 65.0),
        ("NVIDIA Tesla T4", "fp16", 65.0),
        ("Tesla V100-SXM2-16GB", "fp16", 125.0),
        # The figures of the whitepapers' appendices, which the products of cores and clock must come to.
        ("NVIDIA GeForce RTX 3090", "bf16", 71.2),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA GeForce RTX 4060", "float32", 15.1),
        ("NVIDIA GeForce RTX 5090", "bf16", 209.5),
        ("NVIDIA GeForce RTX 2080 Ti", "fp16", 53.8),
    ],
)
def test_peaks_of_known_devices(name: str, precision: str, teraflops: float) -> None:
    """Guards against peaks with sparsity, or with sums in half precision: they would halve the utilisation."""
    peak = peak_flops(name, precision)
    assert peak is not None
    assert peak / 1e12 == pytest.approx(teraflops, rel=0.005)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("x86_64", "float32"),
        ("arm64", "float32"),
        ("", "float32"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16"),  # a seventh of it
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "bf16"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER D", "bf16"),
        ("AMD Instinct MI300X", "bf16"),
        ("Tesla T4", "bf16"),  # emulated
        ("NVIDIA L4", "fp8"),
    ],
)
def test_what_is_not_known_is_no_guess(name: str, precision: str) -> None:
    """Guards against a peak by a likeness of names: a figure that is wrong is worse than none."""
    assert peak_flops(name, precision) is None


def multiplied(config: ModelConfig, vocab_size: int) -> int:
    """The weights that a real model multiplies with."""
    model = GPT(config, vocab_size)
    looked_up = ["wpe.weight"] if config.tie_weights else ["wte.weight", "wpe.weight"]
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name not in looked_up)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_weights": False},
        {"positions": "rotary"},
        {"activation": "swiglu", "norm": "rmsnorm", "bias_norm": False},
    ],
    ids=str,
)
def test_flops_of_a_token_follow_the_model(changes: dict[str, object]) -> None:
    """Guards against counting tables that are only looked up: with a large vocabulary they would be most of it."""
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, **changes)
    parameters = sum(parameter.numel() for parameter in GPT(config, 50).parameters())
    expected = 6 * multiplied(config, 50) + 12 * 2 * 16 * 8
    assert flops_per_token(config, 50, parameters) == expected


def test_it_never_imports_torch() -> None:
    """The launch form asks for it before torch is there."""
    code = "import sys, minigpt.peak_flops; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("known", [False, True])
def test_the_trainer_tells_both_to_whoever_watches(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A viewer has no torch and no model: it reads them. On a CPU, whose peak is not known, there is no word of it."""
    if known:
        monkeypatch.setattr("minigpt.started.peak_flops", lambda name, precision: 1e12)
    short = tiny_config.train.model_copy(update={"max_steps": 2})
    run = train(tiny_config.model_copy(update={"train": short}))
    started = read_journal(run.events_file)[0]
    config, vocab_size = tiny_config.model, started["vocab_size"]
    assert started["flops_per_token"] == 6 * multiplied(config, vocab_size) + 12 * 1 * 16 * 16
    assert started.get("peak_flops") == (1e12 if known else None)
    assert ("peak_flops" in started) is known
