"""The table of epochs: its rows, how it grows, and runs that have nothing for it."""

import json
from pathlib import Path

import pytest
from textual.widgets import Static

from minigpt.journal import JournalWriter
from minigpt.metrics import EpochRow
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled
from tests.tui.test_dashboard import dashboard, steady_machine, until, words_of  # noqa: F401
from tui.run.following import Following
from tui.widgets.epochs import EpochsPane, newest_evaluation, rows_of
from tui.widgets.lines import Lines

nan = float("nan")


def test_rows_and_the_best_one() -> None:
    """Guards the columns' widths, the mark, and losses too large or too broken to be numbers."""
    rows = rows_of(
        [
            EpochRow(1, 250, 2.5, 2.6, 12.18, 13.46),
            EpochRow(2, 500, 1.5, 1.75, 4.48, 5.75),
            EpochRow(1000, 250_000, nan, 12_345.0, nan, float("inf")),
        ]
    )
    assert rows == [
        "     1       250    2.5000    2.6000       12.18     13.46",
        "     2       500    1.5000    1.7500      4.4817    5.7546 ★",
        " 1,000   250,000         –    12,345           –         –",
    ]


def rows_in(screen: object) -> list[str]:
    return [line.text for line in screen.query_one(EpochsPane).query_one(Lines).lines]  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_t_shows_it_and_brings_the_charts_back(tmp_path: Path, size: tuple[int, int]) -> None:
    """Guards the key at both layouts: t and t, and Esc, before Esc leads home."""
    async with dashboard(recorded_run(tmp_path), size=size) as (pilot, screen):
        for back in ("t", "escape"):
            await pilot.press("t")
            await pilot.pause()
            pane = screen.query_one(EpochsPane)
            assert pane.is_on_screen and not screen.query_one("#charts").is_on_screen
            assert len(rows_in(screen)) == 8 and rows_in(screen)[-1].split()[:2] == ["67", "2,000"]
            assert "validation" in words_of(screen, "#newest-evaluation")
            await pilot.press(back)
            await pilot.pause()
            assert screen.query_one("#charts").is_on_screen and not pane.is_on_screen
        assert pilot.app.screen is screen


async def test_it_grows_while_the_run_trains(tmp_path: Path) -> None:
    """Guards a table that would stay as it was when it was opened."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("t")
            before = len(rows_in(screen))
            metrics = JournalWriter(run.metrics_file)
            metrics.append({"step": 1010, "attempt": 1, "epoch": 36.0, "val_loss": 1.1, "train_eval_loss": 1.0})
            metrics.close()
            await until(pilot, lambda: len(rows_in(screen)) == before + 1)
            assert rows_in(screen)[-1].endswith("★")
            assert rows_in(screen)[-1].split()[:4] == ["36", "1,010", "1.0000", "1.1000"]


async def test_before_the_first_evaluation_it_says_so(tmp_path: Path) -> None:
    """Guards an empty pane."""
    run = recorded_run(tmp_path, ended="", steps=100)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("t")
            await pilot.pause()
            assert "No evaluation after the first step yet" in words_of(screen, "#no-epochs")
            assert not screen.query_one("#epoch-head").display
    run = recorded_run(tmp_path / "ended", ended="stopped", steps=100)
    async with dashboard(run) as (pilot, screen):
        await pilot.press("t")
        await pilot.pause()
        assert "The run ended before" in words_of(screen, "#no-epochs")


async def test_a_long_table_scrolls_and_follows_only_from_the_end(tmp_path: Path) -> None:
    """Guards a reader who has scrolled back from being torn away, and rows that nobody could reach."""
    run = recorded_run(tmp_path, ended="", steps=0)
    metrics = JournalWriter(run.metrics_file)
    for step in range(1, 101):
        metrics.append({"step": step, "attempt": 1, "epoch": float(step), "val_loss": 2.0, "train_eval_loss": 2.0})
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("t")
            rows = screen.query_one(EpochsPane).query_one(Lines)
            await until(pilot, lambda: rows.scroll_y == rows.max_scroll_y > 0)
            await pilot.press("home")
            await until(pilot, lambda: rows.scroll_y == 0)
            metrics.append({"step": 101, "attempt": 1, "epoch": 101.0, "val_loss": 2.0, "train_eval_loss": 2.0})
            await until(pilot, lambda: len(rows_in(screen)) == 101)
            assert rows.scroll_y == 0
    metrics.close()


def test_a_run_of_an_earlier_version_has_no_accuracy(tmp_path: Path) -> None:
    """Its evaluations have losses only: then that part of the pane is left out, not filled with dashes."""
    run = recorded_run(tmp_path)
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    kept = [{key: row[key] for key in row if not key.endswith(("accuracy", "bpc", "bpb"))} for row in rows]
    following = Following(run)
    following.poll()
    assert "57." in newest_evaluation(following).plain or "%" in newest_evaluation(following).plain
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    old = Following(run)
    old.poll()
    assert newest_evaluation(old).plain == ""


async def test_the_table_can_be_searched(tmp_path: Path) -> None:
    """Guards the search that all panes of lines have, also when new epochs come."""
    following = Following(recorded_run(tmp_path))
    following.poll()
    app = PaneApp(EpochsPane)
    async with app.run_test(size=(80, 16)) as pilot:
        app.pane.show(following)
        await settled(pilot)
        await pilot.press("slash", *"1,")
        await until(pilot, lambda: "4 lines" in str(app.pane.query_one("#search-count", Static).content))
        await pilot.press("enter", "n")
        lines = app.pane.query_one(Lines)
        assert any("1," in lines.render_line(y).text for y in range(lines.size.height))
