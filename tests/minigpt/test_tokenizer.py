"""Text comes back from its ids as it was, by character, by byte, and by learned or GPT-2's pieces of words."""

import json
import os
import re
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigpt.bpe import BytePairTokenizer, load_gpt2, segments, train_bpe
from minigpt.corpus import load_corpus
from minigpt.errors import UserError
from minigpt.tokenizer import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    known_text,
    load_tokenizer,
    save_tokenizer,
)

KINDS = ("char", "byte", "bpe")
ODD = "ROMEO:\r\n\te\u0301 漢字 👩\u200d👧 \0\x1b[31m\U0010ffff\u202e"

LEARNED = train_bpe(["the cat and the hat and the rat, 漢字漢字 漢字\n" * 20], 900, 300)


def tokenizer_of(kind: str, text: str) -> Tokenizer:
    return {"char": CharTokenizer.train(text), "byte": ByteTokenizer(), "bpe": LEARNED}[kind]


@pytest.fixture(scope="module")
def gpt2_folder() -> Path:
    """Where GPT-2's files are; skips the test where they are not at hand."""
    given = os.environ.get("MINIGPT_DATA_DIR")
    for folder in (*([Path(given)] if given else []), Path(__file__).resolve().parents[3] / "shared" / "data"):
        if (folder / "gpt2" / "vocab.bpe").is_file():
            return folder / "gpt2"
    pytest.skip("needs gpt2/vocab.bpe in MINIGPT_DATA_DIR or ../shared/data")


@pytest.fixture(scope="module")
def gpt2(gpt2_folder: Path) -> Tokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_DATA_DIR", str(gpt2_folder.parent))
        return load_gpt2()


@given(st.sampled_from(KINDS), st.text(min_size=1))
@example("char", ODD)
@example("byte", ODD)
@example("bpe", ODD)
def test_text_comes_back_from_its_ids(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind, text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert ((ids >= 0) & (ids < tokenizer.vocab_size)).all()
    assert tokenizer.decode(ids.tolist()) == text
    assert len(tokenizer.encode("")) == 0


@given(st.sampled_from(KINDS), st.text(min_size=1))
@example("byte", ODD)
@example("bpe", ODD)
def test_streamed_text_is_the_whole_text(kind: str, text: str) -> None:
    """A character of several bytes must not be shown before its last byte is there."""
    tokenizer = tokenizer_of(kind, text)
    decoder = tokenizer.stream_decoder()
    pieces = [decoder.feed(token) for token in tokenizer.encode(text).tolist()]
    assert "".join(pieces) + decoder.finish() == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@given(st.sampled_from(KINDS), st.text(min_size=1))
@example("bpe", ODD)
def test_tokens_know_their_bytes_and_characters(kind: str, text: str) -> None:
    """Bits per character and per byte are compared between tokenizers: the sums must be those of the text."""
    tokenizer = tokenizer_of(kind, text)
    ids = tokenizer.encode(text)
    assert len(tokenizer.token_bytes) == len(tokenizer.token_characters) == tokenizer.vocab_size
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert tokenizer.token_characters[ids].sum() == len(text)


@given(st.lists(st.integers(0, 255)))
def test_any_bytes_stream_as_they_decode(ids: list[int]) -> None:
    """A model makes sequences of bytes that are no UTF-8: they become replacement characters, and nothing is lost."""
    tokenizer = ByteTokenizer()
    decoder = tokenizer.stream_decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == tokenizer.decode(ids)


def test_ids_go_by_code_point() -> None:
    """The vocabulary of a text does not depend on the order in which its characters occur."""
    assert CharTokenizer.train("cab").characters == CharTokenizer.train("abc").characters == ["a", "b", "c"]
    assert CharTokenizer.train("cab").encode("cab").tolist() == [2, 0, 1]


@pytest.mark.parametrize("tokenizer", [CharTokenizer.train("abc"), ByteTokenizer(), LEARNED], ids=KINDS)
def test_lone_surrogates_are_no_text(tokenizer: Tokenizer) -> None:
    """An argument that is not UTF-8 arrives as them."""
    with pytest.raises(UserError, match=r"U\+DCFF"):
        tokenizer.encode("a\udcff")


def test_characters_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(UserError) as caught:
        CharTokenizer.train("abc \n").encode("a§b\x1bé")
    message = str(caught.value)
    assert "'\\x1b' (U+001B unnamed), § (U+00A7 SECTION SIGN), é (U+00E9" in message
    assert message.endswith("It knows the characters of its corpus: abc")
    with pytest.raises(UserError, match="and 21 more"):
        CharTokenizer.train("§").encode("abcdefghijklmnopqrstuvwxyz")


def test_a_high_code_point_outside_the_vocabulary_is_no_index_error() -> None:
    """Encoding looks up a table that ends at the corpus's highest character."""
    with pytest.raises(UserError):
        CharTokenizer.train("abc").encode("\U0010ffff")


@given(st.sampled_from(KINDS), st.text(min_size=1))
@example("char", ODD)
def test_a_saved_vocabulary_is_the_same_when_it_is_loaded(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind, text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        save_tokenizer(tokenizer, path)
        loaded = load_tokenizer(path)
    assert type(loaded) is type(tokenizer)
    assert loaded.to_json() == tokenizer.to_json()
    assert (loaded.encode(text) == tokenizer.encode(text)).all()


def test_a_saved_gpt2_needs_its_files_no_more(gpt2: Tokenizer, tmp_path: Path) -> None:
    """A run moved to another machine is opened there."""
    save_tokenizer(gpt2, tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == 50257
    assert loaded.encode(ODD).tolist() == gpt2.encode(ODD).tolist()
    assert loaded.decode([50256]) == "<|endoftext|>"


# ── pieces of words ───────────────────────────────────────────────────────────────────────────────────────────────

PLAY = load_corpus("the-play").text


def test_a_vocabulary_is_learned_to_its_size_and_no_further() -> None:
    tokenizer = train_bpe([PLAY], len(PLAY), 512)
    assert tokenizer.vocab_size == 512
    assert len(tokenizer.encode(PLAY)) < 0.6 * len(PLAY)
    assert train_bpe(["ab ab"], 5, 2048).vocab_size == 258
    assert train_bpe(["-" * 5000], 5000, 2048).token_bytes.max() <= 128


def test_the_same_text_gives_the_same_vocabulary_in_another_process() -> None:
    """Tables in random order must not decide between pairs that are equally frequent; nor must how the text came."""
    program = (
        "from minigpt.bpe import *; from minigpt.corpus import load_corpus; text = load_corpus('the-play').text; "
        "print(train_bpe([text[:50_000], text[50_000:]], len(text), 600).to_json()['merges'])"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(train_bpe([PLAY], len(PLAY), 600).to_json()["merges"])


def test_a_long_text_is_learned_from_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of 300 MB took 2 GB: memory grows with the distinct ones. So a long text is learned from at its beginning, its end and between."""
    monkeypatch.setattr("minigpt.bpe._LEARNED_FROM", 2000)
    monkeypatch.setattr("minigpt.bpe._COUNTED_AT_ONCE", 1000)
    text = "abab " * 300 + "qqqq " * 100 + "abab " * 3600 + "cdcd " * 400
    learned = train_bpe([text], len(text), 1000)
    assert [learned.decode([token]) for token in range(256, learned.vocab_size)] == [
        "ab", "abab", " abab", "cd", " cd", " cdcd",
    ]  # fmt: skip
    monkeypatch.undo()
    whole = train_bpe([text], len(text), 1000)
    assert " qqqq" in [whole.decode([token]) for token in range(256, whole.vocab_size)]


def test_learning_is_ended_by_its_progress() -> None:
    def stop(_: str) -> None:
        raise UserError("given up")

    with pytest.raises(UserError, match="given up"):
        train_bpe([PLAY], len(PLAY), 512, stop)


@given(
    st.lists(
        st.text(alphabet=st.sampled_from(" \n\r\t\u3000\x1c\x85a'sé7.-漢👧") | st.characters(exclude_categories=["Cs"]))
    )
)
@example(["a", " ", "\n", "b"])
@example(["it's   \n  x", "\n\n", " \n9"])
def test_parts_have_the_ids_of_the_whole(pieces: list[str]) -> None:
    """Large texts are encoded in parts by several threads: where they are cut, no word may be."""
    text = "".join(pieces)
    whole = LEARNED._encoding.encode_ordinary(text)
    for size in (len(text) // 2 + 1, 40):
        parts = list(segments(pieces, size))
        assert "".join(parts) == text
        assert parts == list(segments([text], size))
        assert all(0 < len(part) <= size for part in parts)
        # Only where no word ends may an encoder see it.
        if all(end[-1:].strip() and start[:1] in " \n" for end, start in pairwise(parts)):
            assert [int(token) for part in parts for token in LEARNED.encode(part)] == whole


def test_the_parts_of_prose_are_cut_between_words(gpt2: Tokenizer) -> None:
    """Guards the test above from holding only because it never applies."""
    assert isinstance(gpt2, BytePairTokenizer)
    parts = list(segments([PLAY], 100))
    assert all(end[-1].strip() and start[0] in " \n" for end, start in pairwise(parts))
    assert [int(token) for part in parts for token in gpt2.encode(part)] == gpt2._encoding.encode_ordinary(PLAY)


@pytest.mark.parametrize("text", ["a", "漢", " ", "\n", "7", "-", "\u0301"])
def test_a_long_text_without_words_takes_no_long_time(text: str) -> None:
    """What looks for the end of a word must not look again and again."""
    long = text * 1_000_000
    assert LEARNED.decode(LEARNED.encode(long).tolist()) == long


@pytest.fixture(scope="module")
def reference(gpt2_folder: Path) -> Any:
    """Hugging Face's GPT-2 tokenizer, from the local files."""
    transformers = pytest.importorskip("transformers")
    vocabulary = gpt2_folder / "encoder.json"
    if not vocabulary.is_file():
        pytest.skip("needs gpt2/encoder.json beside vocab.bpe, to compare with")
    merges = (gpt2_folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    pairs = [tuple(line.split(" ")) for line in merges]
    return transformers.GPT2Tokenizer(vocab=json.loads(vocabulary.read_bytes()), merges=pairs)


def test_gpt2_has_gpt2s_ids(gpt2: Tokenizer, reference: Any) -> None:
    """From the merges alone: the ids of encoder.json follow from their order."""
    for text in (PLAY, ODD, " \n\n  it's 1234  we'LL\t\u3000né\x85x ", "漢字👩\u200d👧" * 50):
        assert gpt2.encode(text).tolist() == reference.encode(text)
    assert [gpt2.decode([token]) for token in range(0, 50257, 97)] == [
        reference.decode([token], clean_up_tokenization_spaces=False) for token in range(0, 50257, 97)
    ]


@given(text=st.text())
@example(text=ODD)
def test_any_text_has_gpt2s_ids_and_comes_back(gpt2: Tokenizer, reference: Any, text: str) -> None:
    ids = gpt2.encode(text).tolist()
    assert ids == reference.encode(text)
    assert gpt2.decode(ids) == text
    decoder = gpt2.stream_decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == text


def test_special_tokens_are_text(gpt2: Tokenizer) -> None:
    """What a text says is no command to the encoder."""
    ids = gpt2.encode("<|endoftext|>").tolist()
    assert 50256 not in ids
    assert gpt2.decode(ids) == "<|endoftext|>"


# ── characters that a vocabulary has not ──────────────────────────────────────────────────────────────────────────


def test_unknown_characters_are_refused_replaced_or_dropped() -> None:
    tokenizer = CharTokenizer.train("naive cafe? \n")
    text = "naïve café — 漢\x1b ﬁ e\u0301"
    with pytest.raises(UserError, match=r"(?s)not in the model's vocabulary.*— \(U\+2014 EM DASH\)"):
        known_text(tokenizer, text, "refuse")
    assert known_text(tokenizer, text, "replace") == "naive cafe ? ?? fi e"
    assert known_text(tokenizer, text, "drop") == "nave caf    e"
    for unknown in ("refuse", "replace", "drop"):
        assert known_text(tokenizer, "naive", unknown) == "naive"
        assert known_text(ByteTokenizer(), text, unknown) == text


def test_what_stands_in_is_known_too() -> None:
    assert known_text(CharTokenizer.train("ab "), "a漢b", "replace") == "a b"
    assert known_text(CharTokenizer.train("ab"), "a漢b", "replace") == "ab"


@given(st.sampled_from(KINDS), st.text(min_size=1), st.text(st.characters()))
def test_whatever_was_replaced_or_dropped_can_be_encoded(kind: str, corpus: str, text: str) -> None:
    """Lone surrogates too, which no vocabulary has."""
    tokenizer = tokenizer_of(kind, corpus)
    for unknown in ("replace", "drop"):
        tokenizer.encode(known_text(tokenizer, text, unknown))
    if not tokenizer.unknown_characters(text):
        assert known_text(tokenizer, text, "refuse") == text


# ── files that are not to be trusted ──────────────────────────────────────────────────────────────────────────────

json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(KINDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "characters", "merges"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
pairs = st.lists(st.lists(st.integers(-2, 300), min_size=1, max_size=3), max_size=5)
nearly = st.fixed_dictionaries(
    {"type": st.sampled_from((*KINDS, "gpt2")) | json_value, "characters": json_value, "merges": pairs | json_value}
)


@given(json_value | nearly | st.binary())
@example({"type": "char", "characters": {"a": 1}})
@example({"type": "char", "characters": "abc"})
@example({"type": "char", "characters": [["a"]]})
@example({"type": "char", "characters": []})
@example({"type": "char", "characters": ["a", "\ud800"]})
@example({"type": "bpe", "merges": [[0, 1], [0, 1]]})
@example({"type": "bpe", "merges": [[0, 256]]})
@example({"type": "bpe", "merges": [[0, -1]]})
@example({"type": "bpe", "merges": [[0, True]]})
@example({"type": "bpe", "merges": [[255 + n, 255 + n] for n in range(1, 60)]})
@example({"type": "bpe", "merges": "abc"})
@example({"type": "gpt2"})
def test_any_file_is_a_vocabulary_or_a_user_error(value: Any) -> None:
    """A table in place of the list was taken for a vocabulary, and decoding then raised a KeyError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        try:
            tokenizer = load_tokenizer(path)
        except UserError:
            return
    assert tokenizer.vocab_size < 300
    everything = list(range(tokenizer.vocab_size))
    assert isinstance(tokenizer.decode(everything), str)
    json.dumps(tokenizer.to_json())


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_tokenizer(tmp_path / "none.json")
    with pytest.raises(UserError, match="Is a directory"):
        load_tokenizer(tmp_path)
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(UserError, match="no vocabulary"):
        load_tokenizer(deep)
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (1 << 24) + b'{"type": "byte"}')
    with pytest.raises(UserError, match="is larger than"):
        load_tokenizer(huge)


@pytest.mark.parametrize("value", [{"type": "byte"}, {"type": "char", "characters": ["\n", "a"]}])
def test_vocabularies_of_earlier_versions_are_read(value: dict[str, Any], tmp_path: Path) -> None:
    """As the first version wrote them: a run of then is resumed and talked to now."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(value) + "\n")
    assert load_tokenizer(tmp_path / "tokenizer.json").to_json() == value


@given(st.text(alphabet="ab \n\t", min_size=20, max_size=200), st.integers(3, 12))
def test_a_text_is_cut_only_between_a_character_and_white_space(text: str, size: int) -> None:
    """Within a run of spaces GPT-2's pattern ends no word: a cut there gives other ids than the whole."""
    parts = list(segments([text], size))
    assert "".join(parts) == text
    for left, right in pairwise(parts):
        cut_in_a_word = len(left) == size and not re.search(r"\S[ \n]", left)
        assert cut_in_a_word or (not left[-1].isspace() and right[0] in " \n")
