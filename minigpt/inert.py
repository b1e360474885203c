"""Untrusted text made safe to print: the one place that does it."""

import re
import unicodedata

# Everything a terminal might obey or that might reorder its neighbours: C0 and C1 controls, DEL, line and
# paragraph separators, format characters (bidirectional controls, zero-width and tag characters), surrogates.
# Newline stays; a zero-width joiner stays too, since families of emoji are written with it.
_UNSAFE = re.compile(
    "["
    "\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u070f\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000110bd\U000110cd"
    "]"
)

# No script needs as many marks over one letter; a tower of them covers the lines above.
_MOST_MARKS = 8
_LONG_CLUSTER = re.compile(rf"[\u0300-\U0010ffff]{{{_MOST_MARKS + 1},}}")
_FLAG_LETTERS = {chr(0x1F1E6 + index): chr(ord("A") + index) for index in range(26)}
_JOINS = re.compile("[\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U0001f1e6-\U0001f1ff]")


def _without_flood(match: re.Match[str]) -> str:
    kept, marks = [], 0
    for character in match.group():
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me", "Cf"} else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _visible(match: re.Match[str]) -> str:
    character = match.group()
    if character == "\t":
        return "    "
    if character < " ":
        return chr(0x2400 + ord(character))  # the control pictures: ESC becomes ␛
    return "␡" if character == "\x7f" else "\ufffd"


def inert(text: str, *, tabs: bool = False) -> str:
    """Return `text` with every character that could steer a terminal replaced by a visible one.

    Newlines stay, and CRLF becomes one. A tab becomes four spaces, since panes count columns, unless `tabs` lets it
    stay. The result still has to be handed over as plain text, never as markup.
    """
    text = text.replace("\r\n", "\n")
    if tabs:
        return "\t".join(map(inert, text.split("\t")))
    return _LONG_CLUSTER.sub(_without_flood, _UNSAFE.sub(_visible, text))


def inert_pane(text: str) -> str:
    """`inert` for a place beside others: nothing stays whose width in cells depends on the terminal.

    Where one counts two cells for what another draws as one (families of emoji, flags, skin tones, characters that no
    Unicode has yet), all that stands to the right would shift. Families are shown as their members, flags as letters.
    """
    text = inert(text)
    if text.isascii():
        return text
    text = _JOINS.sub(lambda match: _FLAG_LETTERS.get(match.group(), ""), text)
    return "".join("\ufffd" if unicodedata.category(character) == "Cn" else character for character in text)


def inert_line(text: str, limit: int = 200) -> str:
    """`inert_pane` for a place with one line: newlines are shown as ⏎, and what is over `limit` characters is cut."""
    line = inert_pane(text[: limit + 1]).replace("\n", "⏎")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def name_character(character: str) -> str:
    """How a message names one character: itself where it can be seen, then its code point and Unicode name."""
    name = unicodedata.name(character, "unnamed")
    shown = inert(character) if character.isprintable() and character != " " else repr(character)
    return f"{shown} (U+{ord(character):04X} {name})"
