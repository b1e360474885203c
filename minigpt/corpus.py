"""The text to learn from: a file, a folder or a glob of the user's, or a corpus known by name.

A folder stands for the text files in and below it, hidden ones and runs aside, in the order of their paths; a glob for
those that it matches, runs aside. They are read one after the other, as they stand; where one does not end with a
newline, one is put between it and the next. A text is never needed in memory as a whole: `Corpus.pieces` reads it piece
by piece.
"""

import codecs
import glob
import hashlib
import importlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.known_files import Progress, is_file, read_known

if TYPE_CHECKING:
    from minigpt.config import Config

KNOWN_CORPORA = read_known("corpora.toml")

_CHUNK = 1 << 20  # bytes read at once
_HEAD = 8192  # bytes looked at to tell a text from other files


@dataclass(frozen=True)
class Survey:
    """What one reading of a whole corpus tells."""

    sha256: str
    """Of its text in UTF-8."""
    characters: int
    bytes: int
    """Length of its text in UTF-8."""
    alphabet: list[str]
    """Its distinct characters by code point."""


@dataclass(frozen=True)
class Corpus:
    """A text that is read when it is needed, and where it comes from."""

    name: str
    files: tuple[Path, ...] = ()
    given: str = ""
    """The text itself, where it is in no file."""
    left_out: tuple[str, ...] = ()
    """Names of the files that are no text."""

    def pieces(self) -> Iterator[str]:
        """The text in order, in pieces of about a million bytes. Raises UserError if a file cannot be used."""
        if self.given:
            yield self.given
        last = ""
        for path in self.files:
            for number, piece in enumerate(_read_pieces(path)):
                if number == 0 and last and not last.endswith("\n"):
                    yield "\n"
                yield piece
                last = piece

    @property
    def text(self) -> str:
        """The whole text, for a corpus that is known to be small."""
        return "".join(self.pieces())

    def survey(self, progress: Progress = lambda _: None) -> Survey:
        """Read all of it once. Raises UserError if it cannot be used or is empty."""
        import numpy as np

        total = sum(_size(path) for path in self.files)
        digest = hashlib.sha256()
        characters = size = 0
        seen = np.zeros(0x110000, dtype=np.bool_)
        for piece in self.pieces():
            data = piece.encode("utf-8")
            digest.update(data)
            characters += len(piece)
            size += len(data)
            seen[np.frombuffer(piece.encode("utf-32-le"), dtype=np.uint32)] = True
            progress(f"reading the corpus: {size / 1e6:.1f} of {max(total, size) / 1e6:.1f} MB")
        alphabet = [chr(point) for point in np.flatnonzero(seen)]
        if all(map(str.isspace, alphabet)):
            raise UserError(_is_empty(self.files[0] if len(self.files) == 1 else Path(self.name)))
        return Survey(digest.hexdigest(), characters, size, alphabet)


def load_corpus(name: str, progress: Progress = lambda _: None) -> Corpus:
    """Find the corpus that `data.corpus` names, downloading a known one at need; it is not read yet.

    `progress` is told in words how it goes. Raises UserError if there is no such text.
    """
    if known := KNOWN_CORPORA.get(name):
        return _python_docs() if known.module else Corpus(name, (known.find(progress),))
    path = Path(name)
    try:
        if path.is_dir():
            return _of_many(path.resolve().name or name, path, _below(path, progress), progress)
        if not is_file(path) and glob.has_magic(name) and not path.exists():
            found = map(Path, glob.iglob(name, recursive=True))  # noqa: PTH207 - takes no absolute one
            matching = [file for file in found if is_file(file) and not any(map(_is_run, file.parents))]
            # Named from the last folder on that is no pattern.
            first = next(place for place, part in enumerate(path.parts) if glob.has_magic(part))
            return _of_many("/".join(path.parts[max(0, first - 1) :]), path, matching, progress)
        if path.exists() and not path.is_file():
            # A text is read several times; and opening a pipe without a writer would wait for ever.
            raise UserError(f"{inert_line(str(path))}: is a pipe or a device; save the text to a file first")
    except OSError as error:
        raise UserError(f"{inert_line(error.filename or name)}: cannot be read: {error.strerror}") from None
    return Corpus(path.name, (path,))


def corpus_is_local(name: str) -> bool:
    """Whether the corpus can be read without a download."""
    if known := KNOWN_CORPORA.get(name):
        return known.is_here()
    try:
        return is_file(Path(name)) or Path(name).is_dir() or (glob.has_magic(name) and any(glob.iglob(name)))  # noqa: PTH207
    except OSError:
        return False


def vocab_size_of(config: "Config") -> int:
    """How many tokens the configuration's vocabulary has, without downloading anything for it.

    What `bpe` will learn is not known before: its greatest size is taken. Raises UserError if the corpus is unusable.
    """
    match config.data.tokenizer:
        case "byte":
            return 256
        case "bpe":
            return config.data.bpe_vocab_size
        case "gpt2":
            return read_known("vocabularies.toml")["gpt2"].vocab_size
    name = config.data.corpus
    known = KNOWN_CORPORA.get(name)
    if known and known.vocab_size and not known.is_here():
        return known.vocab_size
    return len(load_corpus(name).survey().alphabet)


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, a byte order mark aside. Raises UserError that says what is wrong with it."""
    text = "".join(_read_pieces(path))
    if not text.strip():
        raise UserError(_is_empty(path))
    return text


# ── folders and globs ─────────────────────────────────────────────────────────────────────────────────────────────


def _below(folder: Path, progress: Progress) -> list[Path]:
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=refuse):
        # Runs belong to the program: with each row that one writes the text would be another.
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_run(Path(root, name))]
        paths = (Path(root, name) for name in names if not name.startswith("."))
        found += filter(is_file, paths)
        progress(f"looking for texts: {len(found)} files")
    return found


@cache
def _is_run(folder: Path) -> bool:
    return is_file(folder / "config.toml") and (folder / "checkpoints").is_dir()


def _of_many(name: str, path: Path, found: list[Path], progress: Progress) -> Corpus:
    texts: list[Path] = []
    others: list[str] = []
    for number, file in enumerate(sorted(found, key=lambda file: file.parts), start=1):
        with _reading(file), file.open("rb") as opened:
            head = opened.read(_HEAD)
        if _is_text(head):
            texts.append(file)
        else:
            others.append(file.name)
        progress(f"looking at the files: {number} of {len(found)}")
    if not texts:
        what = "has no text file in it" if path.is_dir() else "matches no text file"
        but = f", only {_named(others)}" if others else ""
        raise UserError(f"{inert_line(str(path))}: {what}{but}. Known corpora: {', '.join(KNOWN_CORPORA)}.")
    return Corpus(name, tuple(texts), left_out=tuple(others))


def _is_text(head: bytes) -> bool:
    # Other encodings than UTF-8 count as text: a file left out for its encoding would be missed. Reading refuses them.
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    return b"\0" not in head and not head.startswith((b"%PDF-", b"\x1f\x8b"))


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(inert_line(name, 60) for name in names[:3]) + more


def left_out_notice(corpus: Corpus) -> str:
    """One line about the files of a folder that are no text; empty if there are none."""
    return f"left out of {inert_line(corpus.name)}: {_named(list(corpus.left_out))}: no text" if corpus.left_out else ""


# ── one file ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_pieces(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = lines = 0  # what lies before the decoder's input, in bytes and in lines
    with _reading(path), path.open("rb") as file:
        chunk = file.read(_CHUNK)
        if chunk.startswith(codecs.BOM_UTF8):
            before = len(codecs.BOM_UTF8)
            chunk = chunk[before:]
        encoded = "utf-16" if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin1"
        while True:
            try:
                piece = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                data = error.object  # with what the decoder had kept of the chunk before
                position = before + len(chunk) - len(data) + error.start
                line = lines + data.count(b"\n", 0, error.start) + 1
                raise UserError(
                    f"{inert_line(str(path))}: is not UTF-8 text: byte 0x{data[error.start]:02x} at position "
                    f"{position} (line {line}). Convert it, for example: iconv -f {encoded} -t utf-8 FILE > NEW"
                ) from None
            if piece:
                yield piece
            if not chunk:
                return
            before += len(chunk)
            lines += chunk.count(b"\n")
            chunk = file.read(_CHUNK)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    shown = inert_line(str(path))
    try:
        yield
    except FileNotFoundError:
        names = ", ".join(KNOWN_CORPORA)
        raise UserError(f"{shown}: no such text file. Known corpora: {names}.") from None
    except IsADirectoryError:
        raise UserError(f"{shown}: is a directory, where a text file is needed") from None
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from None


def _is_empty(path: Path) -> str:
    return f"{inert_line(str(path))}: is empty; a model needs text to learn from"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reading says what is wrong
        return 0


# ── the documentation that comes with Python ──────────────────────────────────────────────────────────────────────


def _python_docs() -> Corpus:
    known = KNOWN_CORPORA["python-docs"]
    version = platform.python_version()
    try:
        topics: dict[str, str] = importlib.import_module(known.module).topics
    except (ImportError, AttributeError):
        raise UserError(
            f"{known.name}: this Python ({version}) came without its documentation ({known.module}). Take another "
            f"corpus, or another Python."
        ) from None
    text = "\n\n".join(topics[topic].strip("\n") + "\n" for topic in sorted(topics))
    return Corpus(f"{known.name} (Python {version})", given=text)
