"""The estimate is what torch allocates, on every architecture; it needs no torch; and its words are right."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.estimate_check import LIMIT, compare
from minigpt import cli
from minigpt.config import Config, ModelConfig, TrainConfig
from minigpt.configfile import load_config
from minigpt.corpus import vocab_size_of
from minigpt.estimate import (
    CUDA_MARGIN,
    CUDA_OWN,
    estimate_memory,
    fitting_accumulation,
)
from minigpt.model import GPT, count_parameters
from minigpt.presets import list_presets
from minigpt.shadow import Ledger, Shadow
from minigpt.shadow_gpt import parameter_shapes
from tests.training import write_corpus

RMS: dict[str, Any] = {"norm": "rmsnorm", "bias_norm": False}
MODERN: dict[str, Any] = {**RMS, "positions": "rotary", "qk_norm": True, "activation": "swiglu"}
POST: dict[str, Any] = {"norm_placement": "post", "final_norm": False, "activation": "relu"}
BRANCH: dict[str, Any] = {"norm_placement": "branch", "activation": "relu2"}
UNTIED: dict[str, Any] = {"tie_weights": False, "bias_head": True}
WIDE: dict[str, Any] = {"n_layer": 1, "n_embd": 256, "block_size": 32}

# Name: changes of the model, of the training, precision, vocabulary. Each has its peak somewhere else.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, int]] = {
    "GPT-2": ({}, {}, "float32", 101),
    "GPT-2 in bf16": ({}, {}, "bf16", 101),
    "dropout: attention weights in full": ({"dropout": 0.1}, {}, "float32", 101),
    "dropout in bf16": ({"dropout": 0.1}, {}, "bf16", 101),
    "dropout on the branches only": ({"dropout_resid": 0.1}, {}, "float32", 101),
    "post-LN, ReLU": (POST, {}, "float32", 101),
    "norms on the branch, squared ReLU": (BRANCH, {}, "float32", 101),
    "norms on the branch, in bf16": ({**BRANCH, **RMS}, {}, "bf16", 101),
    "rotary, RMSNorm, QK-norm, SwiGLU": (MODERN, {}, "float32", 101),
    "the same in bf16 with dropout": ({**MODERN, "dropout": 0.2}, {}, "bf16", 101),
    "sinusoidal, untied, no biases": (
        {"positions": "sinusoidal", "bias_qkv": False, "bias_proj": False, "bias_mlp": False, **UNTIED},
        {},
        "float32",
        101,
    ),
    "large vocabulary: the loss": ({}, {}, "float32", 3000),
    "large vocabulary in bf16, untied": (UNTIED, {}, "bf16", 3000),
    "tied table larger than all else": ({}, {"batch_size": 1}, "float32", 9000),
    "accumulation in uneven pieces": ({}, {"batch_size": 8, "gradient_accumulation_steps": 3}, "float32", 101),
    "accumulation in bf16": (WIDE, {"gradient_accumulation_steps": 8}, "bf16", 1001),
    "moving average": (WIDE, {"ema_decay": 0.9, "batch_size": 1}, "float32", 101),
    "Adam": (WIDE, {"optimizer": "adam", "batch_size": 1}, "float32", 101),
    "SGD with decay": (WIDE, {"optimizer": "sgd", "batch_size": 1}, "float32", 101),
    "SGD without momentum": (WIDE, {"optimizer": "sgd", "momentum": 0.0, "batch_size": 1}, "float32", 101),
    "Muon": ({**WIDE, "block_size": 8}, {"optimizer": "muon", "batch_size": 1}, "float32", 101),
}


def small(model: dict[str, Any] | None = None, train: dict[str, Any] | None = None) -> Config:
    shape: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 64, **(model or {})}
    return Config(model=ModelConfig(**shape), train=TrainConfig(**{"batch_size": 8, **(train or {})}))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Beside other work, threads that wait for each other take many times as long for tensors as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", CASES)
def test_prediction_is_what_torch_allocates(case: str) -> None:
    """Live tensor bytes by torch's profiler, in a whole step of the Learner: within 15%, and mostly within 1%."""
    model, train, precision, vocab_size = CASES[case]
    found = compare(small(model, train), vocab_size, "cpu", precision, only_training=True)
    predicted, measured = found["training"]
    assert predicted.total == pytest.approx(measured, rel=LIMIT), predicted


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("model", "precision"), [({}, "bf16"), (POST, "float32"), (BRANCH, "float32"), (MODERN, "bf16")]
)
def test_prediction_without_a_way_back(model: dict[str, Any], precision: str) -> None:
    """An evaluation, and reading a prompt: other temporaries count where nothing is saved."""
    for what, (predicted, measured) in compare(small(model), 101, "cpu", precision).items():
        assert predicted.total == pytest.approx(measured, rel=LIMIT), f"{what}: {predicted}"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_prediction_is_the_peak_on_a_gpu(precision: str) -> None:
    config = small({"n_embd": 256, "n_layer": 4, "block_size": 256, "dropout": 0.1}, {"batch_size": 32})
    for what, (predicted, measured) in compare(config, 1000, "cuda", precision).items():
        assert predicted.total == pytest.approx(measured, rel=LIMIT), f"{what}: {predicted}"


@pytest.mark.parametrize("model", [{}, MODERN, POST, BRANCH, UNTIED, {"bias_qkv": False, "final_norm": False}])
def test_parameters_are_those_of_the_model(model: dict[str, Any]) -> None:
    """Guards the second list of parameters, which needs no torch, against going its own way."""
    config = small(model).model
    shapes = parameter_shapes(config, 101)
    expected = {name: parameter.numel() for name, parameter in GPT(config, 101).named_parameters()}
    assert {name: rows * columns for name, (rows, columns) in shapes.items()} == expected
    assert sum(expected.values()) == count_parameters(config, 101)


def test_static_parts_by_hand() -> None:
    """Weights 4 bytes, AdamW's moments 8, an average 4, SGD's momentum 4; gradients 4 once accumulated."""
    parameters = count_parameters(small().model, 101)

    def peak(**train: Any) -> Any:
        return estimate_memory(small(train=train), 101, "cuda", "float32").training

    assert (peak().weights, peak().optimizer, peak().average) == (4 * parameters, 8 * parameters, 0)
    assert peak(ema_decay=0.99).average == 4 * parameters
    assert peak(optimizer="sgd").optimizer == 4 * parameters
    assert peak(optimizer="sgd", momentum=0.0).optimizer == 0
    assert peak(gradient_accumulation_steps=2).gradients == 4 * parameters
    # Muon's matrices, four in each of the two layers, have one momentum instead of two moments.
    assert peak(optimizer="muon").optimizer == 8 * parameters - 4 * 2 * 12 * 32 * 32


def test_large_vocabulary_peaks_at_three_copies_of_its_logits() -> None:
    """By hand: log-softmax, its gradient and that of the logits, (512, 50000) in float32 each."""
    peak = estimate_memory(small(), 50_000, "cpu", "float32").training
    copies = 3 * 8 * 64 * 50_000 * 4
    assert copies < peak.activations < 1.1 * copies
    assert peak.phase == "backward pass"


def test_nothing_of_a_step_is_left_behind() -> None:
    """Guards the shadow's reference counting: a name or closure that holds a tensor would let every step grow."""
    from minigpt.shadow_gpt import ShadowGPT

    for model in ({}, {"dropout": 0.1}, MODERN, BRANCH, POST):
        ledger = Ledger()
        gpt = ShadowGPT(small(model).model, 101, Shadow(ledger, "cpu", half=True, training=True))
        before = ledger.total
        gpt.loss(8, 64)
        gpt.shadow.leave_autocast()
        gpt.shadow.backward()
        assert ledger.now["gradients"] == before
        gpt.shadow.zero_gradients()
        assert ledger.total == before


def test_fused_attention_on_a_gpu_needs_no_weights_in_full() -> None:
    """With dropout the CPU has (B, H, T, T) three times for each layer; CUDA has not."""
    config = small({"dropout": 0.1, "block_size": 256})
    cpu = estimate_memory(config, 101, "cpu", "float32").training.activations
    cuda = estimate_memory(config, 101, "cuda", "float32").training.activations
    weights = 8 * 4 * 256 * 256 * 4
    assert cpu - cuda > 3 * 2 * weights


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 64), st.integers(1, 8), st.sampled_from(["cpu", "cuda", "mps"]), st.booleans())
def test_memory_grows_with_batch_and_depth(batch: int, layers: int, device: str, half: bool) -> None:
    def total(batch: int, layers: int) -> int:
        config = small({"n_layer": layers, "dropout": 0.1}, {"batch_size": batch})
        return estimate_memory(config, 101, device, "bf16" if half else "float32").training.total

    assert total(batch, layers) < total(batch + 1, layers)
    assert total(batch, layers) < total(batch, layers + 1)


def test_needed_counts_context_and_margin_on_a_gpu() -> None:
    estimate = estimate_memory(small(), 101, "cuda", "bf16")
    tensors = max(estimate.training.total, estimate.evaluation.total)
    assert estimate.needed == tensors + int(tensors * CUDA_MARGIN) + CUDA_OWN


def test_needed_counts_the_copy_for_a_checkpoint_on_the_host() -> None:
    """It is written beside the training, which goes on."""
    estimate = estimate_memory(small(), 101, "cpu", "float32")
    tensors = max(estimate.training.total, estimate.evaluation.total)
    assert estimate.needed == tensors + estimate.checkpoint + estimate.own
    assert estimate.checkpoint == 3 * estimate.training.weights


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.floats(0.1, 1.2))
def test_suggested_accumulation_is_the_fewest_pieces_that_fit(batch: int, share: float) -> None:
    config = small({"block_size": 512}, {"batch_size": batch})

    def needed(steps: int) -> int:
        train = config.train.model_copy(update={"gradient_accumulation_steps": steps})
        return estimate_memory(config.model_copy(update={"train": train}), 101, "cuda", "bf16").needed

    capacity = CUDA_OWN + int((needed(1) - CUDA_OWN) * share)
    fitting = [steps for steps in range(1, batch + 1) if needed(steps) <= capacity]
    assert fitting_accumulation(config, 101, "cuda", "bf16", capacity) == (fitting[0] if fitting else None)


def test_estimate_needs_no_torch() -> None:
    """It is to answer in a form while somebody types; importing torch takes seconds."""
    program = "import sys, minigpt.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", [preset.name for preset in list_presets()])
def test_every_preset_without_a_download(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGPT_DATA_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("went to the network"))
    monkeypatch.chdir(tmp_path)
    config = load_config(preset)
    assert cli.main(["estimate", preset, "--no-measure", "--device.type", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert f"{preset}: {count_parameters(config.model, vocab_size_of(config)):,} parameters" in printed
    assert "fits an 8 GB GPU: yes" in printed
    if config.data.corpus == "tinyshakespeare":
        assert "unknown until tinyshakespeare is here" in printed
    assert list(tmp_path.iterdir()) == []


def write_config(folder: Path, **sections: dict[str, Any]) -> Path:
    corpus = write_corpus(folder / "corpus.txt")
    values: dict[str, dict[str, Any]] = {
        "data": {"corpus": str(corpus)},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16},
        "train": {"batch_size": 4, "max_steps": 135, "eval_interval": 45},
        "device": {"type": "cpu", "threads": 1},
    }
    config = Config.model_validate({key: {**value, **sections.get(key, {})} for key, value in values.items()})
    path = folder / "small.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


def estimate(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["estimate", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_time_from_measured_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2,700 training tokens in batches of 64 are 42.2 steps an epoch; 135 steps are 3.2 epochs and 4 evaluations."""
    printed = estimate(capsys, write_config(tmp_path))
    assert "2,700 tokens, 42.2 steps" in printed
    assert "135 steps, 3.2 epochs (by max_steps)" in printed
    assert "4 of about 0 s" in printed
    assert "tokens/s (median of 5 steps)" in printed


def test_length_by_the_limit_that_is_reached_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path)
    assert "84 steps, 2.0 epochs (by max_epochs)" in estimate(capsys, path, "--train.max-epochs", 2)
    assert "(by max_minutes)" in estimate(capsys, path, "--train.max-minutes", 0.00001)


def test_what_to_change_where_it_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path, model={"n_layer": 4, "block_size": 256, "n_embd": 64}, train={"batch_size": 64})
    printed = estimate(capsys, path, "--no-measure", "--device-memory", 0.7)
    assert "fits a 0.7 GB GPU: no" in printed
    pieces = printed.partition("--train.gradient-accumulation-steps ")[2].split(":")[0]
    arguments = ["--no-measure", "--device-memory", 0.7, "--train.gradient-accumulation-steps", pieces]
    assert "fits a 0.7 GB GPU: yes" in estimate(capsys, path, *arguments)
    assert "not even one sequence" in estimate(capsys, path, "--no-measure", "--device-memory", 0.5)


def test_a_gpu_is_estimated_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    printed = estimate(capsys, write_config(tmp_path), "--device.type", "cuda", "--device.precision", "fp16")
    assert "cuda, fp16" in printed
    assert "Not on this machine: device.type = cuda: torch sees no CUDA device" in printed


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_tokens_of_other_tokenizers(tokenizer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path, data={"tokenizer": tokenizer, "bpe_vocab_size": 300})
    printed = estimate(capsys, path, "--no-measure")
    assert ("2,700 tokens, 42.2 steps" if tokenizer == "byte" else "about ") in printed
    assert ("  256 tokens (byte)" if tokenizer == "byte" else "at most 300 tokens (bpe)") in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-preset"], "no-such-preset"),
        (["--no-measure"], "comes first"),
        (["quickstart", "--device-memory", "much"], "--device-memory much: must be a number of GB"),
        (["quickstart", "--device-memory"], "--device-memory"),
        (["quickstart", "--model.n-head", "3"], "must be a multiple of n_head"),
        (["quickstart", "--data.corpus", "/no/such/text", "--data.tokenizer", "byte"], "no such text file"),
        (["quickstart", "--model.block-size", "60000"], "too short"),
    ],
)
def test_errors_are_one_message(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_one_line(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise error

    monkeypatch.setattr("minigpt.learner.Learner.update", too_much)
    assert "not measured: memory ran out" in estimate(capsys, write_config(tmp_path))


def test_slow_step_is_measured_in_part_and_scaled_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against minutes without a word: pieces keep their size, so that memory and speed are those of the real step."""
    from minigpt.learner import Learner

    batches: list[tuple[int, int]] = []

    def update(learner: Learner, ids: torch.Tensor, _targets: torch.Tensor, _rate: float) -> None:
        batches.append((len(ids), learner.config.gradient_accumulation_steps))

    monkeypatch.setattr(Learner, "update", update)
    monkeypatch.setattr("time.perf_counter", lambda: 7.0 * len(batches))
    path = write_config(tmp_path, train={"batch_size": 16, "gradient_accumulation_steps": 8})
    printed = estimate(capsys, path)
    # Seven seconds each, whatever is computed: four of the sixteen sequences are allowed, two pieces of two.
    assert batches[2:] == [(4, 2), (4, 2)]
    assert "a step        28.0 s" in printed
    assert "(median of one step, scaled up from 4 of its sequences)" in printed


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    printed = estimate(capsys, "--help")
    assert "--device-memory" in printed
    assert "--train.batch-size" in printed
