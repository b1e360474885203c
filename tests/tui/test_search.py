"""Lines of text that are drawn as far as they are in view, and the search in them."""

from itertools import pairwise
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.widgets import Static

from tests.tui.panes import PaneApp, settled, until
from tui.widgets.lines import Line, Lines, wrapped
from tui.widgets.search import Matches, SearchedPane, SearchInput, SearchLine

TEXT = st.text(st.sampled_from("ab AB.*é世\u0301 "), max_size=60)


class Pane(SearchedPane):
    """As the panes are that have a search."""

    def compose(self) -> ComposeResult:
        yield Lines()
        yield SearchLine()


def lines_of(app: PaneApp) -> Lines:
    return app.pane.query_one(Lines)


def count_of(app: PaneApp) -> str:
    return str(app.pane.query_one("#search-count", Static).content)


def in_view(app: PaneApp) -> list[str]:
    return [lines_of(app).render_line(y).text.rstrip() for y in range(lines_of(app).size.height)]


@given(TEXT, st.integers(0, 10), st.integers(1, 30))
def test_wrapping_keeps_every_character_and_fits(text: str, indent: int, width: int) -> None:
    """Guards text lost where a line is broken, and rows wider than the pane; only the space at a break may go."""
    line = Line(text, indent)
    rows = wrapped(line, width)
    assert rows[0][0] == 0
    for (_, end), (begin, _) in pairwise([*rows, (len(text), len(text))]):
        assert text[end:begin] in {"", " "}
    hanging = indent if indent <= width // 2 else 0
    for number, (begin, end) in enumerate(rows):
        room = width - (hanging if number else 0)
        assert cell_len(text[begin:end]) <= room or end - begin == 1 or len(text[begin:end].rstrip("\u0301")) == 1


@given(st.lists(TEXT, max_size=30), st.text(st.sampled_from("abAB.*"), min_size=1, max_size=3), st.integers(0, 29))
def test_matches_are_those_of_a_plain_search(texts: list[str], query: str, changed: int) -> None:
    """Guards special characters taken for a pattern, capitals, and lines that were changed or came later."""

    def holds(text: str) -> bool:
        return query in text if query != query.lower() else query in text.lower()

    matches = Matches(query)
    lines = [Line(text) for text in texts]
    while not matches.look(lines[: len(lines) // 2]):
        pass
    matches.forget(changed)
    while not matches.look(lines):
        pass
    expected = [number for number, text in enumerate(texts) if holds(text)]
    assert matches.found == expected
    for place in range(len(texts)):
        after = [number for number in expected if number > place] or expected
        before = [number for number in expected if number < place] or expected
        assert matches.next(place, 1) == (after[0] if after else None)
        assert matches.next(place, -1) == (before[-1] if before else None)


async def test_slash_searches_n_goes_on_and_escape_closes() -> None:
    """Guards the keys: typing marks and counts, Enter goes back, n and N go round, Esc closes before it leaves."""
    app = PaneApp(Pane)
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        lines_of(app).show([Line(f"line {number}{' needle' if number % 30 == 5 else ''}") for number in range(100)])
        await pilot.press("home", "slash", "N", "e", "e", "d")
        await pilot.pause()
        assert count_of(app) == "no line holds it"
        await pilot.press("backspace", "backspace", "backspace", "backspace", *"needle")
        await until(pilot, lambda: count_of(app).endswith("of 4 lines"))
        await pilot.press("enter")
        seen = []
        for key in ("n", "n", "n", "n", "N", "N"):
            await pilot.press(key)
            seen.append(count_of(app).split()[0])
            assert any("needle" in row for row in in_view(app)), "the match is not in view"
        first = int(seen[0])
        assert [int(each) for each in seen] == [(first - 1 + by) % 4 + 1 for by in (0, 1, 2, 3, 2, 1)]
        assert app.pane.search_is_open and isinstance(app.focused, Lines)
        await pilot.press("escape")
        await pilot.pause()
        assert not app.pane.search_is_open and isinstance(app.focused, Lines) and count_of(app) == ""
        await pilot.press("slash", "x", "escape")
        await pilot.pause()
        assert isinstance(app.focused, Lines) and app.pane.query_one(SearchInput).value == ""


async def test_matches_are_highlighted_where_they_stand() -> None:
    """Guards marks that are off by the indent, by a wrapped row, or by wide characters before them."""
    app = PaneApp(Pane)
    async with app.run_test(size=(24, 8)) as pilot:
        await settled(pilot)
        lines_of(app).show([Line("12:00 世界 one two three needle four", 6)])
        await pilot.press("slash", *"needle")
        await until(pilot, lambda: count_of(app) == "1 of 1 line")
        marked = [
            segment.text
            for y in range(lines_of(app).size.height)
            for segment in lines_of(app).render_line(y)
            if segment.style is not None and segment.style.underline
        ]
        assert "".join(marked) == "needle"
        assert in_view(app)[:3] == ["12:00 世界 one two", "      three needle", "      four"]


async def test_rows_stay_beside_the_scroll_bar() -> None:
    """Guards a last column that the bar would cover: lines are wrapped before it is known whether there is one."""
    app = PaneApp(Pane)
    async with app.run_test(size=(40, 8)) as pilot:
        await settled(pilot)
        lines_of(app).show([Line("x" * 37 + " end") for _ in range(20)])
        await settled(pilot)
        assert {"x" * 37, "end"} == set(in_view(app)) and lines_of(app).show_vertical_scrollbar
        lines_of(app).show([Line("y" * 38)] * 20)
        await settled(pilot)
        assert {"y" * 37, "y"} == set(in_view(app))


async def test_it_follows_the_end_only_from_there_and_through_a_resize() -> None:
    """Guards a reader who is torn away, one who is left behind, and both when the window changes."""
    app = PaneApp(Pane)
    async with app.run_test(size=(60, 12)) as pilot:
        await settled(pilot)
        lines = lines_of(app)
        lines.show([Line(f"line {number}") for number in range(100)])
        lines.extend([Line("the newest")])
        assert in_view(app)[-1] == "the newest"
        await pilot.resize_terminal(40, 20)
        await settled(pilot)
        assert in_view(app)[-1] == "the newest"
        await pilot.press("home")
        await until(pilot, lambda: in_view(app)[0] == "line 0")
        lines.extend([Line("more")])
        await pilot.resize_terminal(50, 10)
        await settled(pilot)
        assert in_view(app)[0] == "line 0"
        await pilot.press("end")
        await until(pilot, lambda: in_view(app)[-1] == "more")
        lines.extend([Line("instead")], replacing=1)
        assert in_view(app)[-2:] == ["the newest", "instead"]
        await pilot.press("home")
        await until(pilot, lambda: in_view(app)[0] == "line 0")
        lines.scroll_to(y=50, animate=False, immediate=True)
        lines.drop_first(20)
        assert in_view(app)[0] == "line 50"


async def test_a_hundred_thousand_lines_are_searched_in_slices() -> None:
    """Guards keys that wait for a search: no slice may take long, and the count is right in the end."""
    app = PaneApp(Pane)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        lines_of(app).show([Line(f"12:00:00 step {number:,} saved") for number in range(100_000)])
        matches = Matches("9,999 ")
        begin = process_time()
        assert not matches.look(lines_of(app).lines, 0.0), "it went on when its time was over"
        assert process_time() - begin < 0.1
        await pilot.press("slash", *"9,999 ")
        await until(pilot, lambda: count_of(app).endswith("of 10 lines"))
