"""Make the pictures of the documentation from a real run.

    python docs/pictures.py [STEP]

Trains `quickstart` in the real program, asks the model something when it has come to STEP (default 1,500), and takes
the screen at three sizes; the home screen afterwards.
"""

import asyncio
import sys
import tempfile
from os import environ
from pathlib import Path

from textual.pilot import Pilot

from minigpt.journal import read_journal
from tui.app import MiniGPTApp

HERE = Path(__file__).parent
SIZES = {"": (120, 36), "-80x24": (80, 24), "-200x60": (200, 60)}


async def take(pilot: Pilot[None], name: str, width: int, height: int) -> None:
    await pilot.resize_terminal(width, height)
    await pilot.pause(2.0)
    (HERE / f"{name}.svg").write_text(pilot.app.export_screenshot(title="minigpt-tui"), encoding="utf-8")


async def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as runs:
        environ["MINIGPT_RUNS_DIR"] = runs
        app = MiniGPTApp("quickstart")
        async with app.run_test(size=SIZES[""]) as pilot:
            step = -1
            while step < wanted:
                await pilot.pause(0.5)
                session = app.session
                if session is not None and session.run_directory is not None:
                    rows = read_journal(session.run_directory.metrics_file)
                    step = rows[-1]["step"] if rows else -1
            await pilot.press("c", *"ANNIS:", "enter")
            await pilot.pause(14.0)
            await pilot.press("escape")
            for suffix, size in SIZES.items():
                await take(pilot, f"dashboard{suffix}", *size)
            await pilot.press("escape")
            for suffix, size in SIZES.items():
                await take(pilot, f"home{suffix}", *size)
            app.request_stop()
            assert app.session is not None
            while app.session.is_alive():
                await pilot.pause(0.2)


if __name__ == "__main__":
    asyncio.run(main())
