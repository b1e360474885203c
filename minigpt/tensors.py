"""safetensors from anybody: what the header claims is compared with what is expected before anything is allocated."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from minigpt.device import is_out_of_memory
from minigpt.errors import UnreadableError, UserError
from minigpt.files import is_unfit, open_regular
from minigpt.inert import inert_line

Shape = tuple[int, ...]

_LARGEST_HEADER = 4 << 20  # bytes; the training state of the deepest model takes less
_WIDEST = 8  # bytes of a number


def read_tensors(path: Path, check: Callable[[dict[str, Shape]], None]) -> dict[str, Tensor]:
    """The tensors of a file, once `check` has let the shapes pass that its header names.

    Raises UserError if the file is missing or damaged, or has numbers in it that are not finite, UnreadableError if
    that cannot be told, and what `check` raises. The file is read and not mapped: one that is cut meanwhile must not
    take the process down.
    """
    shown = inert_line(str(path))
    try:
        return _read_tensors(path, check)
    except FileNotFoundError:
        raise UserError(f"{shown}: is missing") from None
    except OSError as error:
        kind = UserError if is_unfit(error) else UnreadableError
        raise kind(f"{shown}: cannot be read: {error.strerror or error}") from None
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AssertionError,
        RecursionError,
        RuntimeError,
        MemoryError,
    ) as error:
        if is_out_of_memory(error):
            raise UnreadableError(f"{shown}: cannot be read: there is not enough memory for it") from None
        raise UserError(f"{shown}: is damaged: {inert_line(str(error))}") from None


def _read_tensors(path: Path, check: Callable[[dict[str, Shape]], None]) -> dict[str, Tensor]:
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
            raise ValueError("it has no header")
        shapes = _shapes(json.loads(file.read(length)))
        check(shapes)
        if size - 8 - length > _WIDEST * sum(map(math.prod, shapes.values())):
            raise ValueError("it is larger than its header says")
        file.seek(0)
        read: dict[str, Tensor] = load(file.read(size))
    # Into memory of torch's own, which is aligned: sums must not depend on where a file was read to.
    tensors = {name: read.pop(name).clone() for name in list(read)}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:  # such as one named twice
        raise ValueError("its header can be read in two ways")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has numbers in it that are not finite")
    return tensors


def _shapes(header: Any) -> dict[str, Shape]:
    """Name and shape of each tensor. Raises ValueError where there is none."""
    if not isinstance(header, dict):
        raise ValueError("its header is no table")  # noqa: TRY004
    shapes = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**48 for size in shape):
            raise ValueError("its header does not describe tensors")
        shapes[name] = tuple(shape)
    return shapes
