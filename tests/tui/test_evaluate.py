"""The evaluate pane over a real, small run: the split, a text, unknown characters, a cancelled job, what is kept."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from textual.app import App, ComposeResult
from textual.events import Paste
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.config import Config
from minigpt.files import write_atomically
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.training import tiny_config as make_tiny_config
from tests.training import train, write_corpus
from tests.tui.panes import until
from tui import styles
from tui.asking.evaluating import Evaluating, kept_results
from tui.asking.models import Models
from tui.asking.transcript import LONGEST_TEXT
from tui.theme import DARK
from tui.widgets.evaluate import EvaluatePane, Results, TextField
from tui.widgets.exchange import result_text


class PaneApp(App[None]):
    """The pane alone, under the app's styles."""

    CSS_PATH = styles.ALL
    CSS = "EvaluatePane { height: 1fr; }"

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.run_directory = run

    def compose(self) -> ComposeResult:
        yield EvaluatePane(self.run_directory)

    def on_mount(self) -> None:
        self.pane.focus()

    @property
    def pane(self) -> EvaluatePane:
        return self.query_one(EvaluatePane)

    @property
    def field(self) -> TextField:
        return self.query_one(TextField)

    @property
    def results(self) -> list[str]:
        return [str(widget.content) for widget in self.query(".result").results(Static)]

    @property
    def status(self) -> str:
        return str(self.query_one("#evaluate-status", Static).content)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of forty steps, trained once for all tests here."""
    folder = tmp_path_factory.mktemp("trained")
    config: Config = make_tiny_config(write_corpus(folder / "corpus.txt"), folder / "run", device={"threads": 1})
    return train(config)


@pytest.fixture
def run(trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of that run, in which nothing has been evaluated."""
    return RunDirectory(Path(shutil.copytree(trained.path, tmp_path / "run")))


async def test_the_validation_split_comes_out_as_in_training(run: RunDirectory) -> None:
    """Guards the way to the engine: the same number as the trainer's, of the checkpoint that is named, and kept."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: bool(app.results))
        loss = run.checkpoint("last").info()["val_loss"]
        assert app.results[0].startswith("step 40  validation split of corpus.txt\n")
        assert f"loss {loss:.4f}" in app.results[0]
        for words in ("perplexity", "accuracy", "% ", "bits per character", "per byte", "tokens"):
            assert words.strip() in app.results[0]
        assert app.status == ""
    written = json.loads((run.evaluations_dir / "evaluation_metrics.json").read_text())
    assert written["step"] == 40 and written["split"] == "val" and written["nll"] == pytest.approx(loss, rel=1e-4)


async def test_a_pasted_text_keeps_its_lines(run: RunDirectory) -> None:
    """Terminals send a carriage return for each line; a field of one line would have kept the first only."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        app.field.post_message(Paste("salt tide bell\rroad lamp.\r\nsalt\n"))
        await pilot.pause()
        assert app.field.text == "salt tide bell\nroad lamp.\nsalt\n"
        await pilot.press("ctrl+e")
        await until(pilot, lambda: bool(app.results))
        assert "“salt tide bell road lamp. salt”" in app.results[0]
        assert "30 tokens" in app.results[0]
        assert app.field.text, "it can be evaluated again, by another checkpoint"


@pytest.mark.parametrize(("key", "evaluated"), [("ctrl+r", "salt e   "), ("ctrl+d", "salt  ")])
async def test_unknown_characters_are_named_and_replaced_or_dropped(
    run: RunDirectory, key: str, evaluated: str
) -> None:
    """Guards the choice: an accent, an emoji and a Chinese character at once."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        app.field.text = "salt é😀月 "
        app.field.move_cursor(app.field.document.end)
        await pilot.press(key)  # nothing was refused yet
        await pilot.press("ctrl+e")
        await until(pilot, lambda: "✗" in app.status)
        for name in ("U+00E9", "U+1F600", "U+6708", "Ctrl+R", "Ctrl+D"):
            assert name in app.status
        assert "--unknown" not in app.status
        await pilot.press(key)
        await until(pilot, lambda: bool(app.results))
        assert f"{len(evaluated) - 1} tokens" in app.results[0]
        assert app.field.text == "salt é😀月 "
        assert not app.status


async def test_a_text_too_short_and_no_text_are_messages(run: RunDirectory) -> None:
    """Guards the edges: nothing to predict."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+e")
        assert "no text yet" in app.status
        await pilot.press("enter", "s", "ctrl+e")
        await until(pilot, lambda: "too short" in app.status)
        assert not app.results


async def test_escape_stops_it_and_then_leaves(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a long evaluation that nobody could end, and that one at a time goes on."""

    def endless(*_: Any, progress: Callable[[str], None], **__: Any) -> None:
        while True:
            progress("evaluating: 3%")
            time.sleep(0.01)

    monkeypatch.setattr("minigpt.evaluations.evaluate_split", endless)
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.status == "evaluating: 3% … Esc stops it.")
        await pilot.press("ctrl+s")
        assert "going on" in app.status
        await pilot.press("escape")
        await until(pilot, lambda: app.status == "Stopped.")
        assert app.focused is app.query_one(Results)
        assert not app.results


async def test_the_keys_are_not_swallowed_until_somebody_goes_into_the_field(run: RunDirectory) -> None:
    """The number keys were typed into the field, and did not switch the panes any more, without a word."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        results = app.query_one(Results)
        for way in ("enter", "tab"):
            assert app.focused is results
            await pilot.press("5", way, "1", "2")
            assert app.focused is app.field
            await pilot.press("escape")
        assert app.field.text == "1212"
        results.post_message(Paste("\x1b[2J3"))
        await until(pilot, lambda: app.focused is app.field)
        assert app.field.text == "1212␛[2J3", "what is pasted is meant for the field"


async def test_what_was_evaluated_before_is_listed(run: RunDirectory) -> None:
    """Results of `minigpt evaluate` are results of the run; a file from elsewhere cannot steer the screen."""
    run.evaluations_dir.mkdir()
    rows = [
        {"time": 2, "step": 30, "split": "val", "corpus": "later", "nll": 1.25, "accuracy": None},
        {"time": 1, "step": 20, "split": "file", "corpus": "[b]x\x1b[2J", "nll": 1.5, "tokens": 1234},
    ]
    for row in rows:
        write_atomically(run.evaluations_dir / f"step-{row['step']:08d}-val.json", json.dumps(row))
    write_atomically(run.evaluations_dir / "step-00000001-val.json", "[" * 2000)
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)):
        assert [result.splitlines()[0] for result in app.results] == [
            "step 20  [b]x␛[2J",
            "step 30  validation split of later",
        ]
        assert "loss 1.5000 · perplexity – · accuracy –" in app.results[0]
        assert "1,234 tokens" in app.results[0]


async def test_another_checkpoint_is_evaluated_once_chosen(run: RunDirectory) -> None:
    """Guards that the file named is the file opened."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        oldest = run.checkpoints()[0].step
        app.pane.choose(str(oldest))
        assert f"evaluate · step {oldest}" in str(app.pane.border_title)
        app.field.text = "salt tide"
        await pilot.press("ctrl+e")
        await until(pilot, lambda: bool(app.results))
        assert app.results[0].startswith(f"step {oldest}  text ")


async def test_a_paste_beyond_measure_is_cut(run: RunDirectory) -> None:
    """A megabyte in the field would hold up the screen, and the training beside it."""
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        app.field.post_message(Paste("salt tide\n" * (LONGEST_TEXT // 10 + 500)))
        await pilot.pause()
        assert len(app.field.text) == LONGEST_TEXT
        assert any("--split FILE" in notification.message for notification in app._notifications)
        app.field.select_all()
        app.field.post_message(Paste("salt"))
        await until(pilot, lambda: app.field.text == "salt")  # there was no room, and both were lost


def test_it_draws_no_random_number_and_a_full_disk_is_no_failure(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training may go on in this very process: its generator and its threads must not be touched."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minigpt.evaluations.keep", full)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    for text in (None, "salt tide bell"):
        job = Evaluating(run, Models(), which="last", text=text)
        job.run()
        assert job.state == "done" and job.result is not None
        assert "No space left" in job.error
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_two_texts_are_kept_in_two_files(run: RunDirectory) -> None:
    """The engine names a result by checkpoint and text: the second must not take the place of the first."""
    for text in ("salt tide", "bell/road"):
        Evaluating(run, Models(), which="last", text=text.replace("/", " ")).run()
    assert [row["tokens"] for row in kept_results(run)] == [8, 8]


def test_what_is_stopped_at_the_last_moment_is_not_kept(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was said to be stopped, and stood among the results the next time."""
    job = Evaluating(run, Models(), which="last", text="salt tide")
    monkeypatch.setattr("minigpt.evaluations.metrics_of", lambda *_: job.cancel() or {"step": 1})
    job.run()
    assert job.state == "stopped"
    assert not kept_results(run)


def test_a_result_of_anything() -> None:
    """Guards the list against a file in which somebody wrote something else."""
    assert result_text({"step": "x", "nll": [], "corpus": None, "accuracy": True}).plain.startswith("step –  \nloss –")


@pytest.mark.parametrize("size", [(80, 20), (64, 33)], ids=lambda size: "x".join(map(str, size)))
def test_looks(snap_compare: Callable[..., bool], tmp_path: Path, size: tuple[int, int]) -> None:
    """Guards the layout as a tab at 80x24, and in place of the charts at 120x36."""
    recorded = recorded_run(tmp_path)
    recorded.evaluations_dir.mkdir()
    numbers = {"bits_per_character": 1.9, "bits_per_byte": 1.88, "perplexity": 4.31, "nll": 1.4614, "accuracy": 0.5612}
    for number, (split, corpus, tokens) in enumerate((("val", "the-play", 6841), ("file", "text 917f9188 “月落”", 17))):
        row = {"time": number, "step": 2000, "split": split, "corpus": corpus, "tokens": tokens, **numbers}
        write_atomically(recorded.evaluations_dir / f"step-00002000-{split}.json", json.dumps(row))

    async def paste(pilot: Pilot[None]) -> None:
        field = pilot.app.query_one(TextField)
        field.post_message(Paste("月落空庭树影长，\r邻家捣药隔墙香。\rROMEO: what light is this?\r"))
        await pilot.pause()

    assert snap_compare(PaneApp(recorded), terminal_size=size, run_before=paste)
