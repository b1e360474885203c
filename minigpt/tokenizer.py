"""From text to token ids and back: by character, or by byte of UTF-8."""

import codecs
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minigpt.errors import UserError
from minigpt.files import write_atomically
from minigpt.inert import inert_line, name_character


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

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError that names what is outside the vocabulary."""
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
        # A table from code point to id makes encoding a single indexing step, with -1 for what is unknown.
        points = [ord(character) for character in characters]
        self._table = np.full(max(points) + 1, -1, dtype=np.int64)
        self._table[points] = np.arange(len(points))

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The vocabulary of a text: its characters, each once."""
        return cls(sorted(set(text)))

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError that names the characters outside the vocabulary."""
        unknown = sorted(set(text).difference(self._ids))
        if unknown:
            named = ", ".join(name_character(character) for character in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise UserError(
                f"not in the model's vocabulary: {named}{more}. It knows the characters of its corpus: "
                f"{inert_line(''.join(c for c in self.characters if c > ' '), 120)}"
            )
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return self._table[points]

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

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError for lone surrogates, which UTF-8 cannot express."""
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"not text: {name_character(text[error.start])} cannot be written in UTF-8") from None
        return np.frombuffer(data, dtype=np.uint8).astype(np.int64)

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def stream_decoder(self) -> StreamDecoder:
        return _ByteDecoder()

    def to_json(self) -> dict[str, Any]:
        return {"type": "byte"}


class _ByteDecoder:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


def build_tokenizer(kind: str, text: str) -> Tokenizer:
    """The tokenizer of that kind for a corpus."""
    return CharTokenizer.train(text) if kind == "char" else ByteTokenizer()


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write the vocabulary beside the run, so that a checkpoint never depends on the corpus file."""
    write_atomically(path, json.dumps(tokenizer.to_json()) + "\n")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a run's vocabulary. Raises UserError if the file is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
        if value["type"] == "byte":
            return ByteTokenizer()
        characters = value["characters"]
        valid = value["type"] == "char" and isinstance(characters, list) and len(characters) > 0
        if (
            valid
            and len(set(characters)) == len(characters)
            and all(isinstance(c, str) and len(c) == 1 for c in characters)
        ):
            return CharTokenizer(characters)
    except OSError as error:
        raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{inert_line(str(path))}: is no vocabulary that this version can read")
