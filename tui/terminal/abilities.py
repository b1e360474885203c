"""What the terminal is able to, as far as its name and the environment tell.

Asked before the first frame, and before textual is imported, which takes TEXTUAL_COLOR_SYSTEM as it then is.
"""

import os
import sys

_WITHOUT_CURSOR = frozenset({"dumb", "unknown", "lpr", "printer", "glasstty", "tty33", "tty37"})
"""Terminals of which a cell cannot be named to write into it: editors' shells, logs, teletypes."""
_WITHOUT_BRAILLE = frozenset({"linux", "vt52", "vt100", "vt102", "vt220", "vt320", "cons25", "wsvt25", "sun"})
"""Consoles of kernels and of old hardware, whose fonts have some hundred characters."""
_MANY_COLORS = ("alacritty", "foot", "contour", "wezterm", "rio", "xterm-ghostty", "xterm-direct", "st-", "konsole")


def is_interactive() -> bool:
    """Whether there is a terminal to write to and to read keys from.

    Without one Textual starts all the same and writes its escape sequences into the file or pipe.
    """
    return os.isatty(0) and os.isatty(1)


def can_draw() -> bool:
    """Whether a screen can be drawn on it at all, which needs a cursor that can be placed."""
    return _term() not in _WITHOUT_CURSOR


def is_read_aloud() -> bool:
    """Whether somebody has said, for all programs, that a screen reader reads the terminal: no terminal tells."""
    return os.environ.get("ACCESSIBLE", "") not in ("", "0")


def keeps_escape_back() -> bool:
    """Whether Escape comes only with the next key while the mouse is reported, as GNU screen does it."""
    return bool(os.environ.get("STY")) and not os.environ.get("TMUX")


def draws_braille() -> bool:
    """Whether the characters that charts are made of can be sent to it, and are likely to be in its font."""
    encoding = (getattr(sys.__stdout__, "encoding", None) or "utf-8").lower()
    return encoding.startswith("utf") and _term() not in _WITHOUT_BRAILLE


def color_system() -> str | None:
    """How many colours it has, in rich's words: "truecolor", "256", "standard" for 16; None for none."""
    from rich.console import Console

    forced = os.environ.get("TEXTUAL_COLOR_SYSTEM", "auto")
    return Console(force_terminal=True).color_system if forced == "auto" else forced


def tell_textual_of_colors() -> None:
    """Let 256 colours be used where the terminal's name alone does not say so.

    Textual goes by the end of TERM and by COLORTERM, which SSH does not hand on: "alacritty", "foot" and
    "xterm-ghostty" would be taken for terminals of 16 colours. And an empty NO_COLOR, which asks for nothing, for one.
    """
    if os.environ.get("NO_COLOR") == "":
        del os.environ["NO_COLOR"]
    if not os.environ.get("COLORTERM") and _term().startswith(_MANY_COLORS):
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "256")


def _term() -> str:
    return os.environ.get("TERM", "").lower()
