"""Text comes back from its ids as it was, by character and by byte."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigpt.errors import UserError
from minigpt.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, build_tokenizer, load_tokenizer, save_tokenizer

KINDS = ("char", "byte")
ODD = "ROMEO:\r\n\te\u0301 漢字 👩\u200d👧 \0\x1b[31m\U0010ffff\u202e"


@given(st.sampled_from(KINDS), st.text(min_size=1))
@example("char", ODD)
@example("byte", ODD)
def test_text_comes_back_from_its_ids(kind: str, text: str) -> None:
    tokenizer = build_tokenizer(kind, text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert ((ids >= 0) & (ids < tokenizer.vocab_size)).all()
    assert tokenizer.decode(ids.tolist()) == text
    assert len(tokenizer.encode("")) == 0


@given(st.sampled_from(KINDS), st.text(min_size=1))
@example("byte", ODD)
def test_streamed_text_is_the_whole_text(kind: str, text: str) -> None:
    """A character of several bytes must not be shown before its last byte is there."""
    tokenizer = build_tokenizer(kind, text)
    decoder = tokenizer.stream_decoder()
    pieces = [decoder.feed(token) for token in tokenizer.encode(text).tolist()]
    assert "".join(pieces) + decoder.finish() == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


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


@pytest.mark.parametrize("tokenizer", [CharTokenizer.train("abc"), ByteTokenizer()], ids=KINDS)
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
    tokenizer = build_tokenizer(kind, text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        save_tokenizer(tokenizer, path)
        loaded = load_tokenizer(path)
    assert type(loaded) is type(tokenizer)
    assert loaded.to_json() == tokenizer.to_json()
    assert (loaded.encode(text) == tokenizer.encode(text)).all()


# ── files that are not to be trusted ──────────────────────────────────────────────────────────────────────────────

json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(KINDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "characters"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
nearly = st.fixed_dictionaries({"type": st.sampled_from(KINDS) | json_value, "characters": json_value})


@given(json_value | nearly | st.binary())
@example({"type": "char", "characters": {"a": 1}})
@example({"type": "char", "characters": "abc"})
@example({"type": "char", "characters": [["a"]]})
@example({"type": "char", "characters": []})
def test_any_file_is_a_vocabulary_or_a_user_error(value: Any) -> None:
    """A table in place of the list was taken for a vocabulary, and decoding then raised a KeyError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        try:
            tokenizer = load_tokenizer(path)
        except UserError:
            return
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
