"""Make the pictures of the documentation, from real runs on tiny Shakespeare.

    python docs/pictures.py [STEPS]

Trains `shakespeare-cpu` twice for a short while without a screen and then in the real program, to STEPS (default 1,500)
of 40,000 steps; takes each screen at three sizes. Tiny Shakespeare comes from MINIGPT_DATA_DIR or the download.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from os import environ
from pathlib import Path

from textual.pilot import Pilot

from minigpt.journal import read_journal
from minigpt.rundir import list_runs
from tui.app import MiniGPTApp
from tui.screens.ask_several import AskSeveralScreen
from tui.screens.changes import ChangesScreen
from tui.screens.dashboard import DashboardScreen

HERE = Path(__file__).parent
SIZES = ((120, 36), (80, 24), (200, 60))
PRESET = "shakespeare-cpu"
TEXT = [{" ": "space"}.get(letter, letter) for letter in "To be, or not to be: that is the question."]
NOTES = "Warm-up of 100 steps is enough.\n\nNext: dropout 0.1, since train and val part from step 1,000 on.\n"


async def take(pilot: Pilot[None], name: str, prepare: Callable[[], Awaitable[None]] | None = None) -> None:
    """The screen as it is, at each size; `prepare` brings it there again after a resize, if that needs keys."""
    for width, height in SIZES:
        await pilot.resize_terminal(width, height)
        await pilot.pause(1.0)
        if prepare is not None:
            await prepare()
            await pilot.pause(1.0)
        suffix = "" if (width, height) == SIZES[0] else f"-{width}x{height}"
        svg = pilot.app.export_screenshot(title="minigpt-tui")
        (HERE / f"{name}{suffix}.svg").write_text(svg, encoding="utf-8")
    await pilot.resize_terminal(*SIZES[0])
    await pilot.pause(0.5)


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float) -> None:
    """Wait for something that the training or an answer brings."""
    for _ in range(int(seconds / 0.25)):
        if condition():
            return
        await pilot.pause(0.25)
    raise SystemExit("it did not come to that in time")


def trained_to(app: MiniGPTApp) -> int:
    """The last step of the run that the app trains, -1 before its first row."""
    session = app.session
    if session is None or session.run_directory is None:
        return -1
    rows = read_journal(session.run_directory.metrics_file)
    return rows[-1]["step"] if rows else -1


async def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as directory:
        environ["MINIGPT_RUNS_DIR"] = f"{directory}/runs"
        environ["MINIGPT_SETTINGS"] = f"{directory}/settings.toml"
        environ["XDG_STATE_HOME"] = environ["HOME"] = directory
        texts = Path(directory, "texts")
        texts.mkdir()
        for text in (HERE.parent / "data").glob("*.txt"):
            shutil.copy(text, texts)
        for name, rate in (("higher-rate", "3e-3"), ("lower-rate", "3e-4")):
            options = ["--run.name", name, "--train.learning-rate", rate, "--train.max-steps", str(max(50, steps // 4))]
            subprocess.run([Path(sys.executable).with_name("minigpt"), "train", PRESET, *options], check=True)
        # More steps than the preset has, so that it still trains when the last picture is taken.
        app = MiniGPTApp(PRESET, ["--train.max-steps", "40000"])
        async with app.run_test(size=SIZES[0]) as pilot:
            await until(pilot, lambda: trained_to(app) >= steps, 3600)
            await pictures_of_a_run(pilot, app)
            await pilot.press("escape", "escape")
            await take(pilot, "home")
            app.push_screen(ChangesScreen(list_runs()[-1]))
            await pilot.pause(1.0)
            await pilot.press(*"5000")
            await take(pilot, "changes")
            await pilot.press("escape")
            await pictures_of_other_screens(pilot, app)
            app.request_stop()
            assert app.session is not None
            while app.session.is_alive():
                await pilot.pause(0.2)


async def pictures_of_a_run(pilot: Pilot[None], app: MiniGPTApp) -> None:
    """The dashboard in training, with a cursor, a chat, and its panes one by one."""
    dashboard = app.screen
    assert isinstance(dashboard, DashboardScreen)
    await pilot.press("c", *"ROMEO:", "enter")
    await pilot.pause(12.0)
    await pilot.press("escape", "1")
    await take(pilot, "dashboard")
    await pilot.press("plus", "plus", *["left"] * 20, "a")
    await take(pilot, "charts")
    await pilot.press("0", "a", "a", "a", "escape", "6")
    for letter in NOTES:
        await pilot.press({"\n": "enter", " ": "space"}.get(letter, letter))
    await pilot.press("escape")
    for pane in ("notes", "configuration", "events", "epochs"):
        await dashboard.action_show_pane(pane)
        await take(pilot, pane)
    await dashboard.action_show_pane("evaluate")
    await pilot.press("ctrl+s")
    await pilot.pause(15.0)
    await pilot.press("enter", *TEXT, "ctrl+e")
    await pilot.pause(5.0)
    await take(pilot, "evaluate")
    await pilot.press("escape", "escape")
    await pictures_of_the_chat(pilot, dashboard)
    await pilot.press("1", "2", "m", "enter")
    await take(pilot, "sample")
    await pilot.press("enter", "m", "1", "question_mark")
    await take(pilot, "keys")
    await pilot.press("escape")
    await pictures_of_dialogs(pilot)
    run = dashboard.run_directory
    assert run is not None
    kept = [str(checkpoint.step) for checkpoint in run.checkpoints()]
    app.push_screen(
        AskSeveralScreen([(run, step) for step in (kept[0], kept[len(kept) // 2], kept[-1])], prompt="ROMEO:")
    )
    await pilot.pause(2.0)
    await pilot.press("enter")
    await pilot.pause(1.0)
    await pilot.press("enter")
    await pilot.pause(25.0)
    await take(pilot, "several")
    await pilot.press("escape")
    await pilot.pause(0.5)
    if isinstance(app.screen, AskSeveralScreen):
        await pilot.press("escape")


async def pictures_of_the_chat(pilot: Pilot[None], dashboard: DashboardScreen) -> None:
    """The chat alone: an answer, how it went on, and how well the model predicts a text."""
    await pilot.press("c", *"JULIET:", "enter")
    await pilot.pause(8.0)
    await pilot.press("ctrl+g")
    await pilot.pause(8.0)
    await pilot.press(*TEXT, "ctrl+e")
    await pilot.pause(5.0)
    await dashboard.action_maximise()
    await take(pilot, "chat")
    await pilot.press("escape", "1")


async def pictures_of_dialogs(pilot: Pilot[None]) -> None:
    """What is asked and chosen over the dashboard."""
    windows = {"metrics": "v", "all-metrics": "V", "checkpoints": "o", "question": "q", "palette": "ctrl+p"}
    for name, key in windows.items():
        await pilot.press(key)
        await pilot.pause(1.0)
        await take(pilot, name)
        await pilot.press("escape")
        await pilot.pause(0.5)


async def pictures_of_other_screens(pilot: Pilot[None], app: MiniGPTApp) -> None:
    """A comparison, the form of a new run and its file picker."""
    app.open_comparison(list_runs())
    await pilot.pause(3.0)
    await take(pilot, "comparison")
    app.action_go_home()
    from tui.screens.files import FilesScreen
    from tui.screens.launch import LaunchScreen

    app.push_screen(LaunchScreen(PRESET))
    await pilot.pause(8.0)
    await take(pilot, "launch")
    app.push_screen(FilesScreen(Path("~/texts").expanduser()))
    await pilot.pause(1.0)
    await pilot.press("down", "down")
    await pilot.pause(2.0)
    await take(pilot, "files")
    app.action_go_home()


if __name__ == "__main__":
    asyncio.run(main())
