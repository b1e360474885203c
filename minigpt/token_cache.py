"""The ids of a large corpus: encoded once, by all cores, into a file of the user's cache that is mapped into memory.

A file is named after the text and the tokenizer, and has its name only when all of it is on the disk. Until then it is
KEY.tmp, locked by the process that writes it: whoever wants the same ids waits, and what nobody has locked was left
behind by a process that was killed.
"""

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from minigpt.bpe import SEGMENT, segments
from minigpt.corpus import Corpus, Survey
from minigpt.errors import UserError
from minigpt.files import sync_path
from minigpt.inert import inert_line
from minigpt.known_files import Progress
from minigpt.paths import cache_dir
from minigpt.tokenizer import Tokenizer

_FORMAT = 1  # part of each name: another one when the same text and tokenizer would give other ids

Ids = NDArray[np.integer]


def tokens_dir() -> Path:
    """Where the ids of large corpora lie, in .npy files; deleting one costs the time to encode its corpus again."""
    return cache_dir() / "tokens"


def smallest_type(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    """The smallest type that holds the ids of a tokenizer."""
    return np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32


def encode_corpus(corpus: Corpus, survey: Survey, tokenizer: Tokenizer, progress: Progress) -> Iterator[Ids]:
    """The ids of a corpus in order, part by part, in the smallest type that holds them.

    Threads encode it: tiktoken releases the GIL, and a process with torch's threads must not fork. A few parts at a
    time are in memory. Raises UserError if the corpus is no longer what was surveyed.
    """
    dtype = smallest_type(tokenizer)

    def encode(segment: str) -> Ids:
        return tokenizer.encode(segment).astype(dtype)

    digest = hashlib.sha256()
    characters = 0
    for segment, ids in _in_parallel(encode, segments(corpus.pieces(), SEGMENT)):
        digest.update(segment.encode("utf-8"))
        characters += len(segment)
        progress(f"encoding the corpus: {characters / survey.characters:.0%} of {survey.bytes / 1e6:.1f} MB")
        yield ids
    if digest.hexdigest() != survey.sha256:
        raise UserError(f"{inert_line(corpus.name)}: was changed while it was being read; start again")


def cached_ids(
    corpus: Corpus, survey: Survey, tokenizer: Tokenizer, progress: Progress, notice: Callable[[str], None]
) -> Ids:
    """The ids of a large corpus, mapped from the cache, where they are put first if they are not there.

    If the cache cannot be written, `notice` is told, and they are put in a temporary file that vanishes with the
    process. Raises UserError if that is impossible too, or the corpus cannot be used.
    """
    name = json.dumps([_FORMAT, survey.sha256, tokenizer.to_json()])
    final = tokens_dir() / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.npy"
    dtype = smallest_type(tokenizer)

    def write(file: BinaryIO) -> None:
        _write(file, dtype, encode_corpus(corpus, survey, tokenizer, progress))

    try:
        return _kept(final, write, progress, tokenizer.vocab_size)
    except OSError as error:
        why = f"{inert_line(str(tokens_dir()))}: {error.strerror or error}"
    notice(f"the encoded corpus cannot be kept ({why}): it is in a temporary file, and the next run encodes it again")
    try:
        with tempfile.TemporaryFile() as file:
            write(file)
            return _mapped(file)
    except OSError as error:
        most = survey.bytes * dtype().itemsize / 1e6
        raise UserError(
            f"{inert_line(corpus.name)}: no room for its tokens, which take up to {most:,.0f} MB.\n  {why}\n"
            f"  {inert_line(tempfile.gettempdir())}: {error.strerror or error}\n"
            "  Free some space, or set TMPDIR to a directory that has it."
        ) from None


def _in_parallel(encode: Callable[[str], Ids], texts: Iterable[str]) -> Iterator[tuple[str, Ids]]:
    workers = min(16, os.cpu_count() or 1)
    waiting: deque[tuple[str, Future[Ids]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="encode") as pool:
        try:
            for text in texts:
                waiting.append((text, pool.submit(encode, text)))
                if len(waiting) > 2 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _kept(final: Path, write: Callable[[BinaryIO], None], progress: Progress, vocab_size: int) -> Ids:
    unfinished = final.with_suffix(".tmp")
    while True:
        with suppress(FileNotFoundError):
            try:
                with final.open("rb") as kept:
                    ids = _mapped(kept)
                if len(ids) and int(ids.max()) >= vocab_size:
                    raise ValueError("no ids of this vocabulary")
                return ids
            except ValueError:
                final.unlink()  # damaged: it is made anew
        final.parent.mkdir(parents=True, exist_ok=True)
        for other in final.parent.glob("*.tmp"):
            if other != unfinished and (stale := _claim(other)):
                other.unlink()
                stale.close()
        file = _claim(unfinished)
        if file is None:
            progress("waiting for another process that encodes the same corpus")
            time.sleep(0.1)
            continue
        with file:
            try:
                if not final.exists():  # the other process may have come to its end just now
                    file.truncate(0)
                    write(file)
                    os.fsync(file.fileno())
                    unfinished.rename(final)
                    sync_path(final.parent)
                    return _mapped(file)
            finally:
                unfinished.unlink(missing_ok=True)


def _claim(path: Path) -> BinaryIO | None:
    # The file, locked; None if another process has locked it, or has just renamed or removed it.
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _write(file: BinaryIO, dtype: type[np.unsignedinteger], parts: Iterator[Ids]) -> None:
    # The header comes first and the length is known last: numpy's leaves room for any length.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    count = 0
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count,)})
    for part in parts:
        file.write(part.data)
        count += len(part)
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count,)})
    file.flush()


def _mapped(file: BinaryIO) -> Ids:
    # Raises ValueError if it is no array of ids, or shorter than its header says.
    file.seek(0)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not as we write it")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 1 or dtype.kind != "u":
        raise ValueError("no ids")
    # As a plain array: a memmap hands its class on to whatever is taken from it.
    return np.asarray(np.memmap(file, dtype=dtype, mode="r", offset=file.tell(), shape=shape))
