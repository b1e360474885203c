"""When which styles are read: the first screen's before the first frame, all others behind it.

Parsing all of them takes about as long as drawing that frame.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from textual.app import App

ALL = sorted(Path(__file__).parent.rglob("*.tcss"))
_FIRST = frozenset({"home", "row_table", "key_line"})
FIRST: list[str | PurePath] = [path for path in ALL if path.stem in _FIRST]
"""Those of the home screen and of what stands on it."""
_DASHBOARD = frozenset({"dashboard", "panes", "charts", "memory", "sample", "chat", "prompt", "sampling"})
DASHBOARD: list[Path] = [path for path in ALL if path.stem in _DASHBOARD]
"""Those of a dashboard that has just been opened."""

_MOST_PARSED = 1024


def prepare(app: App[Any]) -> None:
    """Have the styles parsed once, with the colours of the theme that has just been set; before the app runs."""
    app.stylesheet.set_variables(app.get_css_variables())
    # Textual keeps 64 that are parsed, and a dashboard has more: each widget of a new kind would have all of them
    # parsed again, for a tenth of a second.
    app.stylesheet._parse_cache.maxsize = _MOST_PARSED


async def load(app: App[Any], paths: Iterable[Path]) -> None:
    """Read styles that the frames so far did without, one by one, so that keys come in between."""
    others = [path for path in paths if not app.stylesheet.has_source(str(path))]
    for path in others:
        app.stylesheet.read(path)
        app.stylesheet.parse()
        await asyncio.sleep(0)
    if others and len(app.screen_stack) > 1:  # somebody was quicker
        app.stylesheet.update(app, animate=False)
