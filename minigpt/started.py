"""What the event `started` says of a training, for viewers that have neither torch nor the corpus."""

import os
from typing import Any

import torch

from minigpt.config import Config
from minigpt.dataset import TrainingData
from minigpt.device import Device
from minigpt.model import GPT
from minigpt.peak_flops import flops_per_token, peak_flops


def description(
    config: Config, data: TrainingData, device: Device, model: GPT, *, steps_per_epoch: float, threads: int
) -> dict[str, Any]:
    """The model, the corpus, the machine and the length, as values of the event."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    peak = peak_flops(device.name, device.precision)
    return {
        "parameters": parameters,
        "flops_per_token": flops_per_token(config.model, data.tokenizer.vocab_size, parameters),
        **({} if peak is None else {"peak_flops": peak}),
        "vocab_size": data.tokenizer.vocab_size,
        "tokenizer": config.data.tokenizer,
        "corpus": data.corpus,
        "corpus_characters": data.characters,
        "corpus_bytes": data.bytes,
        "train_tokens": len(data.train),
        "val_tokens": len(data.val),
        "device": device.type,
        "device_name": device.name,
        "device_uuid": device.uuid,
        "precision": device.precision,
        "compiled": config.device.compile,
        "threads": threads,
        "max_steps": config.train.max_steps,
        "max_minutes": config.train.max_minutes,
        "steps_per_epoch": steps_per_epoch,
        "torch": torch.__version__,
        "pid": os.getpid(),
    }
