"""From text to token ids and back: by character, or by byte of UTF-8; by pieces of words, see bpe.py."""

import codecs
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from minigpt.errors import UnknownCharactersError, UserError
from minigpt.files import read_limited, write_atomically
from minigpt.inert import inert_line, name_character

_LARGEST_FILE = 1 << 24  # bytes: more than the largest vocabulary takes


class StreamDecoder(Protocol):
    """Turns ids into text one by one; text that is not complete yet is held back."""

    def feed(self, token: int) -> str:
        """Take one more id and return the text that it completes, which may be none."""
        ...

    def finish(self) -> str:
        """What was still held back at the end."""
        ...


class Tokenizer(Protocol):
    """What the trainer and the generator need of a tokenizer."""

    vocab_size: int
    token_bytes: NDArray[np.int64]
    """How many bytes of UTF-8 each token stands for, (V)."""
    token_characters: NDArray[np.int64]
    """How many of these bytes begin a character, (V): summed over a text's tokens, its characters."""

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError that names what is outside the vocabulary."""
        ...

    def unknown_characters(self, text: str) -> list[str]:
        """The distinct characters of a text that are outside the vocabulary, sorted."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text that the ids stand for."""
        ...

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that come one by one."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All that `load_tokenizer` needs."""
        ...


class CharTokenizer:
    """Each distinct character of the corpus is a token; ids go by code point."""

    def __init__(self, characters: list[str]) -> None:
        self.characters = characters
        self.vocab_size = len(characters)
        self._ids = {character: index for index, character in enumerate(characters)}
        # A table from code point to id makes encoding a single indexing step, with -1 for what is unknown. Its last
        # place stands for all code points from there on.
        points = [ord(character) for character in characters]
        self._table = np.full(max(points) + 2, -1, dtype=np.int64)
        self._table[points] = np.arange(len(points))
        self.token_bytes = np.array([len(character.encode("utf-8")) for character in characters], dtype=np.int64)
        self.token_characters = np.ones(len(characters), dtype=np.int64)

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The vocabulary of a text: its characters, each once."""
        return cls(sorted(set(text)))

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError that names the characters outside the vocabulary."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        if len(ids) and ids.min() < 0:
            unknown = self.unknown_characters(text)
            named = ", ".join(name_character(character) for character in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise UnknownCharactersError(
                f"not in the model's vocabulary: {named}{more}. It knows the characters of its corpus: "
                f"{inert_line(''.join(c for c in self.characters if c > ' '), 120)}"
            )
        return ids

    def unknown_characters(self, text: str) -> list[str]:
        return sorted(set(text).difference(self._ids))

    def decode(self, ids: list[int]) -> str:
        return "".join(self.characters[index] for index in ids)

    def stream_decoder(self) -> StreamDecoder:
        return _CharDecoder(self)

    def to_json(self) -> dict[str, Any]:
        return {"type": "char", "characters": self.characters}


class _CharDecoder:
    def __init__(self, tokenizer: CharTokenizer) -> None:
        self._characters = tokenizer.characters

    def feed(self, token: int) -> str:
        return self._characters[token]

    def finish(self) -> str:
        return ""


class ByteTokenizer:
    """The 256 bytes of UTF-8: no text is outside this vocabulary."""

    vocab_size = 256
    token_bytes = np.ones(256, dtype=np.int64)
    token_characters = (np.arange(256) & 0xC0 != 0x80).astype(np.int64)  # 0x80 to 0xBF continue a character

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError for lone surrogates, which UTF-8 cannot express."""
        refuse_surrogates(text)
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def unknown_characters(self, text: str) -> list[str]:
        return lone_surrogates(text)

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def stream_decoder(self) -> StreamDecoder:
        return BytesDecoder([bytes([byte]) for byte in range(256)])

    def to_json(self) -> dict[str, Any]:
        return {"type": "byte"}


class BytesDecoder:
    """Decodes tokens that stand for bytes; a character appears with its last byte."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self._decoder.decode(self._tokens[token])

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


# ── characters that a vocabulary has not ──────────────────────────────────────────────────────────────────────────


def lone_surrogates(text: str) -> list[str]:
    """The halves of surrogate pairs in a text, sorted: what arrives when an argument is not UTF-8."""
    return sorted(set(re.findall("[\ud800-\udfff]", text)))


def refuse_surrogates(text: str) -> None:
    """Raise UserError that names a lone surrogate, if there is one: UTF-8 cannot express it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnknownCharactersError(
            f"not text: {name_character(text[error.start])} cannot be written in UTF-8"
        ) from None


def known_text(tokenizer: Tokenizer, text: str, unknown: Literal["refuse", "replace", "drop"]) -> str:
    """The text with what the vocabulary has not refused, replaced or dropped.

    Replaced by the letter under the accents and the like if that is known (é by e), otherwise by a question mark, or
    else by a space, or else dropped. Raises UnknownCharactersError that names the characters.
    """
    strange = tokenizer.unknown_characters(text)
    if not strange:
        return text
    if unknown == "refuse":
        tokenizer.encode(text)
    return text.translate({ord(c): _stand_in(tokenizer, c) if unknown == "replace" else "" for c in strange})


def _stand_in(tokenizer: Tokenizer, character: str) -> str:
    parts = unicodedata.normalize("NFKD", character)
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    if not letters:  # an accent by itself: the letter before it does without
        return ""
    return next((text for text in (parts, letters, "?", " ") if not tokenizer.unknown_characters(text)), "")


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write the vocabulary beside the run, so that a checkpoint never depends on the corpus file."""
    write_atomically(path, json.dumps(tokenizer.to_json()) + "\n")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a run's vocabulary. Raises UserError if the file is missing or damaged."""
    try:
        value = json.loads(read_limited(path, _LARGEST_FILE))
        match value["type"]:
            case "byte":
                return ByteTokenizer()
            case "char":
                return CharTokenizer(_valid_characters(value["characters"]))
            case "bpe" | "gpt2":
                from minigpt.bpe import BytePairTokenizer

                return BytePairTokenizer.from_json(value)
    except OSError as error:
        raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{inert_line(str(path))}: is no vocabulary that this version can read")


def _valid_characters(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(c, str) and len(c) == 1 for c in value):
        raise ValueError("characters")
    if len(set(value)) < len(value) or lone_surrogates("".join(value)):
        raise ValueError("characters")
    return value
