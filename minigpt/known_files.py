"""Texts and vocabularies known by name: where each is looked for, and how it is fetched and checked."""

import hashlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tomli

from minigpt.errors import UserError
from minigpt.files import write_atomically
from minigpt.inert import inert_line
from minigpt.paths import bundled_data_dir, cache_dir, expand_home

_TIMEOUT = 20.0  # seconds without a byte, after which a download is given up
_LARGEST = 1 << 30  # bytes of a download whose length was not announced

Progress = Callable[[str], None]


@dataclass(frozen=True)
class KnownFile:
    """A file known by name, as corpora.toml or vocabularies.toml in data/ describes it."""

    name: str
    about: str
    licence: str
    vocab_size: int = 0
    """Its tokens (of a corpus: its distinct characters), so that a model can be sized before the file is here."""
    size: int = 0
    """Bytes; 0 if that depends on the Python."""
    file: str = ""
    """Where it lies, relative to each place it is looked for in."""
    module: str = ""
    """For a text that Python carries: the module that has it, instead of a file."""
    url: str = ""
    """Empty for what comes with the program or with Python."""
    sha256: str = ""
    instead: str = ""
    """What to do without it, for the message that says it could not be had."""

    def places(self) -> list[Path]:
        """Where it may lie, in the order of looking."""
        if not self.url:
            return [bundled_data_dir() / self.file] if self.file else []
        given = os.environ.get("MINIGPT_DATA_DIR")
        return [*([expand_home(given) / self.file] if given else []), cache_dir() / self.file]

    def place(self) -> Path | None:
        """Where it lies, unchecked; None if it is not here, or in a module."""
        return next(filter(is_file, self.places()), None)

    def is_here(self) -> bool:
        """Whether it can be read without a download."""
        if self.module:
            try:
                return importlib.util.find_spec(self.module) is not None
            except ModuleNotFoundError:  # the package around it is missing already
                return False
        return self.place() is not None

    def find(self, progress: Progress = lambda _: None) -> Path:
        """Its path, checked against its sum, after a download at need. Raises UserError that names the ways out."""
        path = self.place()
        if path is None:
            return self._download(progress)
        if self.sha256:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror}") from None
            if digest != self.sha256:
                raise UserError(
                    f"{inert_line(str(path))}: is not {self.name} (its SHA-256 differs). "
                    "Remove it to have it downloaded again."
                )
        return path

    def _download(self, progress: Progress) -> Path:
        import http.client
        import urllib.request

        target = cache_dir() / self.file
        digest = hashlib.sha256()
        chunks: list[bytes] = []
        received = 0
        try:
            with urllib.request.urlopen(self.url, timeout=_TIMEOUT) as response:
                total = int(response.headers.get("Content-Length") or 0)
                while chunk := response.read(1 << 16):
                    chunks.append(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    share = f" of {total / 1e6:.1f}" if total else ""
                    progress(f"downloading {self.name}: {received / 1e6:.1f}{share} MB")
                    if received > (total or _LARGEST):
                        break
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(self._failure(f"could not be downloaded ({inert_line(str(reason), 120)})")) from None
        if digest.hexdigest() != self.sha256:
            raise UserError(self._failure("came damaged (its SHA-256 is not the expected one)"))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, b"".join(chunks))
        except OSError as error:
            raise UserError(
                f"{self.name}: cannot be kept in {inert_line(str(target.parent))}: {error.strerror}"
            ) from None
        return target

    def _failure(self, what: str) -> str:
        return (
            f"{self.name}: {what} from {self.url}\n"
            f"  Ways out: put the file at {inert_line(str(cache_dir() / self.file))},\n"
            f"  or set MINIGPT_DATA_DIR to a directory that holds {self.file},\n"
            f"  or {self.instead}."
        )


def read_known(table: str) -> dict[str, KnownFile]:
    """The entries of one of the tables in data/, by name."""
    entries = tomli.loads((bundled_data_dir() / table).read_text(encoding="utf-8"))
    return {name: KnownFile(name=name, **entry) for name, entry in entries.items()}


def is_file(path: Path) -> bool:
    """Whether there is a file, also where nobody may look: below such a directory pathlib raises."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
