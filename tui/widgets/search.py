"""Searching in the lines of a pane: a field at its bottom, the matches highlighted and counted."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from time import monotonic

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Input, Static

from tui.widgets.line_input import LineInput
from tui.widgets.lines import Line, Lines

_SLICE = 0.008  # seconds of searching at a time: keys and the training come in between
_PAUSE = 0.02
LONGEST_QUERY = 200  # characters


class Matches:
    """Which of some lines hold a text, found bit by bit; capitals count if the text has any."""

    def __init__(self, query: str) -> None:
        self.query = query
        self.pattern = re.compile(re.escape(query), 0 if query != query.lower() else re.IGNORECASE)
        self.found: list[int] = []
        """The numbers of the lines, ascending."""
        self._seen = 0

    def look(self, lines: Sequence[Line], seconds: float = _SLICE) -> bool:
        """Go on through lines that were added at the end; whether all have been looked at when the time is over."""
        end, holds = monotonic() + seconds, self.pattern.search
        while self._seen < len(lines):
            for number in range(self._seen, min(self._seen + 500, len(lines))):
                if holds(lines[number].text):
                    self.found.append(number)
            self._seen = min(self._seen + 500, len(lines))
            if monotonic() >= end:
                break
        return self._seen >= len(lines)

    def forget(self, first: int) -> None:
        """Drop what is known of the lines from `first` on: others stand there now."""
        del self.found[bisect_left(self.found, first) :]
        self._seen = min(self._seen, first)

    def next(self, place: int, by: int) -> int | None:
        """The nearest matching line after (1) or before (-1) a place, or else the first one from the other end."""
        if not self.found:
            return None
        at = bisect_left(self.found, place + 1) if by > 0 else bisect_left(self.found, place) - 1
        return self.found[at % len(self.found)]


class SearchInput(LineInput):
    """The field for what is searched."""

    BINDING_GROUP_TITLE = "Search"
    BINDINGS = [
        Binding("enter", "keep", "go on to n and N", tooltip="back to the lines; n and N go to the next match"),
        Binding("down", "next(1)", "the next match", show=False),
        Binding("up", "next(-1)", "the match before", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="search: capitals count if there are any", max_length=LONGEST_QUERY)

    @property
    def _pane(self) -> "SearchedPane":
        return next(node for node in self.ancestors if isinstance(node, SearchedPane))

    def action_keep(self) -> None:
        """Leave the field, and the matches marked."""
        self._pane.keep_search()

    def action_next(self, by: int) -> None:
        """Go to another match without leaving the field."""
        self._pane.action_next_match(by)


class SearchLine(Horizontal):
    """The line at the bottom of a pane: what is searched, and how many lines hold it."""

    def compose(self) -> ComposeResult:
        yield Static("/", id="search-mark", markup=False)
        yield SearchInput()
        yield Static("", id="search-count", markup=False)

    def say(self, text: str) -> None:
        """Write the count."""
        count = self.query_one("#search-count", Static)
        if str(count.content) != text:
            count.update(text)


class SearchedPane(Vertical):
    """A pane of `Lines` with a `SearchLine` at its bottom; whoever derives from it composes both."""

    BINDINGS = [
        Binding("slash", "search", "search", key_display="/", tooltip="search in these lines"),
        Binding("n", "next_match(1)", "next match", show=False),
        Binding("N", "next_match(-1)", "previous match", key_display="N", show=False),
        Binding("escape", "close_search", "close the search", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._matches: Matches | None = None
        self._current: int | None = None
        """The line of the match that the reader has gone to."""
        self._wants_nearest = 0
        """The place from which the first match is to be gone to, plus one, until it is found."""
        self._searching: Timer | None = None

    def focus(self, scroll_visible: bool = True) -> "SearchedPane":
        """Let the arrow keys move in the lines."""
        # At once: `focus()` of the lines would take effect only after the keys that have been typed meanwhile.
        self.screen.set_focus(self.query_one(Lines), scroll_visible)
        return self

    @property
    def search_is_open(self) -> bool:
        """Whether the line for searching is in view."""
        return self.has_class("-searching")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"next_match", "close_search"}:
            return self.search_is_open
        return True

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    def action_search(self) -> None:
        """Open the field for what is searched, or go back into it."""
        self.add_class("-searching")
        field = self.query_one(SearchInput)
        self.screen.set_focus(field)
        field.select_all()

    def keep_search(self) -> None:
        """Go back to the lines; without anything to search for, close the search."""
        if self.query_one(SearchInput).value:
            self.focus()
            self.refresh_bindings()
        else:
            self.action_close_search()

    def action_next_match(self, by: int) -> None:
        """Go to the next (1) or previous (-1) line that holds what is searched."""
        if self._matches is None:
            return
        lines = self.query_one(Lines)
        start = lines.place - (by > 0) if self._current is None else self._current
        self._current = self._matches.next(start, by)
        if self._current is not None:
            lines.go_to(self._current)
        self._show_matches()

    def action_close_search(self) -> None:
        """Close the search, and mark nothing any more."""
        self.remove_class("-searching")
        self.query_one(SearchInput).value = ""
        self._begin_search("")
        self.focus()
        self.refresh_bindings()

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Search anew with each letter."""
        event.stop()
        self._begin_search(event.value if self.search_is_open else "")

    # ── searching ─────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_search(self, query: str) -> None:
        if query == (self._matches.query if self._matches else ""):
            return
        lines = self.query_one(Lines)
        self._matches = Matches(query) if query else None
        self._wants_nearest = 1 + (lines.place if self._current is None else self._current)
        self._current = None
        self.search_on()

    def search_again(self, first: int = 0) -> None:
        """Search from a line on, since others have taken these places."""
        if self._matches is not None:
            self._matches.forget(first)
            if self._current is not None and self._current >= first:
                self._current = None
            self.search_on()

    def search_on(self) -> None:
        """Look through the lines that have come since; for a long while in slices."""
        matches, lines = self._matches, self.query_one(Lines)
        done = matches is None or matches.look(lines.lines)
        if self._searching is None:
            self._searching = self.set_interval(_PAUSE, self.search_on, pause=True)
        if done:
            self._searching.pause()
        else:
            self._searching.resume()
        if matches is not None and self._wants_nearest and (done or matches.found[-1:] >= [self._wants_nearest - 1]):
            place, self._wants_nearest = self._wants_nearest - 1, 0
            self._current = matches.next(place - 1, 1)
            if self._current is not None:
                lines.go_to(self._current)
        self._show_matches(done=done)

    def _show_matches(self, *, done: bool = True) -> None:
        matches = self._matches
        self.query_one(Lines).mark(matches.pattern if matches is not None else None, self._current)
        if matches is None:
            words = ""
        elif not matches.found:
            words = "no line holds it" if done else "searching …"
        else:
            count = f"{len(matches.found):,} line{'s' if len(matches.found) != 1 else ''}{'' if done else ' so far …'}"
            at = bisect_left(matches.found, self._current) + 1 if self._current is not None else None
            words = count if at is None else f"{at:,} of {count}"
        self.query_one(SearchLine).say(words)
