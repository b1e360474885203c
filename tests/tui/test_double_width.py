"""Chinese text, whose characters take two cells each: it shows, wraps and chats right."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.journal import JournalWriter
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import BareApp, until
from tests.tui.test_chat import MadeUpModel
from tests.tui.test_dashboard import dashboard, steady_machine  # noqa: F401
from tui.widgets.chat import ChatPane
from tui.widgets.prompt import PromptField
from tui.widgets.sample import SamplePane

POEMS = Path(__file__).parents[1] / "data" / "chinese"


def poems() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(POEMS.glob("*.txt"))]


def with_samples(run: RunDirectory, *texts: str) -> RunDirectory:
    samples = JournalWriter(run.samples_file)
    for text in texts:
        samples.append({"step": 2000, "attempt": 2, "time": 0.0, "prompt": "月", "text": text})
    samples.close()
    return run


@pytest.mark.parametrize("width", [110, 111, 120])
async def test_a_long_line_wraps_at_whole_characters(tmp_path: Path, width: int) -> None:
    """Half a character has no cell to go to: a line of odd width ends one cell early, and nothing is lost."""
    text = "".join("".join(poem.split()) for poem in poems()[:4])
    run = with_samples(recorded_run(tmp_path), text)
    async with dashboard(run, size=(width, 36)) as (pilot, screen):
        await pilot.pause()
        shown = screen.query_one("#sample-text", Static)
        lines = ["".join(part.text for part in strip) for strip in shown.render_lines(shown.size.region)]
        assert all(cell_len(line) == shown.size.width for line in lines)
        assert all(cell_len(line.rstrip()) >= shown.size.width - 2 for line in lines[:-1])
        assert "".join(line.rstrip() for line in lines) == "月" + text
        assert screen.query_one(SamplePane).size.width >= shown.size.width


async def test_the_cursor_stands_where_the_next_character_comes(tmp_path: Path) -> None:
    """Counted in characters instead of cells, it stood in the middle of the line."""
    async with dashboard(recorded_run(tmp_path), size=(80, 24)) as (pilot, screen):
        await pilot.press("c", *"月落a空")
        prompt = screen.query_one(PromptField)
        assert prompt.text == "月落a空"
        await pilot.press("left", "left")
        await pilot.pause()
        assert prompt.cursor_screen_offset.x - prompt.region.x == cell_len("月落")


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
def test_looks(
    snap_compare: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Guards sample, chat and prompt with poems in them, between panes that must not move."""
    model = MadeUpModel(monkeypatch, [poems()[2], "".join(poems()[3].split()) * 2])
    model.released.set()
    run = with_samples(recorded_run(tmp_path), poems()[0])

    class Opened(BareApp):
        def on_mount(self) -> None:
            self.open_run(run)

    async def talk(pilot: Pilot[None]) -> None:
        await pilot.press("c", *"秋夜", "enter")
        chat = pilot.app.screen.query_one(ChatPane)
        await until(pilot, lambda: bool(model.asked) and chat._answer is None)
        await pilot.press(*"月落 moon 空")
        await pilot.pause()

    assert snap_compare(Opened(), terminal_size=size, run_before=talk)
