"""What the first frame does without: all of it is loaded behind it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LATER = {
    "hashlib",
    "minigpt.commands",
    "minigpt.metrics",
    "numpy",
    "pydantic",
    "secrets",
    "textual.widgets._text_area",
    "torch",
    "tui.run.following",
    "tui.screens.compare",
    "tui.screens.dashboard",
    "tui.screens.launch",
    "tui.screens.rename",
    "tui.widgets.panes",
    "tyro",
}

PROGRAM = """
import asyncio, sys
from tui.app import MiniGPTApp
from tui.screens.home import HomeScreen

loaded = []
HomeScreen._after_first_frame = lambda screen: loaded.append(set(sys.modules))

async def main():
    app = MiniGPTApp()
    async with app.run_test(size=(120, 40)):
        while not loaded:
            await asyncio.sleep(0.01)
        app.exit()

asyncio.run(main())
print(*loaded[0])
"""


def test_the_first_frame_waits_for_nothing_that_it_does_not_show() -> None:
    """It came half as late again as that of an empty app: what only a later screen needs was imported before it."""
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(result.stdout.split())
    assert "tui.screens.home" in loaded
    assert loaded & LATER == set()
