"""Every choice of the configuration resumes exactly, those not yet thought of included.

The cases are made from the fields of the configuration: each value of each choice by itself. A new number or text needs
a line in OTHERWISE, and a test below fails until it has one.
"""

import shutil
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from safetensors.torch import load_file

from minigpt.config import Config
from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory
from tests.training import assert_same_run, resume, tiny_config, train, write_corpus

# What else must be set for a choice to make sense.
ALONG: dict[str, dict[str, Any]] = {
    "data.tokenizer=bpe": {"data.bpe_vocab_size": 300},
    "model.norm=rmsnorm": {"model.bias_norm": False},
    "model.norm_placement=post": {"model.final_norm": False},
    "model.bias_head=True": {"model.tie_weights": False},
    "train.max_epochs=2.5": {"train.max_steps": 0, "train.batch_size": 8},
    "train.patience=2": {"train.learning_rate": 3.0, "train.eval_interval": 4, "train.checkpoint_interval": 2},
    "train.max_steps=23": {"train.lr_schedule": "wsd"},
    "train.decay_fraction=0.9": {"train.lr_schedule": "wsd"},
    "train.momentum=0.5": {"train.optimizer": "sgd"},
}

# Another value than the tiny configuration's for what is no choice among a few. None: nothing that a training depends on,
# or what the tests of resuming vary anyway.
OTHERWISE: dict[str, Any] = {
    "run.name": None,
    "run.dir": None,
    "run.about": None,
    "data.corpus": None,
    "data.bpe_vocab_size": None,  # with data.tokenizer=bpe
    "data.val_fraction": 0.2,
    "model.n_layer": 2,
    "model.n_head": 4,
    "model.n_embd": 24,
    "model.n_inner": 40,
    "model.block_size": 12,
    "model.dropout": 0.0,
    "model.dropout_embd": 0.5,
    "model.dropout_attn": 0.5,
    "model.dropout_resid": 0.5,
    "train.batch_size": 3,
    "train.gradient_accumulation_steps": 3,
    "train.max_steps": 23,
    "train.max_epochs": 2.5,
    "train.max_minutes": None,  # the clock is exempt from the promise: tested by itself
    "train.learning_rate": 3e-2,
    "train.min_lr": 1e-3,
    "train.warmup_steps": 0,
    "train.decay_fraction": 0.9,
    "train.weight_decay": 0.5,
    "train.beta1": 0.5,
    "train.beta2": 0.9,
    "train.momentum": 0.5,
    "train.ema_decay": 0.9,
    "train.patience": 2,
    "train.grad_clip": 0.1,
    "train.seed": 2,
    "train.log_interval": 7,
    "train.eval_interval": 0,
    "train.train_eval_tokens": 64,
    "train.checkpoint_interval": 6,
    "train.keep_checkpoints": None,  # the cases keep all of them
    "train.keep_every": None,
    "train.max_recoveries": 1,
    "sample.interval": 9,
    "sample.prompt": "tide",
    "sample.max_new_tokens": 5,
    "sample.temperature": 0.0,
    "sample.top_k": 3,
    "sample.top_p": 0.5,
    "sample.seed": 9,
    "device.threads": 2,
}

# Not on this machine, or the vocabulary is not here: `device.type` is what the machine has.
ELSEWHERE = {"device.type", "data.tokenizer=gpt2", "device.precision=auto"}


def fields() -> dict[str, Any]:
    """Every dotted key with its type."""
    return {
        f"{section}.{name}": field.annotation
        for section, part in Config.model_fields.items()
        for name, field in part.annotation.model_fields.items()  # type: ignore[union-attr]
    }


def cases() -> dict[str, dict[str, Any]]:
    """One configuration for each value of each choice, and one for each other key."""
    found: dict[str, dict[str, Any]] = {}
    for key, kind in fields().items():
        if str(get_origin(kind)) == "typing.Literal":
            values: list[Any] = list(get_args(kind))
        elif kind is bool:
            values = [True, False]
        else:
            values = [value for value in (OTHERWISE.get(key),) if value is not None]
        for value in values:
            name = f"{key}={value}"
            if not {key, name} & ELSEWHERE:
                found[name] = {**ALONG.get(name, {}), key: value}
    # What interacts: averaged weights, two optimizers, pieces of a batch and shuffled epochs at once.
    found["everything"] = {
        "train.optimizer": "muon",
        "train.ema_decay": 0.9,
        "train.gradient_accumulation_steps": 2,
        "train.lr_schedule": "wsd",
        "data.batches": "epochs",
        "train.eval_interval": 0,
        "device.precision": "bf16",
    }
    return found


def test_every_key_of_the_configuration_has_a_case() -> None:
    """Guards against an option that is added and forgotten when a run is resumed."""
    open_kinds = (int, float, str)
    for key, kind in fields().items():
        plain = [part for part in (get_args(kind) if NoneType in get_args(kind) else (kind,)) if part is not NoneType]
        if str(get_origin(kind)) != "typing.Literal" and any(part in open_kinds and part is not bool for part in plain):
            assert key in OTHERWISE, f"{key}: give it another value in OTHERWISE, so that its resumption is tested"


def counted(run: RunDirectory) -> Row:
    """What the last checkpoint keeps in JSON: best loss, evaluations since, the scaler's state and the like."""
    return {name: value for name, value in run.checkpoint("last").info().items() if name not in {"attempt", "elapsed"}}


@pytest.mark.parametrize("case", cases())
def test_resumed_in_the_middle_it_is_the_run_never_interrupted(tmp_path: Path, case: str) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", 2000)
    changes: dict[str, dict[str, Any]] = {"train": {"keep_checkpoints": 100, "max_steps": 24}, "device": {"threads": 1}}
    for key, value in cases()[case].items():
        section, _, name = key.partition(".")
        changes.setdefault(section, {})[name] = value
    whole = train(tiny_config(corpus, tmp_path / "whole", **changes))
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    kept = cut.checkpoints()
    assert len(kept) > 2
    # Where patience is counted, between the first evaluation that was no better and the last.
    middle = kept[-2] if case == "train.patience=2" else kept[len(kept) // 2 - 1 if len(kept) > 3 else 1]
    assert 0 < middle.step < kept[-1].step
    for checkpoint in kept:
        if checkpoint.step > middle.step:
            shutil.rmtree(checkpoint.path)
    resume(cut)
    assert_same_run(whole, cut)
    assert whole.epochs_file.read_bytes() == cut.epochs_file.read_bytes()
    assert counted(whole) == counted(cut)
    finished = [
        [row for row in read_journal(run.events_file) if row["event"] == "finished"][-1] for run in (whole, cut)
    ]
    assert finished[0]["reason"] == finished[1]["reason"]
    assert "_orig_mod" not in "".join(
        load_file(cut.checkpoint("last").path / "model.safetensors")
    )  # a compiled model's
    if case == "train.patience=2":
        assert finished[0]["reason"] == "patience"
