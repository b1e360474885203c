"""Device, precision and threads: the one place that decides about them, by fixed rules and never by a measurement."""

import gc
import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from minigpt.config import DeviceConfig
from minigpt.errors import UserError


@dataclass(frozen=True)
class Device:
    """Where a run computes, and in which precision its matrix products are."""

    type: str
    name: str
    precision: str
    uuid: str | None = None
    """Which GPU it is; NVML counts GPUs otherwise than CUDA does, and only this tells them apart."""

    def autocast(self) -> AbstractContextManager[object]:
        """The context for forward passes: products in half precision over float32 weights, or nothing."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.type, dtype=torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """What keeps small gradients from vanishing in fp16 (Micikevicius et al. 2018); for others it does nothing."""
        return torch.amp.GradScaler(self.type, enabled=self.precision == "fp16")


def choose_device(config: DeviceConfig) -> Device:
    """Apply the rules to this machine. Raises UserError if what was asked for is not here."""
    kind = config.type
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif kind == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device.type = cuda: torch sees no CUDA device. Check the driver (nvidia-smi) and that torch is a CUDA "
            f"build, or use --device.type cpu. This torch is {torch.__version__}."
        )
    elif kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device.type = mps: torch sees no Apple GPU. Use --device.type cpu.")
    precision = config.precision
    # torch.cuda.is_bf16_supported() says yes on a T4 too, where bf16 is emulated and slow: the capability decides.
    has_bf16 = kind == "cpu" or (kind == "cuda" and torch.cuda.get_device_capability() >= (8, 0))
    if precision == "auto":
        precision = "float32" if kind != "cuda" else "bf16" if has_bf16 else "fp16"
    elif precision == "bf16" and not has_bf16:
        alternative = "fp16" if kind == "cuda" else "float32"
        raise UserError(f"device.precision = bf16: the {kind} device has none. Use --device.precision {alternative}.")
    elif precision == "fp16" and kind == "mps":
        raise UserError("device.precision = fp16: not on the mps device. Use --device.precision float32.")
    if kind != "cuda":
        return Device(kind, platform.machine(), precision)
    properties = torch.cuda.get_device_properties()
    return Device(kind, properties.name, precision, f"GPU-{properties.uuid}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device, or the host, has no memory left for a tensor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator and MPS raise a RuntimeError like any other; only their words tell.
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def free_memory(device: str) -> None:
    """Give back to the device what torch holds but nothing uses any more."""
    gc.collect()  # a training's parts refer to each other: to let go of them frees nothing by itself
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


# Before anybody set it: the setting is the process's, and an earlier run in the same window may have changed it.
_DEFAULT_THREADS = torch.get_num_threads()


def configure_threads(config: DeviceConfig) -> int:
    """Set torch's CPU threads, once, before the training starts, and return their number.

    Called by nobody else in a process that may train: a change of threads during a run changes the order of sums, and
    with it the run.
    """
    torch.set_num_threads(config.threads or _DEFAULT_THREADS)
    return torch.get_num_threads()
