"""Alerts brought to the user: on the screen, by the terminal's bell, and as a notification of the desktop."""

import os
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from textual.app import App

from minigpt.inert import inert_line, inert_pane
from tui.run.alerts import Alert
from tui.settings import DEFAULTS

SHOWN_FOR = 10.0  # seconds
_LONGEST_NAME = 26  # characters of a run's name, so that what has happened to it stays on the same line
_LONGEST = 240  # characters
_ST = "\x1b\\"

# Which terminal understands which code. Where a terminal sets a variable of its own, that counts even inside tmux,
# which puts its own name into TERM and TERM_PROGRAM.
_BY_VARIABLE = {
    "KITTY_WINDOW_ID": "99",
    "WEZTERM_PANE": "9",
    "GHOSTTY_RESOURCES_DIR": "9",
    "ITERM_SESSION_ID": "9",
    "WT_SESSION": "777",
    "VTE_VERSION": "777",
}
_BY_PROGRAM = {"iterm.app": "9", "iterm2": "9", "wezterm": "9", "ghostty": "9"}
_BY_TERM = {"xterm-kitty": "99", "xterm-ghostty": "9", "wezterm": "9", "foot": "777", "rxvt-unicode": "777"}


def announce(app: App[Any], alert: Alert) -> None:
    """Bring an alert to the user, in the ways that the settings allow.

    Both codes go through the app's driver, behind which `TerminalOutput` drops what a stalled terminal does not take.
    """
    settings = getattr(app, "settings", DEFAULTS)
    app.notify(
        inert_pane(alert.message),
        # Always with the run: another one may be on the screen.
        title=inert_line(f"{inert_line(alert.run, _LONGEST_NAME)} · {alert.title} · step {alert.step:,}"),
        severity=alert.severity,
        timeout=SHOWN_FOR,
        markup=False,
    )
    if settings.bell:
        app.bell()
    driver = app._driver
    if settings.notifications and driver is not None and not app.is_headless:
        sequence = notification(f"minigpt: {alert.title}", f"{alert.run}: {alert.message}", os.environ)
        if sequence:
            driver.write(sequence)


def notification(title: str, body: str, environment: Mapping[str, str]) -> str:
    """The escape code by which the terminal shows a notification of the desktop; empty where it knows none."""
    title, body = _harmless(title), _harmless(body)
    match _protocol(environment):
        case "9":
            # Words first: a number at the beginning would be a command of another kind to some.
            sequence = f"\x1b]9;{title or 'minigpt'} - {body}{_ST}"
        case "777":
            sequence = f"\x1b]777;notify;{title};{body}{_ST}"
        case "99":
            # Only while the window is not looked at: what is on the screen needs no second place.
            encoded = [b64encode(part.encode(errors="replace")).decode() for part in (title, body)]
            sequence = (
                f"\x1b]99;i=minigpt:d=0:o=unfocused:e=1;{encoded[0]}{_ST}"
                f"\x1b]99;i=minigpt:d=1:o=unfocused:e=1:p=body;{encoded[1]}{_ST}"
            )
        case _:
            return ""
    if environment.get("TMUX"):  # handed on where `allow-passthrough` is on
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + _ST
    return sequence


def _protocol(environment: Mapping[str, str]) -> str:
    if environment.get("STY") and not environment.get("TMUX"):
        return ""  # screen would pass it on to whichever window is in front
    for variable, protocol in _BY_VARIABLE.items():
        if environment.get(variable):
            return protocol
    for variable in ("TERM_PROGRAM", "LC_TERMINAL"):  # the second one comes along over SSH
        if protocol := _BY_PROGRAM.get(environment.get(variable, "").lower(), ""):
            return protocol
    term = environment.get("TERM", "")
    return next((protocol for name, protocol in _BY_TERM.items() if term == name or term.startswith(f"{name}-")), "")


def _harmless(text: str) -> str:
    """Text that ends no escape code and begins none: what is printable, and none of what parts its fields."""
    line = inert_line(text, _LONGEST).replace(";", ",")
    return "".join(character for character in line if character.isprintable())
