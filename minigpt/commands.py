"""What a viewer asks of the trainer: one small file each in commands/, taken in the order of their names."""

import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from minigpt.files import read_json, write_atomically

CommandName = Literal["pause", "resume", "save", "sample", "stop"]

_NAMES: tuple[str, ...] = get_args(CommandName)


@dataclass(frozen=True)
class Command:
    """One request; `id` comes back in the event with which the trainer answers."""

    id: str
    name: CommandName


def send_command(directory: Path, name: CommandName) -> str:
    """Leave a command for the trainer and return its id. Raises OSError if the directory cannot be written."""
    if directory.is_symlink():  # a stranger's run must not have files written elsewhere
        raise OSError(errno.ELOOP, f"{directory.name} is a link", str(directory))
    # Ordered by time, unique by chance: several viewers may ask in the same nanosecond.
    identity = f"{time.time_ns():020d}-{os.urandom(3).hex()}"
    write_atomically(directory / f"{identity}.json", json.dumps({"command": name}))
    return identity


def take_commands(directory: Path) -> list[Command]:
    """Remove and return the waiting commands, oldest first; what is no command is removed and ignored."""
    taken = []
    try:
        names = sorted(path.name for path in directory.glob("[!.]*.json"))
    except OSError:
        return []
    for name in names:
        path = directory / name
        value = {} if path.is_symlink() else read_json(path, 4096)
        try:
            path.unlink()
        except OSError:
            continue
        command = value.get("command")
        if command in _NAMES:
            taken.append(Command(name.removesuffix(".json"), command))
    return taken
