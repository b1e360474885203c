"""Whether a machine can hold a model at all, asked before anything is built: a configuration may claim any size."""

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.estimate import estimate_memory, fitting_accumulation

_GIB = 1 << 30


def memory_of(device_type: str) -> int:
    """Bytes of memory of the GPU, or else of the machine, swap included."""
    if device_type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[1])
    import psutil

    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


def require_memory(config: Config, vocab_size: int, device_type: str, precision: str) -> None:
    """Raise UserError if a training can never fit the device: it says how much it needs and what there is.

    On a GPU, which says itself when it is full, and where pieces of the batch can then be made smaller, only a training
    is refused that would not fit one sequence at a time.
    """
    there_is = memory_of(device_type)
    asked = config
    if device_type != "cpu":
        train = config.train.model_copy(update={"gradient_accumulation_steps": config.train.batch_size})
        asked = config.model_copy(update={"train": train})
    needed = estimate_memory(asked, vocab_size, device_type, precision).needed
    if needed <= there_is:
        return
    pieces = fitting_accumulation(config, vocab_size, device_type, precision, there_is)
    way_out = (
        f"--train.gradient-accumulation-steps {pieces} computes the batch in smaller pieces"
        if pieces
        else "take a smaller model (model.n_embd, n_layer, block_size) or a smaller vocabulary"
    )
    raise UserError(f"this training {_too_large(needed, there_is, device_type)}: {way_out}")


def require_memory_to_generate(config: Config, vocab_size: int, device_type: str) -> None:
    """Raise UserError if the model can never fit the device for writing text."""
    needed = estimate_memory(config, vocab_size, device_type, "float32").generation.total
    if needed > (there_is := memory_of(device_type)):
        raise UserError(f"this model {_too_large(needed, there_is, device_type)}")


def _too_large(needed: int, there_is: int, device_type: str) -> str:
    where = "the machine" if device_type == "cpu" else f"the {device_type} device"
    return f"needs {needed / _GIB:,.1f} GiB of memory, and {where} has {there_is / _GIB:,.1f}"
