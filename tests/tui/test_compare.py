"""Comparing runs: what is said of each, what of their differences, and that it goes on while they do."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.files import write_atomically
from minigpt.journal import JournalWriter, Row
from minigpt.run_files import rename_run
from minigpt.rundir import RunDirectory
from tests.recorded import losses_at, recorded_run
from tests.tui.panes import settled, until
from tui import styles
from tui.comparison import caution, differences, standing
from tui.run.following import Following
from tui.screens.compare import CompareScreen, Differences, Leaderboard
from tui.settings import DEFAULTS
from tui.theme import DARK
from tui.widgets.charts import ChartsPane

CONFIG = '[run]\nname = "{name}"\n[data]\ncorpus = "the-play"\n[model]\nn_layer = {layers}\ndropout = {dropout}\n[train]\nmax_steps = 2000\nlearning_rate = {rate}\n'


def make(runs: Path, name: str, *, steps: int = 2000, config: str = "", **told: object) -> RunDirectory:
    """A recorded run of this name, whose `started` event tells other things."""
    run = rename_run(recorded_run(runs, ended="finished" if steps == 2000 else "stopped", steps=steps), name)
    write_atomically(run.config_file, config or CONFIG.format(name=name, layers=4, dropout=0.0, rate=3e-3))
    rows = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    rows = [{**row, **(told if row["event"] == "started" else {})} for row in rows]
    write_atomically(run.events_file, "".join(json.dumps(row) + "\n" for row in rows))
    return run


@pytest.fixture
def three(runs: Path) -> list[RunDirectory]:
    return [
        make(runs, "quickstart-brave-otter"),
        make(runs, "smaller", steps=700, config=CONFIG.format(name="smaller", layers=2, dropout=0.1, rate=1e-3)),
        make(runs, "smallest", steps=250, config=CONFIG.format(name="smallest", layers=1, dropout=0.1, rate=1e-3)),
    ]


def read(run: RunDirectory) -> Following:
    following = Following(run)
    while following.behind:
        following.poll()
    return following


class Comparing(App[None]):
    """Shows the screen alone, and notes what it asks of the app."""

    CSS_PATH = styles.ALL

    def __init__(self, runs: Sequence[RunDirectory], *, read_only: bool = False) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.read_only = read_only
        self.settings = DEFAULTS
        self.opened: list[str] = []
        self._compared = runs

    def on_mount(self) -> None:
        self.push_screen(CompareScreen(self._compared))

    def open_run(self, run: RunDirectory) -> None:
        self.opened.append(run.name)


async def shown(pilot: Pilot[Any]) -> None:
    """Wait until all runs are read and the screen stands."""
    screen = pilot.app.screen
    assert isinstance(screen, CompareScreen)
    await until(pilot, lambda: screen._runs and screen._bites is None)
    await settled(pilot)


def board(app: App[None]) -> list[list[str]]:
    table = app.screen.query_one(Leaderboard)
    rows = [table.texts(index) for index in range(table.row_count)]
    return [[name.partition(" ")[2], *others] for name, *others in rows]


# ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_differs_is_listed(three: list[RunDirectory]) -> None:
    """Sixty settings beside each other hide the two that matter; the name differs in any case."""
    assert differences([read(run) for run in three]) == [
        ("model.n_layer", ("4", "2", "1")),
        ("model.dropout", ("0", "0.1", "0.1")),
        ("train.learning_rate", ("0.003", "0.001", "0.001")),
    ]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[data]\n", [("data.corpus", ("a", "—"))]),
        ("data = 7\n", [("data.corpus", ("a", "—")), ("data", ("—", "7"))]),
        ('[data]\ncorpus = "\\u001b[2J[b]x"\n', [("data.corpus", ("a", "␛[2J[b]x"))]),
        (f"[data]\ncorpus = 0x{'f' * 9000}\n", [("data.corpus", ("a", "(a huge number)"))]),
        ("[data]\ncorpus = [[], {}]\n", [("data.corpus", ("a", "(list)"))]),
        ("[data]\ncorpus = nan\n", [("data.corpus", ("a", "nan"))]),
        ("[data]\ncorpus = true\n", [("data.corpus", ("a", "yes"))]),
        ("[data]\ncorpus = 1979-05-27\n", [("data.corpus", ("a", "(date)"))]),
        ('[data]\ncorpus = ""\n', [("data.corpus", ("a", "(empty)"))]),
        ("\x00\xff", [("data.corpus", ("a", "—"))]),
    ],
    ids=lambda value: str(value)[:20].encode("unicode_escape").decode(),
)
def test_any_file_may_stand_there(runs: Path, config: str, told: list[tuple[str, tuple[str, ...]]]) -> None:
    """A run from a stranger is compared too."""
    pair = [make(runs, "one", config='[data]\ncorpus = "a"\n'), make(runs, "two", config=config)]
    assert differences([read(run) for run in pair]) == told


def test_how_a_run_stands(runs: Path) -> None:
    """The figures are those of the best step, and of the last attempt."""
    run = make(runs, "one")
    found = standing(read(run))
    best = min(range(0, 2001, 250), key=lambda step: losses_at(step)[1])
    assert found.best == (best, losses_at(best)[1])
    assert found.bits_per_character == pytest.approx(losses_at(best)[1] / 0.6931471805599453)
    assert (found.parameters, found.tokens, found.seconds, found.speed) == (824_320, 2000 * 32 * 64, 200.0, 20_480.0)


def test_of_an_empty_run_nothing_is_known(runs: Path) -> None:
    """It was compared before its first step, or its files hold rubbish."""
    run = make(runs, "one")
    write_atomically(run.metrics_file, b"\xff\x00 no json\n" * 100)
    write_atomically(run.events_file, '{"event": "started", "parameters": "many", "tokenizer": 7, "corpus": []}\n')
    found = standing(read(run))
    assert (found.best, found.bits_per_byte, found.parameters, found.tokens, found.speed) == (None,) * 5
    assert caution([read(run), read(run)]) == ""


def test_losses_of_another_unit_are_not_compared_in_silence(runs: Path) -> None:
    """A loss of 1.5 per character beats one of 3 per token, which stand for four characters each, by nothing."""
    one, two = make(runs, "one"), make(runs, "two", tokenizer="bpe", vocab_size=512)
    third = make(runs, "three", corpus="my\x1b[31mdiary.txt")
    assert caution([read(one), read(one)]) == ""
    assert "char 62, bpe 512" in caution([read(one), read(two)])
    assert "Corpora differ (the-play, my␛[31mdiary.txt)" in caution([read(one), read(third)])
    assert len(caution([read(one), read(two), read(third)]).splitlines()) == 2


# ── the screen ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_best_run_is_first(three: list[RunDirectory]) -> None:
    """And the keys sort by other columns, which an arrow marks."""
    app = Comparing(list(reversed(three)))
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot)
        assert [row[0] for row in board(app)] == ["quickstart-brave-otter", "smaller", "smallest"]
        await pilot.press("3", "S")
        table = app.screen.query_one(Leaderboard)
        assert board(app)[0][0] == "smallest"
        assert "best val ▼" in table.labels
        await pilot.press("s")
        assert "at step ▲" in table.labels
        assert board(app)[0][0] == "smallest"


async def test_runs_of_different_tokenizers_are_ranked_by_bits_per_byte(runs: Path) -> None:
    """Ranked by loss, the one with the smaller tokens always wins."""

    def write(run: RunDirectory, **values: float) -> RunDirectory:
        metrics = JournalWriter(run.metrics_file)
        metrics.append({"step": 3000, "attempt": 2, **values})
        metrics.close()
        return run

    char = write(make(runs, "char"), val_loss=0.9, val_bpb=1.3)
    bpe = write(make(runs, "bpe", tokenizer="bpe", vocab_size=512), val_loss=0.95, val_bpb=0.7)
    app = Comparing([char, bpe])
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot)
        assert [row[0] for row in board(app)] == ["bpe", "char"]
        assert "compare bits per byte" in str(app.screen.query_one("#caution", Static).content)


async def test_enter_opens_the_dashboard_of_a_run(three: list[RunDirectory]) -> None:
    app = Comparing(three)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await pilot.press("3", "down", "enter")
        assert app.opened == ["smaller"]


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=lambda size: "x".join(map(str, size)))
async def test_every_pane_can_be_reached(three: list[RunDirectory], size: tuple[int, int]) -> None:
    """By its number and by a click on its tab; on a large screen the leaderboard is always in view."""
    app = Comparing(three)
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        large = size != (80, 24)
        charts, table, ranking = (
            app.screen.query_one(f"#{id}") for id in ("compare-charts", "differences", "leaderboard")
        )
        assert charts.has_focus and (charts.display, table.display, ranking.display) == (True, False, large)
        await pilot.press("2")
        await settled(pilot)
        assert table.has_focus and (charts.display, table.display, ranking.display) == (False, True, large)
        assert app.screen.query_one(Differences).row_count == 3
        await pilot.press("3")
        await settled(pilot)
        assert ranking.has_focus and (charts.display, table.display) == (large, False)
        await pilot.click("#tabs", offset=(3, 0))
        assert charts.has_focus


async def test_a_live_run_is_followed(three: list[RunDirectory], runs: Path) -> None:
    """The leaderboard changes while one looks at it."""
    live = make(runs, "live", steps=1000)

    def append(path: Path, row: Row) -> None:
        journal = JournalWriter(path)
        journal.append(row)
        journal.close()

    app = Comparing([*three, live])
    with live.locked():
        append(live.events_file, {"event": "continued", "step": 1000, "attempt": 1})
        async with app.run_test(size=(120, 36)) as pilot:
            await shown(pilot)
            assert "1 in training" in str(app.screen.query_one("#compare-title").render())
            append(live.metrics_file, {"step": 1010, "attempt": 1, "val_loss": 0.25, "elapsed": 101.0})
            await until(pilot, lambda: board(app)[0][:3] == ["live", "0.2500", "1,010"])


async def test_with_low_bandwidth_it_is_drawn_as_seldom_as_the_dashboard(
    three: list[RunDirectory], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison of a live run was sent every few seconds all the same."""
    import tui.screens.compare as module

    live = make(runs, "live", steps=1000)
    app = Comparing([three[0], live])
    app.settings = replace(DEFAULTS, low_bandwidth=True)
    metrics = JournalWriter(live.metrics_file)
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot)
        screen, drawn, told = app.screen, list[int](), list[int]()
        assert isinstance(screen, CompareScreen)
        began, seconds = monotonic(), 0
        charts, board = screen.query_one(ChartsPane), screen.query_one(Leaderboard)
        monkeypatch.setattr(module, "monotonic", lambda: began + seconds)
        monkeypatch.setattr(screen, "call_after_refresh", lambda draw: draw())
        monkeypatch.setattr(charts, "show", lambda _: drawn.append(seconds))
        monkeypatch.setattr(board, "show_runs", lambda _: told.append(seconds))
        for seconds in range(20, 140):
            metrics.append({"step": 1000 + seconds, "attempt": 1, "train_loss": 1.0})
            screen._look()
        assert 3 <= len(drawn) <= 5 and 9 <= len(told) <= 13
    metrics.close()


async def test_a_run_that_vanishes_leaves_the_others(three: list[RunDirectory]) -> None:
    """Deleted in another window while it is compared."""
    app = Comparing(three)
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot)
        three[0].path.rename(three[0].path.with_name("elsewhere"))
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        screen._look()
        screen._show_figures()
        await pilot.press("2", "3", "1")
        assert len(board(app)) == 3


async def test_all_are_asked_by_their_best_checkpoint(
    three: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those without any are left out."""
    import tui.screens.ask_several as module

    asked: list[object] = []

    class Asking(CompareScreen):
        def __init__(self, choices: Sequence[tuple[RunDirectory, str]], *, read_only: bool) -> None:
            super().__init__([run for run, _ in choices])
            asked.append(([(run.name, which) for run, which in choices], read_only))

    monkeypatch.setattr(module, "AskSeveralScreen", Asking)
    three[1].best_file.unlink()
    for checkpoint in three[2].checkpoints():
        (checkpoint.path / "checkpoint.json").unlink()
        checkpoint.path.rmdir()
    app = Comparing(three, read_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await pilot.press("c")
        await until(pilot, lambda: asked)
        assert asked == [([(three[0].name, "best"), ("smaller", "last")], True)]


async def test_with_read_only_nothing_is_written(three: list[RunDirectory]) -> None:
    """Not even what would make the next look quicker."""
    before = sorted(path for run in three for path in run.path.rglob("*"))
    app = Comparing(three, read_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await pilot.press("2", "3")
    assert sorted(path for run in three for path in run.path.rglob("*")) == before


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("pane", ["1", "2", "3"], ids=["charts", "configurations", "leaderboard"])
def test_looks(
    snap_compare: Callable[..., bool], three: list[RunDirectory], runs: Path, size: tuple[int, int], pane: str
) -> None:
    """Guards the layout of each pane."""
    other = make(runs, "diary", steps=1500, tokenizer="bpe", vocab_size=512, corpus="diary.txt")

    async def prepared(pilot: Pilot[Any]) -> None:
        await shown(pilot)
        await pilot.press(pane)
        await settled(pilot)

    assert snap_compare(Comparing([*three, other]), terminal_size=size, run_before=prepared)


async def test_keys_sort_and_a_click_on_a_head_too(three: list[RunDirectory]) -> None:
    """The same column once more is the other way round."""
    app = Comparing(three)
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot)
        table = app.screen.query_one(Leaderboard)
        column = "".join(table.render_line(0).text).index("at step")
        await pilot.click("#leaderboard", offset=(column + 2, 1))
        assert "at step ▲" in table.labels and board(app)[0][0] == "smallest"
        await pilot.click("#leaderboard", offset=(column + 2, 1))
        assert "at step ▼" in table.labels and board(app)[0][0] == "quickstart-brave-otter"
