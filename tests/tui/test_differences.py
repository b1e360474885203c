"""Where two texts differ: what is marked, and that no text holds the screen up."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.run.differences import MOST, differences


def marked(one: str, other: str) -> tuple[list[str], list[str]]:
    left, right, _ = differences(one, other)
    return [one[begin:end] for begin, end in left], [other[begin:end] for begin, end in right]


@pytest.mark.parametrize(
    ("one", "other", "left", "right"),
    [
        ("", "", [], []),
        ("the same", "the\n same ", [], []),
        ("", "all of it", [], ["all of it"]),
        ("the tide is out", "the boat is out", ["tide"], ["boat"]),
        ("is out, said he", "is out", [", said he"], []),
        ("one two, three four", "five six, seven eight", ["one two, three four"], ["five six, seven eight"]),
        ("a word of much weight", "some great weight", ["a word of much"], ["some great"]),
        ("日本 語", "日本 人", ["語"], ["人"]),
    ],
    ids=str,
)
def test_what_is_marked(one: str, other: str, left: list[str], right: list[str]) -> None:
    """A comma that both have by chance, between words that differ, is no likeness."""
    assert marked(one, other) == (left, right)


words = st.lists(st.sampled_from(["the", "tide", ",", "water", "hand", "\n", "über"]), max_size=40).map(" ".join)


@given(words, words)
def test_without_the_marked_words_little_else_is_left(one: str, other: str) -> None:
    """What is not marked is the same in both; the stretches lie in order, within the text, and begin and end in words."""
    rest = []
    left, right, whole = differences(one, other)
    assert whole
    for text, spans in ((one, left), (other, right)):
        place, kept = 0, ""
        for begin, end in spans:
            assert place <= begin < end <= len(text)
            assert text[begin:end] == text[begin:end].strip()
            kept += text[place:begin] + " "
            place = end
        rest.append((kept + text[place:]).split())
    assert rest[0] == rest[1]


@given(words)
def test_a_text_is_like_itself(text: str) -> None:
    assert differences(text, text) == ([], [], True)


def test_a_long_text_of_one_word_is_like_itself() -> None:
    """difflib takes words that are frequent for noise, and found nothing alike in such texts."""
    assert differences("so " * 3000, "so " * 3000) == ([], [], True)


def test_long_texts_are_compared_in_part_and_in_no_time() -> None:
    """Guards the screen against texts in which every other word differs, the worst for difflib."""
    one = " ".join(f"{'wa'[place % 2]}ord{place}" for place in range(50_000))
    other = " ".join(f"{'wb'[place % 2]}ord{place}" for place in range(50_000))
    begin = time.thread_time()
    left, _, whole = differences(one, other)
    assert time.thread_time() - begin < 2.0  # without a limit: minutes
    assert not whole and 1 < len(left) <= MOST
