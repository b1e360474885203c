"""What is sent of a frame: the terminal must show what Textual meant, and get little more than what changed."""

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from tui.terminal.frames import Frames

WIDTH, HEIGHT = 24, 4
CONSOLE = Console(color_system="truecolor", force_terminal=True)
STYLES = [
    Style.parse(words)
    for words in (
        "#ffffff on #000000",
        "#ff0000 on #000000",
        "#ff0000 on #202020",
        "bold #ffffff on #000000",
        "bold italic #00ff00 on #101010",
        "reverse #ffffff on #000000",
        "underline #0000ff on #000000",
    )
] + [None]

characters = st.sampled_from("abcXYZ  01█─⣿é漢🙂")
pieces = st.tuples(st.text(characters, min_size=1, max_size=8), st.sampled_from(STYLES))


def line_of(parts, width: int) -> Strip:
    """A strip of that width, cut or filled up as the compositor's are."""
    return Strip([Segment(text, style) for text, style in parts]).adjust_cell_length(width, Style())


def chops_of(lines: list[Strip], cuts: list[int]):
    """The lines as the compositor hands them over: cut where widgets meet."""
    bounds = [*cuts, WIDTH]
    chops = [dict(zip(bounds, line.divide([*bounds[1:]]), strict=False)) for line in lines]
    return chops, [bounds[1:]] * HEIGHT


def cells_of(screen: pyte.Screen):
    """What stands in each cell; of a blank one only what can be seen."""
    rows = []
    for row in range(HEIGHT):
        cells = [screen.buffer[row][column] for column in range(WIDTH)]
        rows.append(
            [
                cell._replace(fg="") if cell.data == " " and not (cell.reverse or cell.underscore) else cell
                for cell in cells
            ]
        )
    return rows


class Terminal:
    """A terminal emulator that says how much it was sent."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.screen.reset_mode(pyte.modes.DECAWM)
        self.stream = pyte.Stream(self.screen)
        self.sent = 0

    def feed(self, text: str) -> None:
        self.sent += len(text)
        self.stream.feed(text)


@given(
    st.lists(st.lists(pieces, min_size=1, max_size=6), min_size=HEIGHT, max_size=HEIGHT),
    st.lists(
        st.lists(
            st.tuples(st.integers(0, HEIGHT - 1), st.lists(pieces, min_size=1, max_size=6)), min_size=1, max_size=3
        ),
        max_size=4,
    ),
    st.sampled_from([[0], [0, 5], [0, 8, 16]]),
)
def test_the_terminal_shows_what_textual_would_have_it_show(first, changes, cuts):
    """A cell left out, a colour taken for set, a cursor taken to be elsewhere: each would stay on the screen for good."""
    ours, textuals, frames = Terminal(), Terminal(), Frames()
    lines = [line_of(parts, WIDTH) for parts in first]
    update = LayoutUpdate([[line] for line in lines], Region(0, 0, WIDTH, HEIGHT))
    ours.feed(frames.encode(update, CONSOLE))
    textuals.feed(update.render_segments(CONSOLE))
    assert cells_of(ours.screen) == cells_of(textuals.screen)
    for step in changes:
        for row, parts in step:
            lines[row] = line_of(parts, WIDTH)
        chops, ends = chops_of(lines, cuts)
        spans = [(row, 0, WIDTH) for row in sorted({row for row, _ in step})]
        ours.feed(frames.encode(ChopsUpdate(chops, spans, ends), CONSOLE))
        textuals.feed(ChopsUpdate(chops, spans, ends).render_segments(CONSOLE))
        assert cells_of(ours.screen) == cells_of(textuals.screen)


def plain_frame(lines: list[str]) -> LayoutUpdate:
    strips = [[line_of([(line, STYLES[0])], WIDTH)] for line in lines]
    return LayoutUpdate(strips, Region(0, 0, WIDTH, HEIGHT))


def changed(lines: list[str], *spans: tuple[int, int, int]) -> ChopsUpdate:
    chops, ends = chops_of([line_of([(line, STYLES[0])], WIDTH) for line in lines], [0])
    return ChopsUpdate(chops, list(spans), ends)


def test_only_changed_cells_are_sent():
    """Textual sends a line from its widget's left edge, so that a chart's newest point cost as much as the whole of it."""
    frames = Frames()
    lines = ["step 1,250 loss 1.5012", "b", "c", "d"]
    frames.encode(plain_frame(lines), CONSOLE)
    lines[0] = "step 1,250 loss 1.5019"
    sent = frames.encode(changed(lines, (0, 0, WIDTH)), CONSOLE)
    assert sent == "\x1b[1;22H\x1b[38;2;255;255;255;48;2;0;0;0m9\x1b[0m"
    assert frames.encode(changed(lines, (0, 0, WIDTH), (2, 3, 9)), CONSOLE) == ""


def test_what_lies_outside_of_the_changed_span_is_not_taken_for_shown():
    """The compositor hands over whole lines of which only the span is to be drawn: the rest may be another widget's."""
    frames, terminal = Frames(), Terminal()
    lines = ["aaaaaaaa", "b", "c", "d"]
    terminal.feed(frames.encode(plain_frame(lines), CONSOLE))
    lines[0] = "xxxxxxxx"
    terminal.feed(frames.encode(changed(lines, (0, 0, 4)), CONSOLE))
    assert terminal.screen.display[0].startswith("xxxxaaaa")
    terminal.feed(frames.encode(changed(lines, (0, 4, 8)), CONSOLE))
    assert terminal.screen.display[0].startswith("xxxxxxxx")


def test_a_full_update_is_sent_whole_again():
    """After frames were dropped for a slow terminal, what it shows is not what it was sent: the repaint must be a whole one."""
    frames = Frames()
    frame = plain_frame(["a", "b", "c", "d"])
    first = frames.encode(frame, CONSOLE)
    assert frames.encode(plain_frame(["a", "b", "c", "d"]), CONSOLE) == first


@pytest.mark.parametrize("system", ["truecolor", "256", "standard"])
def test_colours_are_those_of_the_terminal(system):
    console = Console(color_system=system, force_terminal=True)
    sent = Frames().encode(plain_frame(["a", "b", "c", "d"]), console)
    expected = {"truecolor": "38;2;255;255;255;48;2;0;0;0", "256": "38;5;231;48;5;16", "standard": "97;40"}[system]
    assert f"\x1b[{expected}m" in sent
    assert sent.count(expected) == 1, "the letters' colour is set once, not once a line"


def test_a_link_is_left_to_textual():
    frames = Frames()
    link = Strip([Segment("a link".ljust(WIDTH), Style(link="https://example.org"))])
    update = LayoutUpdate([[link]] * HEIGHT, Region(0, 0, WIDTH, HEIGHT))
    assert "\x1b]8;" in frames.encode(update, CONSOLE)
