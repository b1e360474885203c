"""What `inert` returns is only ever drawn: no terminal obeys any of it."""

import sys
import unicodedata

import pyte
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wcwidth import wcwidth

from minigpt.inert import inert, inert_line, name_character

COLUMNS, ROWS = 400, 100

hostile = st.lists(
    st.text(max_size=6)
    | st.sampled_from(
        [
            "\x1b[2J",
            "\x1b[31m",
            "\x1b]0;owned\x07",
            "\x1b]52;c;cm0=\x1b\\",
            "\x1b[?1049h",
            "\x1b[6n",
            "\x1bc",
            "\x1b(0",
            "\x9b5A",
            "\x9d0;owned\x9c",
            "\x0e",
            "\r",
            "\r\n",
            "\b\b\b",
            "\t",
            "\v",
            "\f",
            "\x85",
            "\u2028",
            "\u202etxt.exe",
            "\u2066",
            "\ud800",
            "\0",
            "\x7f",
            "e\u0301",
            "漢字",
            "👩\u200d👧",
            "[b]markup[/b]",
        ]
    ),
    max_size=8,
).map("".join)


def drawn(text: str) -> pyte.Screen:
    """A terminal that was given the text, character by character, as a terminal driver would."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    for character in text.replace("\n", "\r\n"):
        stream.feed(character)
    return screen


@given(hostile, st.booleans())
@example("\x1b]0;owned\x07", False)
@example("\x9b2J", False)
@example("a\rb", False)
def test_a_terminal_only_moves_on_by_what_it_shows(text: str, tabs: bool) -> None:
    """No escape, title, backspace, carriage return or shift of the character set comes through."""
    shown = inert(text, tabs=tabs).replace("\t", "    ")
    screen = drawn(shown)
    fresh = pyte.Screen(COLUMNS, ROWS)
    lines = shown.split("\n")
    assert screen.cursor.y == len(lines) - 1
    assert screen.cursor.x == sum(max(0, wcwidth(character)) for character in lines[-1])
    assert (screen.title, screen.icon_name, screen.mode) == ("", "", fresh.mode)
    assert (screen.charset, screen.margins, screen.cursor.attrs) == (0, None, fresh.cursor.attrs)


def test_of_all_characters_only_harmless_ones_are_left() -> None:
    """Beside letters and signs: newlines, and the joiner that families of emoji are written with."""
    left = set(inert("".join(map(chr, range(sys.maxunicode + 1)))))
    bidirectional = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for character in left:
        category = unicodedata.category(character)
        assert category not in {"Cs", "Zl", "Zp"}, hex(ord(character))
        assert category != "Cc" or character == "\n", hex(ord(character))
        assert unicodedata.bidirectional(character) not in bidirectional, hex(ord(character))
    invisible = {character for character in left if unicodedata.category(character) == "Cf"}
    # The others of this category are drawn: Arabic and Kaithi signs that span digits.
    assert invisible <= set("\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2")


def test_ordinary_text_stays_as_it_is() -> None:
    text = "ROMEO:\n  Ünïcödé, 漢字 — “quoted” [markup] 👩‍👧 e\u0301 עברית\n"
    assert inert(text) == text


@given(hostile)
def test_what_is_inert_stays_so(text: str) -> None:
    """Text passes through it more than once on its way to the screen."""
    assert inert(inert(text)) == inert(text)


def test_ends_of_lines_and_tabs() -> None:
    """A Windows text has no visible trash at its line ends, a lone carriage return is seen."""
    assert inert("a\r\nb") == "a\nb"
    assert inert("a\rb") == "a␍b"
    assert inert("a\tb") == "a    b"
    assert inert("a\t\x1bb\t", tabs=True) == "a\t␛b\t"


@given(hostile, st.integers(1, 50))
def test_a_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = inert_line(text, limit)
    assert "\n" not in line
    assert len(line) <= limit


@pytest.mark.parametrize(
    ("character", "named"),
    [
        ("é", "é (U+00E9 LATIN SMALL LETTER E WITH ACUTE)"),
        (" ", "' ' (U+0020 SPACE)"),
        ("\n", "'\\n' (U+000A unnamed)"),
        ("\x1b", "'\\x1b' (U+001B unnamed)"),
        ("\u202e", "'\\u202e' (U+202E RIGHT-TO-LEFT OVERRIDE)"),
        ("\ud800", "'\\ud800' (U+D800 unnamed)"),
    ],
)
def test_a_character_is_named_so_that_it_can_be_found(character: str, named: str) -> None:
    assert name_character(character) == named


@given(st.characters(exclude_categories=[]))
def test_the_name_of_a_character_is_inert_too(character: str) -> None:
    name = name_character(character)
    assert inert(name) == name
