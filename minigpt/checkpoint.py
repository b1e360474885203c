"""Checkpoints: weights and training state in safetensors, everything else in JSON. Nothing in them can execute.

step-00000500/
  model.safetensors           the weights, under GPT-2's names and in its layout
  config.json                 for other programs' loaders; only where the architecture is exactly GPT-2's
  training.safetensors        the optimizer's state, the random generators, what is summed up between two rows
  checkpoint.json             step, losses, counters
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minigpt.config import ModelConfig
from minigpt.errors import UserError
from minigpt.files import sync_path, write_atomically
from minigpt.inert import inert_line
from minigpt.model import GPT
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1

# GPT-2 keeps these matrices as (in, out), torch's Linear as (out, in).
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_gate.weight", "mlp.c_proj.weight")

_HUGGING_FACE_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2"}


def write_checkpoint(
    run: RunDirectory, step: int, model: GPT, training: dict[str, Tensor], info: dict[str, Any]
) -> Checkpoint:
    """Write one checkpoint, which appears under its name only when all of it is on the disk.

    Raises OSError; what was there before is then untouched.
    """
    final = run.checkpoints_dir / f"step-{step:08d}"
    building = run.checkpoints_dir / f".{final.name}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        save_file(gpt2_weights(model), building / "model.safetensors", metadata={"format": "pt"})
        save_file(training, building / "training.safetensors")
        for name in ("model.safetensors", "training.safetensors"):
            sync_path(building / name)
        write_atomically(building / "checkpoint.json", json.dumps({"format": FORMAT, "step": step, **info}) + "\n")
        if (hugging_face := gpt2_config(model.config, model.vocab_size)) is not None:
            write_atomically(building / "config.json", json.dumps(hugging_face, indent=2) + "\n")
        if final.exists():  # the same step of an abandoned attempt
            remove_checkpoint(Checkpoint(step, final))
        building.rename(final)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)
        raise
    except SafetensorError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise OSError(f"cannot write {building}: {error}") from None
    sync_path(run.checkpoints_dir)
    return Checkpoint(step, final)


def remove_checkpoint(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint; it loses its name first, so that half of one is never taken for a whole."""
    doomed = checkpoint.path.with_name(f".{checkpoint.path.name}.removed.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def read_training_state(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights by our names, training tensors, and checkpoint.json. Raises UserError if any of it is damaged."""
    info = checkpoint.info()
    if info.get("format") != FORMAT:
        raise UserError(f"{inert_line(str(checkpoint.path))}: is damaged, or was written by another version")
    weights = _read_weights(checkpoint)
    return weights, _read_tensors(checkpoint.path / "training.safetensors"), info


def load_for_generation(run: RunDirectory, checkpoint: Checkpoint, device: str = "cpu") -> tuple[GPT, Tokenizer]:
    """A copy of the model at a checkpoint, for generating, and the run's tokenizer.

    Built on the meta device: drawing initial weights would advance the global random generator, which belongs to a
    training that may go on in this very process. Raises UserError if the files do not fit together.
    """
    tokenizer = load_tokenizer(run.tokenizer_file)
    weights = _read_weights(checkpoint)
    with torch.device("meta"):
        model = GPT(run.config().model, tokenizer.vocab_size)
    load_weights(model, weights, checkpoint, assign=True)
    return model.to(device).eval(), tokenizer


def load_named(run: RunDirectory, which: str, device: str = "cpu") -> tuple[Checkpoint, GPT, Tokenizer]:
    """`load_for_generation` of the checkpoint that `last`, `best` or a step means now."""
    for last_try in (False, False, True):
        checkpoint = run.checkpoint(which)
        try:
            return checkpoint, *load_for_generation(run, checkpoint, device)
        except UserError:
            # A trainer removes old checkpoints when it writes new ones; the newest is then another one.
            if last_try or checkpoint.path.is_dir():
                raise
    raise AssertionError("the last try returns or raises")


def load_weights(model: GPT, weights: dict[str, Tensor], checkpoint: Checkpoint, *, assign: bool = False) -> None:
    """Put weights into a model. Raises UserError if they are of another shape than the model."""
    if model.config.tie_weights and "wte.weight" in weights:
        weights = {**weights, "lm_head.weight": weights["wte.weight"]}
    try:
        model.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        reason = inert_line(str(error).splitlines()[-1].strip())
        raise UserError(
            f"{inert_line(str(checkpoint.path))}: does not fit the configuration of its run: {reason}"
        ) from None


def _read_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    path = checkpoint.path / "model.safetensors"
    weights = _read_tensors(path)
    for name, tensor in weights.items():
        if tensor.dtype not in {torch.float32, torch.float64, torch.float16, torch.bfloat16} or tensor.dim() > 2:
            what = f"{inert_line(name)} is {tensor.dtype} of shape {tuple(tensor.shape)}"
            raise UserError(f"{inert_line(str(path))}: holds no weights of such a model: {what}")
    return {name: tensor.float() for name, tensor in from_gpt2_names(weights).items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    # safetensors checks the header against the length of the file before anything is allocated.
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{inert_line(str(path))}: is missing") from None
    except OSError as error:
        raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, TypeError) as error:
        raise UserError(f"{inert_line(str(path))}: is damaged: {inert_line(str(error))}") from None


# ── GPT-2's names and layout ──────────────────────────────────────────────────────────────────────────────────────


def gpt2_weights(model: GPT) -> dict[str, Tensor]:
    """The weights as GPT-2's files have them: `transformer.h.0.attn.c_attn.weight` and so on, on the CPU."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_weights:
            continue
        value = tensor.detach().cpu()
        value = value.t() if name.endswith(_TRANSPOSED) else value
        weights[name if name.startswith("lm_head.") else f"transformer.{name}"] = value.contiguous()
    return weights


def from_gpt2_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `gpt2_weights`: our names, and torch's layout."""
    return {
        name.removeprefix("transformer."): tensor.t().contiguous() if name.endswith(_TRANSPOSED) else tensor
        for name, tensor in weights.items()
    }


def gpt2_config(config: ModelConfig, vocab_size: int) -> dict[str, Any] | None:
    """The config.json with which Hugging Face's GPT2LMHeadModel loads the weights; None if it has no such model."""
    biases = config.bias_qkv and config.bias_proj and config.bias_mlp and config.bias_norm and not config.bias_head
    norms = config.norm == "layernorm" and config.norm_placement == "pre" and config.final_norm and not config.qk_norm
    if not (biases and norms and config.positions == "learned" and config.activation in _HUGGING_FACE_ACTIVATIONS):
        return None
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.ffn_width,
        "activation_function": _HUGGING_FACE_ACTIVATIONS[config.activation],
        "resid_pdrop": config.dropout_on("resid"),
        "embd_pdrop": config.dropout_on("embd"),
        "attn_pdrop": config.dropout_on("attn"),
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": None,
        "eos_token_id": None,
    }
