"""The one place that knows how a file appears whole or not at all, and how one that anybody may have made is opened."""

import errno
import io
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes | Iterable[bytes | memoryview], *, mode: int = 0o666) -> None:
    """Write `content`, or its pieces, to `path` so that a reader sees the old file or the new one, also after a crash.

    `mode` are its permissions, less the umask. Raises OSError; the old file is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Make what was written to a file durable, or to a directory: without it a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file of a run for reading: a regular one, that lies in the directory where its name is.

    A run may come from a stranger. Opening a pipe would wait for ever, a device never ends, and a link may lead to
    whatever the reader has. Raises OSError, whose `strerror` says so.
    """
    real = os.path.realpath(path, strict=True)
    if Path(real).parent != Path(os.path.realpath(path.parent)):
        raise OSError(errno.ELOOP, "is a link that leads out of its directory", str(path))
    _require_regular(os.lstat(real).st_mode, path)
    # Without O_NONBLOCK a pipe that has just taken the file's place would still be waited for.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))


def read_limited(path: Path, limit: int) -> bytes:
    """The content of a file of a run, of at most `limit` bytes. Raises OSError for a larger one too."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit:,} bytes", str(path))
    return data


def is_unfit(error: OSError) -> bool:
    """Whether a file is missing or of a wrong kind or size, and not only out of reach, as on a disk that fails."""
    return error.errno in {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.EINVAL,  # of `open_regular`: a pipe, a device
        errno.EFBIG,
    }


def read_json(path: Path, limit: int = 1 << 20) -> dict[str, Any]:
    """The object in a small JSON file of a run; empty if there is none, or it cannot be read."""
    try:
        value = json.loads(read_limited(path, limit))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
