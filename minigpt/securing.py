"""Before a run is written to: nothing of it may lead out of its directory, nor be open to other users' commands."""

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.inert import inert_line

if TYPE_CHECKING:
    from minigpt.rundir import RunDirectory


def secure(run: "RunDirectory") -> None:
    """Raise UserError if a file or directory that a training writes to is a link, or of another kind.

    A run may come from a stranger, and what is appended, taken or pruned through a link would be somebody's own files.
    Where others may write to a run's directory or to its commands/, that right is taken from them.
    """
    directories = (run.checkpoints_dir, run.commands_dir, run.chat_dir, run.evaluations_dir)
    files = (run.metrics_file, run.events_file, run.samples_file, run.lock_file, run.console_file, run.best_file)
    kinds = [
        *((path, stat.S_ISDIR, "directory") for path in directories),
        *((path, stat.S_ISREG, "file") for path in files),
    ]
    for path, is_kind, kind in kinds:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror}") from None
        if stat.S_ISLNK(mode):
            raise UserError(
                f"{inert_line(str(path))}: is a link. A run is written to only inside of its own directory: "
                f"put the {kind} itself there instead."
            )
        if not is_kind(mode):
            raise UserError(f"{inert_line(str(path))}: is no {kind}, as it has to be for the run to go on")
    for path in (run.path, run.commands_dir):
        with suppress(OSError):  # missing, or not ours: then its owner decides
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o022:
                path.chmod(mode & ~0o022)
