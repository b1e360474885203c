"""A run's directory as a whole: how much room it takes, another name for it, and its end."""

import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minigpt.errors import UserError
from minigpt.files import read_limited, write_atomically
from minigpt.inert import inert_line
from minigpt.run_name import NAMES, is_name
from minigpt.rundir import RunDirectory

_MOST_ENTRIES = 200_000
_PATIENCE = 1.0  # seconds
_DELETED = re.compile(r"\.[0-9a-f]{16}\.deleted")
_NAME_LINE = re.compile(r"""(?m)^(name[ \t]*=[ \t]*)("[^"\\\n]*"|'[^'\n]*')""")


def size_on_disk(run: RunDirectory) -> int:
    """How many bytes the run takes on the disk; of a link, those of the link. What cannot be read counts nothing."""
    size = 0
    seen: set[tuple[int, int]] = set()
    waiting = [] if run.path.is_symlink() else [run.path]
    while waiting and len(seen) < _MOST_ENTRIES:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if (status.st_dev, status.st_ino) in seen:
                    continue  # a second name of the same file
                seen.add((status.st_dev, status.st_ino))
                size += status.st_blocks * 512  # not its length: a file with holes may claim a terabyte
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(Path(entry.path))
    return size


def require_free_name(run: RunDirectory, name: str) -> None:
    """Raise UserError if a run may not be called so, or if what lies beside this one is."""
    shown = inert_line(name)
    if not is_name(name):
        raise UserError(f"{shown or 'an empty name'}: is no name for a run: {NAMES}")
    if os.path.lexists(run.path.with_name(name)):
        raise UserError(f"{shown}: there is something of that name already; choose another one")


def rename_run(run: RunDirectory, name: str) -> RunDirectory:
    """Give a run that nobody trains another name, in its configuration too if one stands there.

    Of a run that is a link only the link gets the name. Raises UserError, and then nothing is changed.
    """
    require_free_name(run, name)
    old, target = inert_line(run.name), run.path.with_name(name)
    try:
        if run.path.is_symlink():
            _require_nobody_trains(run, "renamed")
            target.symlink_to(run.path.readlink())  # unlike a rename it replaces nothing
            run.path.unlink()
            return RunDirectory(target)
        with _held(run, "renamed"):
            run.path.rename(target)
            try:
                _rename_in_config(RunDirectory(target), name)
            except OSError:
                target.rename(run.path)
                raise
    except FileNotFoundError:
        raise UserError(f"{old}: is not there any more") from None
    except OSError as error:
        raise UserError(f"{old}: cannot be renamed: {error.strerror}") from None
    return RunDirectory(target)


def delete_run(run: RunDirectory) -> None:
    """Remove a run that nobody trains, with all its checkpoints. Of a run that is a link only the link is removed.

    It vanishes from the list first, by a rename, so that half of it is never found there. Raises UserError: nothing is
    removed then, or the message says where the rest lies.
    """
    shown = inert_line(run.name)
    try:
        if run.path.is_symlink():
            _require_nobody_trains(run, "deleted")
            run.path.unlink()
            return
        if not run.config_file.is_file():
            raise UserError(f"{shown}: holds no run any more; nothing was deleted")
        with _held(run, "deleted"):
            _require_removable(run.path)
            rest = run.path.with_name(f".{os.urandom(8).hex()}.deleted")
            run.path.rename(rest)
    except FileNotFoundError:
        raise UserError(f"{shown}: is not there any more") from None
    except OSError as error:
        raise UserError(f"{shown}: cannot be deleted: {error.strerror}") from None
    try:
        shutil.rmtree(rest)
    except OSError as error:
        if os.path.lexists(rest):  # and another process has not swept it meanwhile
            raise UserError(
                f"{shown}: is not listed any more, but a part of it could not be removed: {error.strerror}. "
                f"It lies in {inert_line(str(rest))}"
            ) from None
    _sweep(rest.parent)


def _sweep(directory: Path) -> None:
    """Remove what is left of runs whose deletion was killed."""
    with suppress(OSError):
        for path in directory.iterdir():
            if _DELETED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)  # which follows no link


def _rename_in_config(run: RunDirectory, name: str) -> None:
    import tomli

    # The text is changed and not written anew from what it means: a newer version's keys and a user's comments stay.
    try:
        text = read_limited(run.config_file, 1 << 20).decode()
        before = tomli.loads(text)
        if not before["run"]["name"]:
            return
        begin = re.search(r"(?m)^\[run\]", text)
        changed = _NAME_LINE.sub(rf'\g<1>"{name}"', text[begin.start() :], count=1) if begin else ""
        after = tomli.loads(text[: begin.start()] + changed) if begin else {}
        before["run"]["name"] = name
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return  # damaged, or without a name: what it is called is its directory's name
    if begin and after == before:
        write_atomically(run.config_file, text[: begin.start()] + changed)


def _require_removable(path: Path) -> None:
    # Found out before anything is removed: a directory that somebody has protected is to stay with all around it.
    waiting = [path.parent, path]
    while waiting:
        directory = waiting.pop()
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{inert_line(directory.name)} is write-protected", str(directory))
        if directory == path.parent:
            continue
        with os.scandir(directory) as entries:
            waiting += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _require_nobody_trains(run: RunDirectory, done: str) -> None:
    if run.is_live():
        raise UserError(f"{inert_line(run.name)}: is being trained, and cannot be {done} meanwhile. Stop it first.")


@contextmanager
def _held(run: RunDirectory, done: str) -> Iterator[None]:
    """Keep trainers away from a run, also from one in which so many things are wrong that it could not be trained."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(run.lock_file, flags, 0o600)
    except OSError as error:
        # In the place of the lock lies what no trainer takes for one.
        if error.errno not in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise
        yield
        return
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:  # a viewer asking `is_live` holds it for microseconds
                    _require_nobody_trains(run, done)
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
