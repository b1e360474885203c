"""Evaluating in the chat what stands in the prompt, over a real, small run; and stopping while a model is opened."""

import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt import checkpoint
from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory
from tests.training import tiny_config, train, write_corpus
from tests.tui import panes
from tests.tui.panes import until
from tests.tui.test_chat import PaneApp, answered, ask
from tui.asking.evaluating import kept_results
from tui.widgets.chat import ChatPane
from tui.widgets.evaluate import EvaluatePane
from tui.widgets.panes import RunPanes
from tui.widgets.prompt import PromptField


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of forty steps, trained once for all tests here."""
    folder = tmp_path_factory.mktemp("trained")
    return train(tiny_config(write_corpus(folder / "corpus.txt"), folder / "run", device={"threads": 1}))


@pytest.fixture
def run(trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of that run, of which nothing has been asked."""
    return RunDirectory(Path(shutil.copytree(trained.path, tmp_path / "run")))


def transcript_of(run: RunDirectory) -> list[Row]:
    return [row for path in run.chat_dir.glob("*.jsonl") for row in read_journal(path)]


async def test_results_stand_among_the_answers_and_go_on_from_none(run: RunDirectory) -> None:
    """Guards the order, also where a text goes on behind a result, and that the keys of an answer still mean that."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+e")
        assert "Type or paste a text here first" in app.problem and not app.answers

        for key in "salt bell":  # in one burst, as a slow connection bundles it: the last letters belong to the text
            app.post_message(Key("space" if key == " " else key, key))
        app.post_message(Key("ctrl+e", None))
        await answered(pilot, 1)
        await until(pilot, lambda: app.chat._evaluation is None)
        (kept,) = kept_results(run)
        heading, text, figures, bits = app.answers[0].splitlines()
        assert (heading, text) == ("step 40 · evaluated", "› salt bell")
        assert figures.startswith(f"loss {kept['nll']:.4f} · perplexity ") and figures.endswith("%")
        assert "bits per character" in bits and bits.endswith(" per byte · 8 tokens")
        assert not app.prompt.text
        await pilot.press("up")
        assert app.prompt.text == "salt bell", "as after asking"

        await pilot.press("enter")
        await answered(pilot, 2)
        app.prompt.post_message(Paste("salt tide\rbell\r" * 100))
        await pilot.pause()
        await pilot.press("ctrl+e")
        await until(pilot, lambda: len(app.answers) == 3 and app.chat._evaluation is None)
        assert "› salt tide\nbell\nsalt tide\nbell… and 1,470 characters more\nloss" in app.answers[2]
        assert not app.problem
        await pilot.press("ctrl+n")
        await answered(pilot, 4)
        assert app.answers[3].startswith("step 40 · val") and "seed 2" in app.answers[3]

        await ask_to_evaluate(pilot, "tide")
        await until(pilot, lambda: len(app.answers) == 5 and app.chat._evaluation is None)
        before = app.answers[3]
        await pilot.press("ctrl+y")
        copied = app.clipboard
        await pilot.press("ctrl+g")
        await answered(pilot, 6)
        assert app.answers[3] == before and "seeds " in app.answers[5] and app.answers[5].count("› ") == 1
        await pilot.press("ctrl+y")
        assert copied and app.clipboard.startswith(copied) and len(app.clipboard) == len(copied) + 200
    assert [row["prompt"] for row in transcript_of(run)] == ["salt bell"] * 3, "a result is no answer"


async def ask_to_evaluate(pilot: Pilot[None], text: str) -> None:
    pilot.app.query_one(PromptField).put(text)
    await pilot.press("ctrl+e")


async def test_unknown_characters_are_replaced_or_left_out(run: RunDirectory) -> None:
    """The same way out as for a prompt, and what was refused comes back to be mended."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        for count, (key, done) in enumerate((("ctrl+r", "replaced"), ("ctrl+d", "dropped"))):
            await ask_to_evaluate(pilot, "salt é😀")
            await until(pilot, lambda: bool(app.problem))
            assert "✗ " in app.answers[2 * count] and "é (U+00E9" in app.answers[2 * count]
            assert app.problem == "Ctrl+R evaluates with these characters replaced, Ctrl+D without them."
            assert app.prompt.text == "salt é😀"
            await pilot.press(key)
            await until(pilot, lambda count=count: len(app.answers) == 2 * count + 2 and not app.chat._evaluation)  # type: ignore[misc]
            assert app.answers[2 * count + 1].startswith(f"step 40 · evaluated · 2 unknown characters {done}\n")
            assert not app.problem and not app.prompt.text
        await ask_to_evaluate(pilot, "s")
        await until(pilot, lambda: len(app.answers) == 5 and "too short" in app.answers[4])
        assert app.prompt.text == "s" and not app.problem


class SlowLoading:
    """Lets the opening of a checkpoint wait until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released = threading.Semaphore(0), threading.Event()
        self._load = checkpoint.load_named
        monkeypatch.setattr("minigpt.checkpoint.load_named", self._wait_and_load)

    def _wait_and_load(self, *arguments: Any) -> Any:
        self.begun.release()
        assert self.released.wait(20)
        return self._load(*arguments)


async def test_escape_does_not_wait_for_a_model_that_is_being_opened(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model took its time while nothing could be asked; and what was stopped must not answer after all."""
    loading = SlowLoading(monkeypatch)
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        others = set(threading.enumerate())
        await ask(pilot, "salt")
        await until(pilot, lambda: loading.begun.acquire(blocking=False))
        await pilot.press("x", "ctrl+e")
        assert "still answering" in app.problem and app.prompt.text == "x"
        await pilot.press("escape")
        assert app.answers == ["› salt\n(stopped)"] and not app.problem

        await ask_to_evaluate(pilot, "tide")
        await pilot.press("y", "enter")
        assert "An evaluation is going on" in app.problem and app.prompt.text == "y"
        await pilot.press("escape")
        assert app.answers[1:] == ["evaluation\n› tide\n(stopped)"] and not app.problem

        await ask(pilot, "bell")
        await pilot.pause()
        assert "opening the checkpoint" in app.answers[2]
        threads = [thread for thread in set(threading.enumerate()) - others if thread.name in {"chat", "evaluate"}]
        assert len(threads) == 3
        loading.released.set()
        await answered(pilot, 3)
        for thread in threads:
            thread.join(20)
        assert app.answers[:2] == ["› salt\n(stopped)", "evaluation\n› tide\n(stopped)"]
        assert app.answers[2].splitlines()[1].startswith("› bell") and not loading.begun.acquire(blocking=False)
        await pilot.press("escape")
        assert app.focused is None, "without anything to stop it leaves"
    assert [row["prompt"] for row in transcript_of(run)] == ["bell"] and not kept_results(run)


def texts_listed(app: App[None]) -> list[str]:
    """The texts of the results in the pane that lists them."""
    results = app.query_one(EvaluatePane).query(".result").results(Static)
    return [re.findall("“.*”", str(result.content))[0] for result in results]


@pytest.mark.parametrize("read_only", [False, True])
async def test_the_result_is_listed_with_the_others(run: RunDirectory, read_only: bool) -> None:
    """Guards the way into the pane of all results, which may stand beside the chat; read-only keeps nothing."""
    app = panes.PaneApp(lambda: RunPanes(run, read_only=read_only))
    async with app.run_test(size=(120, 36)) as pilot:
        chat, shown = app.query_one(ChatPane), app.query_one(RunPanes)
        chat.evaluate("salt tide")
        await until(pilot, lambda: chat._evaluation is None)
        await shown.show("evaluate")
        kept = [] if read_only else ["“salt tide”"]
        await until(pilot, lambda: texts_listed(app) == kept)
        chat.evaluate("bell")
        await until(pilot, lambda: texts_listed(app) == [*kept, "“bell”"])
    assert len(kept_results(run)) == 2 * (not read_only)
