"""Checkpoints: weights and training state in safetensors, everything else in JSON. Nothing in them can execute.

step-00000500/
  model.safetensors           the weights, under GPT-2's names and in its layout
  config.json                 for other programs' loaders; only where the architecture is exactly GPT-2's
  training.safetensors        the optimizer's state, the random generators, what is summed up between two rows
  checkpoint.json             step, losses, counters
"""

import errno
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from minigpt.capacity import require_memory_to_generate
from minigpt.config import ModelConfig
from minigpt.device import is_out_of_memory
from minigpt.errors import NewerVersionError, UnreadableError, UserError
from minigpt.files import is_unfit, read_limited, sync_path, write_atomically
from minigpt.inert import inert_line
from minigpt.model import GPT
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.tensors import Shape, read_tensors
from minigpt.tokenizer import Tokenizer, load_tokenizer
from minigpt.training_state import KEPT_BY_OPTIMIZERS, on_host

FORMAT = 1

_LARGEST_STATE = 1 << 20  # elements of a random generator's state; torch's take 5,056 at most
_GENERATORS = {"rng.cpu", "rng.cuda", "rng.mps"}
_LARGEST_INFO = 1 << 20  # bytes of a checkpoint.json

# GPT-2 keeps these matrices as (in, out), torch's Linear as (out, in).
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_gate.weight", "mlp.c_proj.weight")

_HUGGING_FACE_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2"}


@dataclass(frozen=True)
class Snapshot:
    """All of a checkpoint, copied to the host at one moment: the training may go on while it is written."""

    step: int
    weights: dict[str, Tensor]
    training: dict[str, Tensor]
    info: dict[str, Any]
    hugging_face: dict[str, Any] | None

    @classmethod
    def take(cls, step: int, model: GPT, training: dict[str, Tensor], info: dict[str, Any]) -> "Snapshot":
        """Copy the weights; `training` are copies already."""
        return cls(step, gpt2_weights(model), training, info, gpt2_config(model.config, model.vocab_size))


def write_checkpoint(run: RunDirectory, snapshot: Snapshot) -> Checkpoint:
    """Write one checkpoint, which appears under its name only when all of it is on the disk.

    Raises OSError; what was there before is then untouched.
    """
    final = run.checkpoints_dir / f"step-{snapshot.step:08d}"
    building = run.checkpoints_dir / f".{final.name}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        save_file(snapshot.weights, building / "model.safetensors", metadata={"format": "pt"})
        save_file(snapshot.training, building / "training.safetensors")
        for name in ("model.safetensors", "training.safetensors"):
            sync_path(building / name)
        write_checkpoint_info(building, snapshot.step, snapshot.info)
        if snapshot.hugging_face is not None:
            write_atomically(building / "config.json", json.dumps(snapshot.hugging_face, indent=2) + "\n")
        building.rename(final)
    except BaseException as error:
        shutil.rmtree(building, ignore_errors=True)
        if isinstance(error, SafetensorError):
            raise OSError(errno.EIO, str(error), str(building)) from None
        raise
    sync_path(run.checkpoints_dir)
    return Checkpoint(snapshot.step, final)


def write_checkpoint_info(path: Path, step: int, info: dict[str, Any]) -> None:
    """Write the checkpoint.json of a checkpoint directory, or replace it. Raises OSError."""
    write_atomically(path / "checkpoint.json", json.dumps({"format": FORMAT, "step": step, **info}) + "\n")


def remove_checkpoint(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint; it loses its name first, so that half of one is never taken for a whole."""
    doomed = checkpoint.path.with_name(f".{checkpoint.path.name}.removed.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def read_training_state(
    checkpoint: Checkpoint, model: GPT
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights by our names, training tensors, and checkpoint.json, for a model of that shape.

    Raises UserError if any of it is damaged, or of another shape, NewerVersionError, and UnreadableError.
    """
    info = _read_info(checkpoint)
    written = info.get("format")
    shown = inert_line(str(checkpoint.path))
    if type(written) is int and written > FORMAT:
        raise NewerVersionError(f"{shown}: was written by a newer version of minigpt-tui; update to go on with it")
    if written != FORMAT or info.get("step") != checkpoint.step:
        raise UserError(f"{shown}: is damaged: its checkpoint.json does not describe it")
    return _read_weights(checkpoint, model), _read_training_tensors(checkpoint, model), info


def _read_info(checkpoint: Checkpoint) -> dict[str, Any]:
    """Its checkpoint.json, empty if that is damaged. Raises UnreadableError, which `Checkpoint.info` does not."""
    path = checkpoint.path / "checkpoint.json"
    try:
        value = json.loads(read_limited(path, _LARGEST_INFO))
    except OSError as error:
        if is_unfit(error):
            return {}
        raise UnreadableError(f"{inert_line(str(path))}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def load_for_generation(run: RunDirectory, checkpoint: Checkpoint, device: str = "cpu") -> tuple[GPT, Tokenizer]:
    """A copy of the model at a checkpoint, for generating, and the run's tokenizer.

    Built on the meta device: drawing initial weights would advance the global random generator, which belongs to a
    training that may go on in this very process. Raises UserError if the files do not fit together.
    """
    tokenizer = load_tokenizer(run.tokenizer_file)
    config = run.config()
    require_memory_to_generate(config, tokenizer.vocab_size, device)
    with torch.device("meta"):
        model = GPT(config.model, tokenizer.vocab_size)
    load_weights(model, _read_weights(checkpoint, model), checkpoint, assign=True)
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
    """Put weights into a model. Raises UserError if they are of another shape than the model.

    And what torch raises if there is no memory for them.
    """
    if model.config.tie_weights and "wte.weight" in weights:
        weights = {**weights, "lm_head.weight": weights["wte.weight"]}
    try:
        model.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = inert_line(str(error).splitlines()[-1].strip())
        raise UserError(
            f"{inert_line(str(checkpoint.path))}: does not fit the configuration of its run: {reason}"
        ) from None


def _read_weights(checkpoint: Checkpoint, model: GPT) -> dict[str, Tensor]:
    expected = {name: shape for name, shape in _shapes(model).items() if _is_exported(model, name)}

    def check(claimed: dict[str, Shape]) -> None:
        shapes = {
            name.removeprefix("transformer."): shape[::-1] if name.endswith(_TRANSPOSED) else shape
            for name, shape in claimed.items()
        }
        if len(shapes) == len(claimed) and shapes == expected:
            return
        wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
        what = ", ".join(
            f"{inert_line(name, 60)} is {shapes.get(name)}, not {expected.get(name)}" for name in wrong[:3]
        )
        raise UserError(f"{inert_line(str(checkpoint.path))}: does not fit the configuration of its run: {what}")

    path = checkpoint.path / "model.safetensors"
    weights = read_tensors(path, check)
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise UserError(f"{inert_line(str(path))}: is damaged: {inert_line(name, 60)} is {tensor.dtype}")
    return {name: tensor.float() for name, tensor in from_gpt2_names(weights).items()}


def _read_training_tensors(checkpoint: Checkpoint, model: GPT) -> dict[str, Tensor]:
    path = checkpoint.path / "training.safetensors"
    shapes = {name: shape for name, shape in _shapes(model).items() if _is_exported(model, name)}
    largest = {f"weights.{name}": shape for name, shape in shapes.items()}
    for key in KEPT_BY_OPTIMIZERS:
        largest |= {f"optimizer.{name}.{key}": shape for name, shape in shapes.items()}

    def check(claimed: dict[str, Shape]) -> None:
        # Which of them this run's optimizer keeps is seen when it takes them; here only that nothing is too large.
        for name, shape in claimed.items():
            state = name in _GENERATORS or name in {"grad_norm", "loss_sum"}
            small = state and math.prod(shape) <= _LARGEST_STATE
            if not small and (name not in largest or shape not in {largest[name], ()}):
                what = f"{inert_line(name, 60)} of shape {shape} is not what such a training keeps"
                raise UserError(f"{inert_line(str(path))}: is damaged: {what}")

    return read_tensors(path, check)


def _shapes(model: GPT) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _is_exported(model: GPT, name: str) -> bool:
    return name != "lm_head.weight" or not model.config.tie_weights


# ── GPT-2's names and layout ──────────────────────────────────────────────────────────────────────────────────────


def gpt2_weights(model: GPT) -> dict[str, Tensor]:
    """Copies of the weights as GPT-2's files have them: `transformer.h.0.attn.c_attn.weight` and so on, on the CPU."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if not _is_exported(model, name):
            continue
        value = on_host(tensor.t() if name.endswith(_TRANSPOSED) else tensor)
        weights[name if name.startswith("lm_head.") else f"transformer.{name}"] = value
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
