"""Several checkpoints, of one run or of two, answer one prompt. Small models answer, or a made-up one."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.config import Config
from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from tests.recorded import recorded_run
from tests.training import train
from tests.tui.panes import settled, until
from tests.tui.test_chat import MadeUpModel
from tests.tui.test_chat import PaneApp as ChatApp
from tests.tui.test_chat_evaluation import SlowLoading
from tui import styles
from tui.asking.models import spread
from tui.screens.ask_several import MOST_CHOSEN, MOST_LISTED, AskSeveralScreen, CheckpointTable, Column
from tui.theme import DARK
from tui.widgets.prompt import PromptField
from tui.widgets.sampling import SamplingInput


class SeveralApp(App[None]):
    """The screen alone, under the app's styles."""

    CSS_PATH = styles.ALL

    def __init__(self, choices: Sequence[tuple[RunDirectory, str]], prompt: str = "", **options: Any) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.several = AskSeveralScreen(choices, prompt=prompt, **options)

    def on_mount(self) -> None:
        self.push_screen(self.several)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Title and text of each answer."""
        return [
            (str(column.border_title).strip(), str(column.query_one(Static).content))
            for column in self.several.query(Column)
        ]

    @property
    def said(self) -> str:
        return str(self.several.query_one("#several-said", Static).content)


async def over(pilot: Pilot[None]) -> None:
    app = pilot.app
    assert isinstance(app, SeveralApp)
    await until(pilot, lambda: bool(app.columns) and app.several._job is None)


def rows_of(run: RunDirectory) -> list[Row]:
    return [row for path in sorted(run.chat_dir.glob("*.jsonl")) for row in read_journal(path)]


@pytest.fixture
def recorded(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> MadeUpModel:
    return MadeUpModel(monkeypatch, ["\nThe tide ", "is out,\n", "and the boats are in."])


async def test_real_checkpoints_answer_one_after_the_other(tiny_config: Config) -> None:
    """Guards prompt, seed and names from the list to the screen and the transcript: each answers for itself."""
    run = train(tiny_config)
    steps = [str(checkpoint.step) for checkpoint in run.checkpoints()]
    app = SeveralApp([(run, step) for step in steps], "salt", sampling=Sampling(max_new_tokens=30, seed=5))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("enter")
        await over(pilot)
        titles, texts = [title for title, _ in app.columns], [text for _, text in app.columns]
        await pilot.press("ctrl+y")
    assert [title.split(" · ")[0] for title in titles] == [f"step {step}" for step in steps]
    assert len(steps) >= 2 and len({text.split("\n", 1)[1] for text in texts}) == len(steps)
    assert all(re.match(r"(val [\d.]+ · )?seed 5 · [\d.]+k? tok/s\n", text) for text in texts)
    rows = rows_of(run)
    assert [(str(row["step"]), row["prompt"], row["seed"], row["tokens"]) for row in rows] == [
        (step, "salt", 5, 30) for step in steps
    ]
    assert all(row["text"] in app.clipboard for row in rows) and app.clipboard.startswith("prompt: salt\n")


async def test_one_model_at_a_time_is_in_memory(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four copies of a model that just fits would not fit."""
    import gc
    import weakref

    from tui.asking.models import Models

    class Weights:
        pass

    def load(run: RunDirectory, which: str) -> tuple[object, Weights, None]:
        gc.collect()
        assert not [one for one in opened if one() is not None], "the one before is still in memory"
        weights = Weights()
        opened.append(weakref.ref(weights))
        return run.checkpoint(which), weights, None

    opened: list[weakref.ref[Weights]] = []
    monkeypatch.setattr("minigpt.checkpoint.load_named", load)
    models = Models()
    for step in spread(recorded):
        models.open(recorded, step)
    assert len(opened) == 4


async def test_the_list_says_who_answers(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards ticks by keys, the limit, and the order of the answers, which is that of the steps."""
    model.released.set()
    app = SeveralApp([(recorded, "best"), (recorded, "gone"), (recorded, "250")], "MARLOW:")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+o")
        table = app.several.query_one(CheckpointTable)
        await until(pilot, lambda: table.row_count == 8)
        assert [table.texts(row)[0] for row in range(8)] == ["[x]", "[ ]", "[ ]", "[x]"] + ["[ ]"] * 4
        await pilot.press("space", "down", "space", "enter")
        await over(pilot)
        assert [title for title, _ in app.columns] == ["step 500", "step 1,000 · best"]
        assert [text.split(" · seed 1")[0] for _, text in app.columns] == ["val 1.6131", "val 1.2862"]
        assert not table.display
        await pilot.press("ctrl+o", "space", *["up"] * 5, "space")
        assert table.display
        app.several._ticked.clear()
        await pilot.press("ctrl+o", "enter")
        assert "No checkpoint is ticked" in app.said
    assert model.opened == ["500", "1000"]


async def test_not_too_many_at_once(tmp_path: Path, model: MadeUpModel) -> None:
    """Columns of a few cells can't be read."""
    run = recorded_run(tmp_path)
    for step in range(2001, 2010):
        (run.checkpoints_dir / f"step-{step:08d}").mkdir()
    app = SeveralApp([(run, str(checkpoint.step)) for checkpoint in run.checkpoints()[:MOST_CHOSEN]])
    async with app.run_test() as pilot:
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.several.query_one(CheckpointTable).row_count == 17)
        await pilot.press("end", "space")
        assert app.said == "At most 12 at a time." and len(app.several._ticked) == MOST_CHOSEN


async def test_escape_stops_all_and_then_leaves(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards that those that have not begun never do, and that what was written stays."""
    app = SeveralApp([(recorded, step) for step in spread(recorded)], "MARLOW:")
    async with app.run_test() as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.columns) and "is out" in app.columns[0][1])
        assert "waits for its turn" in app.columns[1][1]
        await pilot.press("enter")
        assert "still answering" in app.said
        await pilot.press("escape")
        await over(pilot)
        assert all("(stopped)" in text for _, text in app.columns)
        assert not app.said, "nothing answers any more that Esc could stop"
        assert len(model.asked) == 1 and [row["stopped"] for row in rows_of(recorded)] == [True]
        assert app.several._drawing is not None and not app.several._drawing._active.is_set(), "nothing looks any more"
        await pilot.press("escape")
        assert app.screen is not app.several


async def test_escape_does_not_wait_for_a_model_that_is_being_opened(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else could be asked until it was loaded; and what was stopped must not answer after all."""
    run = train(tiny_config)
    loading = SlowLoading(monkeypatch)
    app = SeveralApp([(run, str(checkpoint.step)) for checkpoint in run.checkpoints()[-2:]], "salt")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: loading.begun.acquire(blocking=False))
        await pilot.press("escape")
        stopped = app.several.query(Column).first().answer
        assert ["(stopped)" in text for _, text in app.columns] == [True, True] and app.several._job is None
        await pilot.press("s", "enter")
        loading.released.set()
        await over(pilot)
        assert stopped.state == "stopped" and not stopped.text
    assert [(row["prompt"], row["stopped"]) for row in rows_of(run)] == [("salts", False)] * 2


@pytest.mark.parametrize(
    ("count", "columns"),
    [
        (3, {(80, 24): 3, (71, 24): 2}),
        (4, {(80, 24): 2, (120, 36): 4}),
        (12, {(80, 24): 1, (120, 36): 4, (200, 60): 6}),
    ],
    ids=["three", "four", "twelve"],
)
async def test_as_many_side_by_side_as_have_room(
    tmp_path: Path, model: MadeUpModel, count: int, columns: dict[tuple[int, int], int]
) -> None:
    """Three stood below each other at 80 columns, six at 120; and the best one's title lost the word for it."""
    model.released.set()
    run = recorded_run(tmp_path)
    for step in range(3000, 3007):
        (run.checkpoints_dir / f"step-{step:08d}").mkdir()
    later = [str(checkpoint.step) for checkpoint in run.checkpoints() if checkpoint.step > 1000]
    app = SeveralApp([(run, step) for step in ["best", *later[: count - 1]]])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter")
        await over(pilot)
        for size, expected in columns.items():
            await pilot.resize_terminal(*size)
            await settled(pilot)
            regions = [column.region for column in app.several.query(Column)]
            assert len(regions) == count and len({region.x for region in regions}) == expected
            assert all(region.width >= 24 for region in regions)
            rows = sorted({region.y for region in regions})
            assert len(rows) == ceil(count / expected)
            if expected > 1:  # all of them are in view
                assert min(region.height for region in regions) >= 8 and regions[-1].bottom <= size[1] - 3
            assert "─ step 1,000 · best ─" in " ".join(strip.text for strip in app.screen._compositor.render_strips())


async def test_a_checkpoint_that_is_gone_is_told_in_its_place(recorded: RunDirectory, model: MadeUpModel) -> None:
    """A trainer removes old checkpoints at any moment; the others still answer."""
    model.released.set()
    app = SeveralApp([(recorded, "250"), (recorded, "500")], "MARLOW:")
    async with app.run_test() as pilot:
        shutil.rmtree(recorded.checkpoints_dir / "step-00000250")
        await pilot.press("enter")
        await over(pilot)
        assert "✗" in app.columns[0][1] and "has no checkpoint 250" in app.columns[0][1]
        assert "boats" in app.columns[1][1]
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.several.query_one(CheckpointTable).row_count == 7)
        assert len(app.several._ticked) == 1


async def test_unknown_characters_can_be_replaced(tiny_config: Config) -> None:
    """The same way out as in the chat, once for all of them."""
    run = train(tiny_config)
    app = SeveralApp([(run, "last"), (run, str(run.checkpoints()[0].step))], "salté")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: "Ctrl+R" in app.said)
        assert all("é (U+00E9" in text for _, text in app.columns)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(rows_of(run)) == 2 and app.several._job is None)
    assert {row["prompt"] for row in rows_of(run)} == {"salte"}


async def test_two_runs_answer_and_each_keeps_its_own(tmp_path: Path, model: MadeUpModel) -> None:
    """Guards the comparison of runs: names as titles, and in read-only nothing is written."""
    model.released.set()
    runs = [recorded_run(tmp_path / name) for name in ("a", "b")]
    other = RunDirectory(runs[1].path.rename(runs[1].path.with_name("[b]other\x1b")))
    for read_only, kept in ((True, 0), (False, 1)):
        app = SeveralApp([(runs[0], "best"), (other, "last")], "MARLOW:", read_only=read_only)
        async with app.run_test(size=(120, 36)) as pilot:
            await pilot.press("enter")
            await over(pilot)
            assert [title for title, _ in app.columns] == [runs[0].name, "\\[b]other␛"]
            assert app.columns[0][1].startswith("step 1,000 · val 1.2862 · best · seed 1")
        assert len(rows_of(runs[0])) == len(rows_of(other)) == kept


async def test_the_next_seed(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards that all answer with the same seed, and that it is another one than before."""
    model.released.set()
    app = SeveralApp([(recorded, "250"), (recorded, "500")], "MARLOW:")
    async with app.run_test() as pilot:
        await pilot.press("ctrl+n")
        assert not model.asked, "nothing has been asked yet"
        await pilot.press("enter")
        await over(pilot)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: len(model.asked) == 4 and app.several._job is None)
    assert [sampling.seed for _, sampling in model.asked] == [1, 1, 2, 2]  # type: ignore[attr-defined]


async def test_the_chat_hands_over_prompt_and_settings(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards the way there and back: what was typed is not typed twice, and the chat is as it was."""
    app = ChatApp(recorded)
    async with app.run_test() as pilot:
        app.query(SamplingInput).first().value = "1.5"
        await pilot.press(*"ab", "ctrl+t")
        screen = app.screen
        assert isinstance(screen, AskSeveralScreen)
        await settled(pilot)
        assert screen.query_one(PromptField).text == "ab" and screen.query(SamplingInput).first().value == "1.5"
        assert sorted(screen._ticked) == ["0:1000", "0:1250", "0:2000", "0:250"]
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)
        assert app.focused is app.prompt and app.prompt.text == "ab"
        await pilot.press("enter")
        await until(pilot, lambda: bool(model.asked))
        await pilot.press("ctrl+t")
        assert "still answering" in app.problem, "its model would be the second in memory"


def test_of_very_many_checkpoints_some_are_listed(recorded: RunDirectory) -> None:
    """Each is a file to read while the screen waits; what is ticked and the best are among them all the same."""
    for step in range(3000, 4000):
        (recorded.checkpoints_dir / f"step-{step:08d}").mkdir()
    several = AskSeveralScreen([(recorded, "3998"), (recorded, "last")])
    assert sorted(several._ticked) == ["0:3998", "0:3999"]
    assert {"0:250", "0:1000", "0:3998", "0:3999"} <= several._kept.keys()
    assert MOST_LISTED <= len(several._kept) <= MOST_LISTED + 3


def test_the_spread_shows_how_a_run_has_gone(tmp_path: Path) -> None:
    """First, middle, best and last, each once; also of a run that keeps one checkpoint, or none, or a strange best."""
    run = recorded_run(tmp_path)
    assert spread(run) == ["250", "1000", "1250", "2000"]
    run.best_file.write_text(json.dumps({"step": [1]}))
    assert spread(run) == ["250", "1250", "2000"]
    for checkpoint in run.checkpoints()[1:]:
        shutil.rmtree(checkpoint.path)
    assert spread(run) == ["250"]
    shutil.rmtree(run.checkpoints_dir)
    assert spread(run) == []


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120x36", "80x24"])
@pytest.mark.parametrize("shown", ["list", "answers"])
def test_looks(
    snap_compare: Callable[..., bool],
    recorded: RunDirectory,
    model: MadeUpModel,
    size: tuple[int, int],
    shown: str,
) -> None:
    """Guards the list, and three answers side by side."""
    model.released.set()

    async def ask(pilot: Pilot[None]) -> None:
        await settled(pilot)
        if shown == "answers":
            await pilot.press("enter")
            await over(pilot)
        await settled(pilot)

    choices = [(recorded, step) for step in ("250", "best", "last")]
    assert snap_compare(SeveralApp(choices, "MARLOW:"), terminal_size=size, run_before=ask)
