"""Whatever text a run holds, it stays in its pane: seen through a terminal emulator, fed with what the driver writes."""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual._compositor import CompositorUpdate
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widget import Widget

from minigpt.cli import main
from minigpt.display import PlainDisplay, ProgressDisplay
from minigpt.journal import JournalWriter
from minigpt.rundir import RunDirectory
from tests.end_to_end.terminal import Program
from tests.recorded import NAME, recorded_run
from tests.tui.panes import BareApp, settled
from tests.tui.test_dashboard import steady_machine  # noqa: F401
from tui.app import MiniGPTApp
from tui.screens.dashboard import DashboardScreen
from tui.widgets.sample import SamplePane
from tui.widgets.status_line import StatusLine

COLUMNS, ROWS = 120, 36
HARMLESS = "ROMEO:\nWhat light through yonder window breaks?"

CONTROLS = [
    *("\x1b[2J", "\x1b[H", "\x1b[31m", "\x1b]0;owned\x07", "\x1b]52;c;cm0=\x1b\\", "\x1b[?1049l", "\x1b[6n", "\x1bc"),
    *("\x1b(0", "\x9b5A", "\x9d0;owned\x9c", "\x0e", "\r", "\r\n", "\b\b\b", "\t", "\v", "\f", "\x85", "\x07", "\x7f"),
    *("\u2028", "\u202etxt.exe", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u200b", "\ufeff", "\0", "\ud800"),
    *(
        "e" + "\u0301" * 300,
        "\u0301",
        "漢字",
        "ﷺ",
        "\u3000",
        "👩\u200d👧",
        "🇩🇪🇫🇷",
        "👍🏽",
        "☁\ufe0f",
        "1\ufe0f\u20e3",
        "\U0001f9ff",
    ),
    *(
        "[b]bold[/b]",
        "[link=x]",
        "[@click=app.quit]",
        "[/",
        "\\[",
        "{x}",
        "%s",
        "\u1100\u1161\u11a8",
        "क\u094dष",
        "\u05c8",
    ),
]
hostile = st.lists(st.text(max_size=12) | st.sampled_from(CONTROLS), max_size=12).map("".join)


class Terminal:
    """A terminal emulator that is given what the app's driver would write."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.written = ""
        self._stream = pyte.Stream(self.screen)

    def feed(self, text: str) -> None:
        self.written += text
        self._stream.feed(text.replace("\n", "\r\n"))  # as a terminal does

    def cells(self, leave_out: Region) -> list[tuple[Any, ...]]:
        """All cells with their colours, but for those of a region."""
        buffer = self.screen.buffer
        return [tuple(buffer[y][x]) for y in range(ROWS) for x in range(COLUMNS) if not leave_out.contains(x, y)]

    def assert_untouched(self) -> None:
        """Nothing but drawing came: no title, no mode, no other character set."""
        fresh = pyte.Screen(COLUMNS, ROWS)
        assert (self.screen.title, self.screen.icon_name, self.screen.mode) == ("", "", fresh.mode)
        assert (self.screen.charset, self.screen.margins) == (0, None)
        # Colours and places to draw at are all that the driver sends within a frame.
        rest = re.sub(r"\x1b\[[0-9;]*[mH]", "", self.written)
        assert not set(rest) & {chr(code) for code in (*range(10), *range(11, 32), *range(0x7F, 0xA0))}


@contextlib.contextmanager
def terminals() -> Iterator[Callable[[], Terminal]]:
    """Makes terminals; the one made last gets what is drawn."""
    made: list[Terminal] = []

    displayed = MiniGPTApp._display

    def display(app: MiniGPTApp, screen: Any, renderable: Any) -> None:
        displayed(app, screen, renderable)  # without a terminal it writes nothing, but its caller waits for it
        if made and isinstance(renderable, CompositorUpdate) and not app._batch_count:
            made[-1].feed(renderable.render_segments(app.console))

    def make() -> Terminal:
        made.append(Terminal())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MiniGPTApp, "_display", display)
        yield make


@contextlib.asynccontextmanager
async def dashboard(run: RunDirectory) -> AsyncIterator[tuple[Pilot[None], DashboardScreen]]:
    app = BareApp()
    async with app.run_test(size=(COLUMNS, ROWS)) as pilot:
        screen = DashboardScreen(run)
        await app.push_screen(screen)
        await settled(pilot)
        yield pilot, screen


async def repainted(pilot: Pilot[None], make: Callable[[], Terminal]) -> Terminal:
    """The whole screen as it is now, in a fresh terminal."""
    await pilot.pause()
    terminal = make()
    screen = pilot.app.screen
    pilot.app._display(screen, screen._compositor.render_update(full=True))
    return terminal


@settings(max_examples=1)
@given(texts=st.lists(hostile, min_size=10, max_size=10))
def test_a_sample_changes_nothing_outside_of_its_pane(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    """Neither when the whole screen is painted nor when only what changed is."""
    run = recorded_run(tmp_path_factory.mktemp("run"), steps=1000)

    async def look() -> None:
        with terminals() as terminal:
            async with dashboard(run) as (pilot, screen):
                pane = screen.query_one(SamplePane)
                pane.show([sample(HARMLESS)])
                expected = (await repainted(pilot, terminal)).cells(pane.region)
                for text in texts:
                    pane.show([sample(HARMLESS)])
                    whole = await repainted(pilot, terminal)
                    pane.show([sample(text)])
                    await pilot.pause()
                    whole.assert_untouched()
                    assert whole.cells(pane.region) == expected, "drawn where it changed"
                    assert (await repainted(pilot, terminal)).cells(pane.region) == expected, "drawn as a whole"

    asyncio.run(look())


def sample(text: str) -> dict[str, Any]:
    return {"step": 1000, "attempt": 1, "prompt": text[:5], "text": text}


@settings(max_examples=3)
@given(texts=st.tuples(*[hostile] * 4))
def test_words_of_events_stay_in_their_lines(tmp_path_factory: pytest.TempPathFactory, texts: tuple[str, ...]) -> None:
    """The corpus, the device and the failure of a run are text of anybody's, too; and so is its name."""
    folder = tmp_path_factory.mktemp("run")
    run = recorded_run(folder, ended="", steps=500)
    name = re.sub("[/\0]", "", texts[0]).encode("utf-8", "replace")[:60].decode("utf-8", "ignore").strip(".") or "x"
    run.path.rename(folder / name)
    run = RunDirectory(folder / name)
    events = JournalWriter(run.events_file)
    started = {
        "event": "started",
        "attempt": 1,
        "step": 0,
        "corpus": texts[1],
        "device": texts[2],
        "precision": texts[1],
    }
    events.append({**started, "device_name": texts[2], "max_steps": 2000})
    events.append({"event": "failed", "attempt": 1, "step": 500, "message": texts[3]})
    events.close()

    async def look() -> None:
        with terminals() as terminal:
            async with dashboard(run) as (pilot, screen):
                drawn = await repainted(pilot, terminal)
                drawn.assert_untouched()
                own = [screen.query_one("#header", StatusLine), screen.query_one("#notice")]
                assert_borders_stand(drawn, screen, own)

    asyncio.run(look())


def assert_borders_stand(terminal: Terminal, screen: DashboardScreen, own: list[Widget]) -> None:
    """Each cell below these lines is what the app has put there, and each line ends where the screen does."""
    strips = screen._compositor.render_strips()
    for y, strip in enumerate(strips):
        expected = [character for segment in strip for character in segment.text if character]
        if any(widget.region.contains(widget.region.x, y) for widget in own):
            continue
        assert "".join(cell.data for cell in (terminal.screen.buffer[y][x] for x in range(COLUMNS))) == "".join(
            expected
        )


def test_the_real_program_shows_them_inert(tmp_path: Path) -> None:
    """Through the real driver: leafed through, samples of all kinds leave the rest of the screen as it was."""
    run = recorded_run(tmp_path, steps=1000)
    texts = [f"{index} {control} {control}{control}\nand {control}" for index, control in enumerate(CONTROLS)]
    run.samples_file.write_text("".join(json.dumps(sample(text)) + "\n" for text in [*texts, HARMLESS]))
    with Program(run.path, columns=COLUMNS, rows=ROWS) as program:
        program.wait_until("yonder window")
        program.wait_until("? keys")
        program.wait_until_still()
        corner = program.find("sample · step 1,000")
        memory = program.find("memory ─")
        assert corner is not None and memory is not None
        top, left = corner[0], memory[1] - 3

        def outside() -> list[list[pyte.screens.Char]]:
            return [*program.cells(0, 0, ROWS, left), *program.cells(0, left, memory[0], COLUMNS)]

        before = outside()
        for index in reversed(range(len(texts))):
            program.press("[")
            program.wait_until(lambda index=index: f"{index + 1} of {len(texts) + 1}" in program.text)
            assert outside() == before, repr(texts[index])
        assert program.lines[top].count("sample · step 1,000") == 1
        program.press("q")
        assert program.wait() == 0
        program.assert_restored()
        assert b"owned" not in re.sub(rb"[^\x07\x1b]*owned", b"", program.output) or b"]0;owned" not in program.output
        assert b"\x1b]0;" not in program.output and b"\x1b]52;" not in program.output
        assert "\x9b" not in program.output.decode()


# ── without a screen ──────────────────────────────────────────────────────────────────────────────────────────────


@given(hostile, hostile)
def test_what_training_prints_is_inert(text: str, name: str) -> None:
    """A notice may quote a file's name, a compiler's message, a line of the corpus."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for display in (PlainDisplay(), ProgressDisplay()):
            display.phase(text)
            display.event({"event": "started", "step": 0, "corpus": text, "device": name, "precision": text})
            display.event({"event": "notice", "step": 1, "message": text, name: text})
            display.row({"step": 1, name: text, "train_loss": 1.5})
            display.close()
    assert_inert(printed.getvalue())


@settings(max_examples=20)
@given(hostile)
def test_the_list_of_runs_is_inert(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    runs = tmp_path_factory.mktemp("runs")
    name = re.sub("[/\0]", "", text).encode("utf-8", "replace")[:80].decode("utf-8", "ignore").strip(".") or "x"
    recorded_run(runs, steps=20)
    (runs / NAME).rename(runs / name)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("MINIGPT_RUNS_DIR", str(runs))
        assert main(["runs"]) == 0
    assert_inert(printed.getvalue())


def assert_inert(printed: str) -> None:
    assert not set(printed) & {chr(code) for code in (*range(10), *range(11, 32), *range(0x7F, 0xA0))}
    assert not re.search("[\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", printed)
    assert not re.search("(?:\u0301){9}", printed)
