"""What lies in a folder, and how a file begins: for choosing a text. Free of Textual."""

import codecs
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt.errors import UserError

PREVIEWED = 1 << 16  # bytes of a file that are looked at
COUNTED = 1 << 24  # bytes up to which a file is read whole to count its characters
_MOST_ENTRIES = 100_000

Kind = Literal["folder", "file", "other", "broken"]


@dataclass(frozen=True)
class Entry:
    """One name in a folder; links are followed."""

    name: str
    kind: Kind
    size: int = 0
    """Bytes of a file."""
    modified: float = 0.0
    is_link: bool = False

    @property
    def is_hidden(self) -> bool:
        return self.name.startswith(".")


@dataclass(frozen=True)
class Folder:
    """A folder as it was read; `problem` says why it could not be."""

    path: Path
    entries: tuple[Entry, ...] = ()
    """Folders first, then by name."""
    problem: str = ""


def read_folder(path: Path) -> Folder:
    """What lies in a folder. May take a while, on a network for example."""
    entries: list[Entry] = []
    problem = ""
    try:
        with os.scandir(path) as found:
            for entry in found:
                if len(entries) == _MOST_ENTRIES:
                    problem = f"only {_MOST_ENTRIES:,} of its entries are shown"
                    break
                entries.append(_entry(entry))
    except (OSError, ValueError) as error:
        return Folder(path, problem=f"cannot be read: {getattr(error, 'strerror', None) or error}")
    entries.sort(key=lambda entry: (entry.kind != "folder", entry.name.casefold(), entry.name))
    return Folder(path, tuple(entries), problem)


def _entry(entry: "os.DirEntry[str]") -> Entry:
    is_link = entry.is_symlink()
    try:
        status = entry.stat()
    except OSError:  # a link that leads nowhere or in a circle, or a folder in which nothing may be asked
        return Entry(entry.name, "broken", is_link=is_link)
    if stat.S_ISDIR(status.st_mode):
        return Entry(entry.name, "folder", modified=status.st_mtime, is_link=is_link)
    if stat.S_ISREG(status.st_mode):
        return Entry(entry.name, "file", status.st_size, status.st_mtime, is_link)
    return Entry(entry.name, "other", modified=status.st_mtime, is_link=is_link)


@dataclass(frozen=True)
class Preview:
    """What can be told of a text at once, and how it begins."""

    path: Path
    facts: str = ""
    text: str = ""
    """Its beginning, as it stands in the file."""
    problem: str = ""
    """Why it is no text to learn from."""


def preview_file(path: Path) -> Preview:
    """The beginning of a file, read as a corpus is. Only its first 64 kB are looked at."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Preview(path, problem="is no regular file")
            data = file.read(PREVIEWED)
    except (OSError, ValueError) as error:
        return Preview(path, problem=f"cannot be read: {getattr(error, 'strerror', None) or error}")
    size = f"{status.st_size:,} bytes"
    if not data:
        return Preview(path, size, problem="is empty")
    if b"\0" in data and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Preview(path, size, problem="is no text: it has bytes in it that no text has")
    if data.startswith((b"%PDF-", b"\x1f\x8b")):
        return Preview(path, size, problem="is no text, but a PDF or a compressed file")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data.removeprefix(codecs.BOM_UTF8), final=len(data) == status.st_size)
    except UnicodeDecodeError as error:
        return Preview(
            path, size, problem=f"is not UTF-8 text (byte 0x{error.object[error.start]:02x} at {error.start:,})"
        )
    return Preview(path, size, text)


def _without_waiting(path: str, flags: int) -> int:
    # Opening a pipe would wait for somebody to write into it.
    return os.open(path, flags | os.O_NONBLOCK)


def count_file(preview: Preview) -> Preview:
    """The preview with the characters of the whole file counted, where it is small enough for that."""
    from minigpt.corpus import Corpus

    try:
        if preview.problem or preview.path.stat().st_size > COUNTED:
            return preview
        survey = Corpus(preview.path.name, (preview.path,)).survey()
    except UserError as error:
        problem = str(error).removeprefix(f"{preview.path}: ")
        return Preview(preview.path, preview.facts, preview.text, problem)
    except OSError:
        return preview
    facts = f"{survey.characters:,} characters, {len(survey.alphabet):,} distinct, {preview.facts}"
    return Preview(preview.path, facts, preview.text)


def preview_folder(path: Path, progress: Callable[[str], None]) -> Preview:
    """Which text files are in and below a folder, as a corpus would be made of them.

    What `progress` raises is passed on, so that it can end the work.
    """
    from minigpt.corpus import left_out_notice, load_corpus

    try:
        corpus = load_corpus(str(path), progress)
        size = sum(file.stat().st_size for file in corpus.files)
    except UserError as error:
        return Preview(path, problem=str(error).removeprefix(f"{path}: ").split(". Known corpora")[0])
    except OSError as error:
        return Preview(path, problem=f"cannot be read: {error.strerror}")
    count = len(corpus.files)
    facts = f"{count:,} text file{'' if count == 1 else 's'} in and below it, {size:,} bytes"
    names = [str(file.relative_to(path)) for file in corpus.files[:100]]
    notice = left_out_notice(corpus)
    return Preview(path, facts, "\n".join([*([notice, ""] if notice else []), *names]))
