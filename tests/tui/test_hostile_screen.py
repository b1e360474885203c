"""The screen over damaged and hostile runs: what it knows of each, and for some the dashboard itself."""

import time
from pathlib import Path

import pytest

from minigpt.display import changed_settings
from minigpt.rundir import RunDirectory
from tests.hostile import KINDS, damaged_runs, whole_run
from tests.tui.pictures import loss_picture, perplexity_picture
from tests.tui.test_dashboard import dashboard, steady_machine, words_of  # noqa: F401
from tui.asking.answering import Transcript
from tui.asking.evaluating import kept_results
from tui.asking.models import chosen_title
from tui.run.absence import Seen, since_then
from tui.run.ended import how_it_ended
from tui.run.following import Following
from tui.screens.checkpoints import checkpoint_entries
from tui.widgets.chat import ChatPane
from tui.widgets.epochs import newest_evaluation
from tui.widgets.evaluate import EvaluatePane
from tui.widgets.exchange import result_text
from tui.widgets.progress import header, progress
from tui.widgets.sample import sample_text

pytestmark = pytest.mark.timeout(100)  # a pipe that somebody opens waits for ever


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return whole_run(tmp_path_factory.mktemp("whole"))


def look_at(run: RunDirectory) -> None:
    """Ask all that the panes of a dashboard ask."""
    following = Following(run)
    end = time.monotonic() + 20
    while following.behind and time.monotonic() < end:  # what is long is read by a thread
        following.poll()
        time.sleep(0.002)
    assert not following.behind, "it never has read all"
    for width in (40, 120):
        header(following, width)
        progress(following, width)
    loss_picture(following, logarithmic=True)
    perplexity_picture(following, logarithmic=False)
    newest_evaluation(following)
    for sample in following.samples:
        sample_text(sample)
    for row in kept_results(run):
        result_text(row)
    Transcript(run).earlier_prompts()
    for which in ("last", "best", "20"):
        chosen_title(run, which, "chat", 60)
    checkpoint_entries(run)
    how_it_ended(following, None)
    changed_settings(following.started)
    since_then(Seen(0.0, 5, 0, None), following, 1e9)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_the_screen_asks_has_an_answer(whole: RunDirectory, tmp_path: Path, kind: str) -> None:
    failed = []
    for name, run in damaged_runs(whole, tmp_path, KINDS[kind]):
        try:
            look_at(run)
        except Exception as error:  # noqa: BLE001 - whatever it is, the screen would have crashed
            failed.append(f"{name}: {error!r}"[:300])
    assert failed == []


SHOWN = {
    "files": ["events:pipe"],
    "directories": ["checkpoints:link-out"],
}


async def test_the_dashboard_opens(whole: RunDirectory, tmp_path: Path) -> None:
    """With all its panes: the chat reads transcripts, the evaluation earlier results."""
    for kind, names in SHOWN.items():
        damages = {name: KINDS[kind][name] for name in names}
        for name, run in damaged_runs(whole, tmp_path / kind, damages):
            async with dashboard(run) as (pilot, screen):
                await pilot.press("c", "escape", "e", "escape", "t")
                await pilot.pause()
                assert screen.query_one(ChatPane) and screen.query_one(EvaluatePane), name
                assert "run" in words_of(screen, "#header"), name
