"""Checkpoints are complete or absent, load elsewhere, and execute nothing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt import checkpoint as checkpoints
from minigpt.checkpoint import (
    Snapshot,
    load_for_generation,
    read_training_state,
    remove_checkpoint,
    write_checkpoint,
)
from minigpt.config import Config, ModelConfig
from minigpt.errors import NewerVersionError, UserError
from minigpt.model import GPT
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer(list("abc\n"))
GPT2 = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, activation="gelu_tanh")
OTHER = ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, tie_weights=False, bias_qkv=False, bias_head=True)


def make(tmp_path: Path, model_config: ModelConfig) -> tuple[RunDirectory, GPT]:
    config = Config.model_validate({"run": {"dir": str(tmp_path / "run")}, "model": model_config})
    run = RunDirectory.create(config, "test", TOKENIZER)
    torch.manual_seed(1)
    return run, GPT(model_config, TOKENIZER.vocab_size)


def written(
    run: RunDirectory, step: int, model: GPT, training: dict[str, torch.Tensor], info: dict[str, object]
) -> Checkpoint:
    return write_checkpoint(run, Snapshot.take(step, model, training, info))


@pytest.mark.parametrize("model_config", [GPT2, OTHER], ids=["gpt2", "other"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, model_config: ModelConfig) -> None:
    run, model = make(tmp_path, model_config)
    checkpoint = written(run, 5, model, {"rng.cpu": torch.ones(2)}, {"val_loss": 1.5})
    loaded, tokenizer = load_for_generation(run, checkpoint)
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert tokenizer.decode([0, 1]) == "\na" or tokenizer.decode([0]) == "a"
    weights, training, info = read_training_state(checkpoint, model)
    assert weights.keys() | {"lm_head.weight"} == model.state_dict().keys() | {"lm_head.weight"}
    assert torch.equal(training["rng.cpu"], torch.ones(2))
    assert (info["step"], info["val_loss"]) == (5, 1.5)


def test_hugging_face_loads_a_gpt2_checkpoint_as_it_lies(tmp_path: Path) -> None:
    """Guards the promise of the file format: names, transposed layout, config.json."""
    from transformers import GPT2LMHeadModel

    run, model = make(tmp_path, GPT2)
    checkpoint = written(run, 1, model, {}, {})
    theirs = GPT2LMHeadModel.from_pretrained(checkpoint.path).eval()
    ids = torch.randint(0, 4, (2, 8))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids), theirs(ids).logits, atol=1e-4, rtol=0)


def test_no_hugging_face_config_for_another_architecture(tmp_path: Path) -> None:
    run, model = make(tmp_path, OTHER)
    assert not (written(run, 1, model, {}, {}).path / "config.json").exists()


def test_loading_for_generation_draws_no_random_number(tmp_path: Path) -> None:
    """Guards determinism: a chat that loads a model must not advance the generator that dropout draws from."""
    run, model = make(tmp_path, GPT2)
    checkpoint = written(run, 1, model, {}, {})
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    load_for_generation(run, checkpoint)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_checkpoint_half_written_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards atomicity: whatever fails before the rename leaves the earlier checkpoint the last one."""
    run, model = make(tmp_path, GPT2)
    written(run, 1, model, {}, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for function in ("save_file", "sync_path", "write_atomically"):
        with monkeypatch.context() as patch:
            patch.setattr(f"minigpt.checkpoint.{function}", full)
            with pytest.raises(OSError, match="No space"):
                written(run, 2, model, {}, {})
        assert [checkpoint.step for checkpoint in run.checkpoints()] == [1]
        assert [path.name for path in run.checkpoints_dir.iterdir()] == ["step-00000001"]


def test_a_removed_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    run, model = make(tmp_path, GPT2)
    remove_checkpoint(written(run, 1, model, {}, {}))
    assert run.checkpoints() == [] and list(run.checkpoints_dir.iterdir()) == []


def test_half_of_a_removed_checkpoint_is_never_taken_for_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may be killed in the middle of a removal, which takes away one file after the other."""
    run, model = make(tmp_path, GPT2)
    checkpoint = written(run, 1, model, {}, {})
    rmtree = checkpoints.shutil.rmtree

    def killed(path: Path, **_: object) -> None:
        if path.exists():
            (path / "training.safetensors").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_checkpoint(checkpoint)
    assert run.checkpoints() == []
    monkeypatch.setattr(checkpoints.shutil, "rmtree", rmtree)
    run.clear_unfinished()
    assert list(run.checkpoints_dir.iterdir()) == []


def test_damage_is_one_clear_message(tmp_path: Path) -> None:
    run, model = make(tmp_path, GPT2)
    checkpoint = written(run, 1, model, {}, {})
    weights = checkpoint.path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:100], b"\xff" * 200, (1 << 40).to_bytes(8, "little") + b"{}", whole[:-1]):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors: is damaged"):
            load_for_generation(run, checkpoint)
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: is missing"):
        load_for_generation(run, checkpoint)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    run, model = make(tmp_path, GPT2)
    checkpoint = written(run, 1, model, {}, {})
    tensors = load_file(checkpoint.path / "model.safetensors")
    tensors["transformer.wte.weight"] = torch.zeros(9, 16)
    _saved(tmp_path, tensors).replace(checkpoint.path / "model.safetensors")
    with pytest.raises(UserError, match="does not fit the configuration"):
        load_for_generation(run, checkpoint)


def test_a_newer_versions_training_state_is_refused(tmp_path: Path) -> None:
    run, model = make(tmp_path, GPT2)
    checkpoint = written(run, 1, model, {}, {})
    (checkpoint.path / "checkpoint.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(NewerVersionError, match="newer version"):
        read_training_state(checkpoint, model)


def _saved(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "other.safetensors"
    save_file(tensors, path)
    return path
