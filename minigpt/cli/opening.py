"""The run, checkpoint and device that a command line means, and the model there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from minigpt.errors import UnknownCharactersError, UserError
from minigpt.inert import inert_line
from minigpt.journal import count_in
from minigpt.paths import expand_home
from minigpt.rundir import Checkpoint, RunDirectory

if TYPE_CHECKING:
    from minigpt.device import Device
    from minigpt.model import GPT
    from minigpt.tokenizer import Tokenizer


def named_device(kind: Literal["auto", "cpu", "cuda", "mps"], precision: Any = "auto") -> "Device":
    """The device that `--device` means. Raises UserError if it is not here."""
    from minigpt.config import DeviceConfig
    from minigpt.device import choose_device

    try:
        return choose_device(DeviceConfig(type=kind, precision=precision))
    except UserError as error:
        raise UserError(
            str(error).replace("device.type = ", "--device ").replace("--device.type", "--device")
        ) from None


def open_model(run: RunDirectory, which: str, device: str) -> "tuple[Checkpoint, GPT, Tokenizer]":
    """The model of the checkpoint that `which` means: last, best, a step, or a path. Raises UserError without one."""
    from minigpt.checkpoint import load_for_generation, load_named

    if not _is_path(which):
        return load_named(run, which, device)
    checkpoint = _checkpoint_at(which)
    return checkpoint, *load_for_generation(run, checkpoint, device)


@contextmanager
def saying_how_to_go_on() -> Iterator[None]:
    """Let a refusal of unknown characters say how the command line has them replaced or dropped."""
    try:
        yield
    except UnknownCharactersError as error:
        how = "They can be replaced (--unknown replace) or dropped (--unknown drop)."
        raise UserError(f"{error}\n  {how}") from None


def named_run(name: str | None, which: str, usage: str) -> RunDirectory:
    """The run of that name or path; without one, that which the path of a checkpoint is in."""
    inside = _run_around(_checkpoint_at(which)) if _is_path(which) else None
    if name is None:
        if inside is None:
            what = "which run? " if not _is_path(which) else f"{inert_line(which)}: is not inside a run; "
            raise UserError(f"{what}{usage}; `minigpt runs` lists the runs")
        return inside
    run = RunDirectory.open(name)
    if inside is not None and inside.path.resolve() != run.path.resolve():
        raise UserError(
            f"--checkpoint {inert_line(which)}: belongs to the run {inert_line(inside.name)}, not to {inert_line(name)}"
        )
    return run


def _is_path(which: str) -> bool:
    return os.sep in which


def _checkpoint_at(which: str) -> Checkpoint:
    path = expand_home(which).absolute()
    shown = f"--checkpoint {inert_line(which)}"
    if path.name == "model.safetensors":
        path = path.parent
    try:
        if not path.is_dir():
            raise UserError(f"{shown}: no such directory; a checkpoint's is RUN/checkpoints/step-00000500")
        if not (path / "model.safetensors").is_file():
            raise UserError(f"{shown}: holds no checkpoint (there is no model.safetensors in it)")
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from None
    return Checkpoint(count_in(Checkpoint(0, path).info(), "step") or 0, path)


def _run_around(checkpoint: Checkpoint) -> RunDirectory | None:
    run = checkpoint.path.resolve().parent.parent
    return RunDirectory(run) if (run / "config.toml").is_file() else None
