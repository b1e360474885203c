"""Byte pair encoding (BPE): tokens are pieces of words, learned by merging the most frequent neighbours.

Sennrich et al. 2016 (arXiv:1508.07909), over bytes as in GPT-2 (Radford et al. 2019). A text is first split into words
by GPT-2's pattern; within a word the pair of tokens that was learned first is merged first. Nothing is normalised, so
any text comes back from its ids as it was. The ids of `gpt2` are those of GPT-2.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.known_files import Progress, read_known
from minigpt.tokenizer import BytesDecoder, StreamDecoder, lone_surrogates, refuse_surrogates

SEGMENT = 1 << 18
"""Characters that are encoded at once."""

_END_OF_TEXT = b"<|endoftext|>"  # in GPT-2's vocabulary, though no text is ever encoded to it
_LONGEST_TOKEN = 128  # bytes: GPT-2's longest; keeps a rule of a thousand dashes from being learned as a word
_MOST_MERGES = 200_000
_LEARNED_FROM = 1 << 25  # characters
_COUNTED_AT_ONCE = 1 << 14  # characters: `tokenizers` takes 256 of these before it lets anybody interrupt it
# GPT-2's pattern. The possessive form finds the same words, in linear time.
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# GPT-2 numbers the 256 bytes by the characters that it writes them as: those that can be seen stand for themselves, and
# the others, in order, are written as U+0100 and up. `tokenizers` does the same.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES = [*_VISIBLE, *(byte for byte in range(256) if byte not in _VISIBLE)]
_WRITTEN = [*map(chr, _VISIBLE), *map(chr, range(0x100, 0x200 - len(_VISIBLE)))]

# Where a segment may end: after a character with white space behind it.
_CUT = re.compile(r"\S(?=[ \n])")

Kind = Literal["bpe", "gpt2"]


class BytePairTokenizer:
    """Tokens are bytes and what the merges make of them: no text is outside this vocabulary.

    `merges` are pairs of ids in the order of learning. Ids 0 to 255 are the bytes, in GPT-2's order; the merge at place
    i makes the token 256 + i. GPT-2's vocabulary has its end-of-text token besides, which is never encoded to.
    """

    def __init__(self, kind: Kind, merges: list[tuple[int, int]]) -> None:
        import tiktoken

        self.kind: Kind = kind
        self.merges = merges
        tokens = [bytes([byte]) for byte in _BYTES]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        ranks = {token: rank for rank, token in enumerate(tokens)}
        self._encoding = tiktoken.Encoding(kind, pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
        self._tokens = [*tokens, _END_OF_TEXT] if kind == "gpt2" else tokens
        self.vocab_size = len(self._tokens)
        self.token_bytes = np.array([len(token) for token in self._tokens], dtype=np.int64)
        begins = [sum(byte & 0xC0 != 0x80 for byte in token) for token in self._tokens]
        self.token_characters = np.array(begins, dtype=np.int64)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text. Raises UserError for lone surrogates, which UTF-8 cannot express."""
        refuse_surrogates(text)
        ids = [self._encoding.encode_ordinary(segment) for segment in segments([text])]
        return np.concatenate([np.array(part, dtype=np.int64) for part in ids] or [np.zeros(0, dtype=np.int64)])

    def unknown_characters(self, text: str) -> list[str]:
        return lone_surrogates(text)

    def decode(self, ids: list[int]) -> str:
        return b"".join(self._tokens[index] for index in ids).decode("utf-8", "replace")

    def stream_decoder(self) -> StreamDecoder:
        return BytesDecoder(self._tokens)

    def to_json(self) -> dict[str, Any]:
        return {"type": self.kind, "merges": [list(pair) for pair in self.merges]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "BytePairTokenizer":
        """What `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        merges = value["merges"]
        if not isinstance(merges, list) or len(merges) > _MOST_MERGES:
            raise ValueError("merges")
        lengths = [1] * 256
        for left, right in merges:
            if type(left) is not int or type(right) is not int or min(left, right) < 0:
                raise ValueError("merges")
            if max(left, right) >= len(lengths) or lengths[left] + lengths[right] > _LONGEST_TOKEN:
                raise ValueError("merges")
            lengths.append(lengths[left] + lengths[right])
        tokenizer = cls(value["type"], [(left, right) for left, right in merges])
        if len(set(tokenizer._tokens)) != tokenizer.vocab_size:
            raise ValueError("merges")
        return tokenizer


def segments(pieces: Iterable[str], size: int = SEGMENT) -> Iterator[str]:
    """The same text cut where it can be encoded in parts: into segments of at most `size` characters.

    Between a character and white space after it GPT-2's pattern always ends a word, whatever stands before or behind:
    the ids of the segments are those of the whole. Only where `size` characters have no such place is a word cut. Where
    the cuts are depends on the text alone, not on how it comes in pieces.
    """
    rest = ""
    for piece in pieces:
        rest += piece
        start = 0
        while len(rest) - start > size:
            end = _last_cut(rest, start, start + size)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _last_cut(text: str, start: int, end: int) -> int:
    for begin in (max(start, end - 256), start):  # mostly there is one near the end
        cuts = [match.end() for match in _CUT.finditer(text, begin, end)]
        if cuts:
            return cuts[-1]
    return end


def train_bpe(
    pieces: Iterable[str], characters: int, vocab_size: int, progress: Progress = lambda _: None
) -> BytePairTokenizer:
    """Learn a vocabulary of at most `vocab_size` tokens from a text of so many characters, the 256 bytes included.

    The same text gives the same vocabulary. Of a text of more than 32 million characters it is learned from parts that
    are spread evenly: memory and time grow with the distinct words, and the frequent ones are in the parts too.
    `progress` is told while the words are counted, and what it raises ends the learning; the merging after it, some
    seconds, cannot be interrupted.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def told() -> Iterator[str]:
        every = -(-characters // _LEARNED_FROM)
        read = 0
        for number, segment in enumerate(segments(pieces, _COUNTED_AT_ONCE)):
            progress(f"learning byte pairs: {read / characters:.0%} of the corpus read")
            read += len(segment)
            if number % every == 0:
                yield segment
        progress(f"learning byte pairs: merging, up to {vocab_size:,} tokens")

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=_LONGEST_TOKEN,
        show_progress=False,
    )
    learner.train_from_iterator(told(), trainer)
    learned = json.loads(learner.to_str())["model"]["merges"]
    return BytePairTokenizer("bpe", _numbered([(left, right) for left, right in learned]))


def load_gpt2(progress: Progress = lambda _: None) -> BytePairTokenizer:
    """GPT-2's vocabulary from its list of merges, fetched at need and checked. Raises UserError if it cannot be had."""
    path = read_known("vocabularies.toml")["gpt2"].find(progress)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{inert_line(str(path))}: cannot be read: {error.strerror}") from None
    pairs = [line.split(" ") for line in lines[1:] if line]  # the first line names the version
    return BytePairTokenizer("gpt2", _numbered([(left, right) for left, right in pairs]))


def _numbered(written: list[tuple[str, str]]) -> list[tuple[int, int]]:
    # From tokens written as strings to ids. A token that two merges make is that of the first.
    ids = {token: number for number, token in enumerate(_WRITTEN)}
    merges = []
    for left, right in written:
        if left + right not in ids:
            ids[left + right] = len(ids)
            merges.append((ids[left], ids[right]))
    return merges
