"""Copying into the terminal's clipboard, and saying what came of it as far as anybody can know."""

import os
from typing import Any

from textual.app import App

_told: set[str] = set()
"""The hints that were given: each once is enough."""


def copy(app: App[Any], text: str, what: str) -> None:
    """Copy a text; `what` says in the user's words what is copied now. Whether the terminal took it, it never tells."""
    app.copy_to_clipboard(text)
    said = f"{what}, where the terminal allows it."
    if os.environ.get("TMUX") and "tmux" not in _told:
        _told.add("tmux")
        said += " tmux does with `set -g set-clipboard on` in its configuration."
    app.notify(said, markup=False, timeout=10 if "tmux" in said else 4)
