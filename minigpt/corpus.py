"""The text to learn from: a file of the user's, or a corpus known by name."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tomli

from minigpt.errors import UserError
from minigpt.files import write_atomically
from minigpt.inert import inert_line
from minigpt.paths import bundled_data_dir, cache_dir, expand_home

if TYPE_CHECKING:
    from minigpt.config import Config


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus known by name, as data/corpora.toml describes it."""

    file: str
    about: str
    licence: str
    distinct_characters: int
    """Size of its vocabulary by character, so that a model can be sized before the corpus is here."""
    url: str = ""
    """Empty for a corpus that comes with the program."""
    sha256: str = ""


def _read_known() -> dict[str, KnownCorpus]:
    table = tomli.loads((bundled_data_dir() / "corpora.toml").read_text(encoding="utf-8"))
    return {name: KnownCorpus(**entry) for name, entry in table.items()}


KNOWN_CORPORA = _read_known()

_TIMEOUT = 20.0  # seconds without a byte, after which a download is given up

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from."""

    name: str
    text: str


def load_corpus(name: str, progress: Progress = lambda _: None) -> Corpus:
    """Read the corpus that `data.corpus` names, downloading a known one at need.

    `progress` is told in words how a download goes. Raises UserError if there is no such text or it is unusable.
    """
    known = KNOWN_CORPORA.get(name)
    path = _find_known(name, known, progress) if known else Path(name)
    return Corpus(name if known else path.name, read_text(path))


def corpus_is_local(name: str) -> bool:
    """Whether the corpus can be read without a download."""
    known = KNOWN_CORPORA.get(name)
    return any(map(_is_file, _places(known) if known else [Path(name)]))


def vocab_size_of(config: "Config") -> int:
    """How many tokens the configuration's vocabulary has, without downloading a corpus for it.

    Raises UserError if the corpus cannot be used.
    """
    from minigpt.tokenizer import build_tokenizer

    if config.data.tokenizer == "byte":
        return 256
    if not corpus_is_local(config.data.corpus):
        if known := KNOWN_CORPORA.get(config.data.corpus):
            return known.distinct_characters
        raise UserError(f"{inert_line(config.data.corpus)}: no such text file")
    return build_tokenizer(config.data.tokenizer, load_corpus(config.data.corpus).text).vocab_size


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, a byte order mark aside. Raises UserError that says what is wrong with it."""
    shown = inert_line(str(path))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        names = ", ".join(KNOWN_CORPORA)
        raise UserError(f"{shown}: no such text file. Known corpora: {names}.") from None
    except IsADirectoryError:
        raise UserError(f"{shown}: is a directory; data.corpus takes a text file") from None
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{shown}: is not UTF-8 text: byte 0x{data[error.start]:02x} at position {error.start} (line {line}). "
            f"Convert it, for example: iconv -f latin1 -t utf-8 FILE > NEW"
        ) from None
    if not text.strip():
        raise UserError(f"{shown}: is empty; a model needs text to learn from")
    return text


def _is_file(path: Path) -> bool:
    # Below a directory that may not be searched, pathlib raises.
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _places(known: KnownCorpus) -> list[Path]:
    if not known.url:
        return [bundled_data_dir() / known.file]
    given = os.environ.get("MINIGPT_DATA_DIR")
    return [*([expand_home(given) / known.file] if given else []), cache_dir() / known.file]


def _find_known(name: str, known: KnownCorpus, progress: Progress) -> Path:
    for path in filter(_is_file, _places(known)):
        if known.sha256:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror}") from None
            if digest != known.sha256:
                raise UserError(
                    f"{inert_line(str(path))}: is not {name} (its SHA-256 differs). "
                    "Remove it to have it downloaded again."
                )
        return path
    return _download(name, known, progress)


def _download(name: str, known: KnownCorpus, progress: Progress) -> Path:
    import http.client
    import urllib.request

    target = cache_dir() / known.file
    digest = hashlib.sha256()
    chunks: list[bytes] = []
    received = 0
    try:
        with urllib.request.urlopen(known.url, timeout=_TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                digest.update(chunk)
                received += len(chunk)
                share = f" of {total / 1e6:.1f}" if total else ""
                progress(f"downloading {name}: {received / 1e6:.1f}{share} MB")
                if received > (total or 1 << 30):
                    break
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            _no_download(name, known, f"could not be downloaded ({inert_line(str(reason), 120)})")
        ) from None
    if digest.hexdigest() != known.sha256:
        raise UserError(_no_download(name, known, "came damaged (its SHA-256 is not the expected one)"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, b"".join(chunks))
    except OSError as error:
        raise UserError(f"{name}: cannot be kept in {inert_line(str(target.parent))}: {error.strerror}") from None
    return target


def _no_download(name: str, known: KnownCorpus, what: str) -> str:
    return (
        f"{name}: {what} from {known.url}\n"
        f"  Ways out: put the file at {inert_line(str(cache_dir() / known.file))},\n"
        f"  or set MINIGPT_DATA_DIR to a directory that holds {known.file},\n"
        f"  or train on the bundled text (--data.corpus the-play) or a file of your own (--data.corpus PATH)."
    )
