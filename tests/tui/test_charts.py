"""The pane of charts: its keys and its mouse, what it says, how it looks, and that nothing breaks it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.journal import JournalWriter, Row
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled
from tui.charts.grid import CURSOR, FIRST_RUN, MARK, PROBLEM, RUNS, TRAIN
from tui.run.following import Following
from tui.screens.choose import ChooseScreen
from tui.widgets.charts import ChartsPane
from tui.widgets.row_list import RowList

SIZES = [(80, 20), (69, 32)]  # what a dashboard has for it in terminals of 80×24 and 120×36


def following(run: RunDirectory) -> Following:
    found = Following(run)
    found.poll()
    while found.behind:
        found.poll()
    return found


class Holder:
    """Keeps what the pane reports."""

    def __init__(self, runs: list[Following], *, ascii: bool = False) -> None:
        self.runs = runs
        self.moved: list[int | None] = []
        holder = self

        class App(PaneApp):
            def on_charts_pane_cursor_moved(self, message: ChartsPane.CursorMoved) -> None:
                holder.moved.append(message.step)

        self.app = App(lambda: ChartsPane(ascii=ascii))


@asynccontextmanager
async def pane_of(
    *runs: RunDirectory, size: tuple[int, int] = (69, 32), ascii: bool = False
) -> AsyncIterator[tuple[Pilot[Any], ChartsPane, Holder]]:
    holder = Holder([following(run) for run in runs], ascii=ascii)
    async with holder.app.run_test(size=size) as pilot:
        pane = holder.app.pane
        assert isinstance(pane, ChartsPane)
        pane.show(holder.runs)
        await pilot.pause()
        yield pilot, pane, holder


def text_of(pane: ChartsPane) -> str:
    return "\n".join(pane._grid.text(row) for row in range(pane.size.height))


def title_of(pane: ChartsPane, name: str) -> str:
    return next(line for line in text_of(pane).splitlines() if line.startswith(f"─ {name}"))


def foot_of(pane: ChartsPane) -> str:
    return text_of(pane).splitlines()[-1]


# ── one run ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_shows_loss_and_perplexity_first(tmp_path: Path) -> None:
    """Guards the default at both sizes, and what the legends say."""
    for size in SIZES:
        async with pane_of(recorded_run(tmp_path / str(size)), size=size) as (_, pane, _):
            assert pane.shown == ["loss", "perplexity"]
            assert "train 1.1052" in title_of(pane, "loss") and "val 1.4614" in title_of(pane, "loss")
            assert "★ best 1.2828 · at step 1,250" in foot_of(pane) and "EMA 0.8" in foot_of(pane)


async def test_a_large_place_has_more_charts(tmp_path: Path) -> None:
    """Guards the grid: what is there next comes by itself, and only what the file has."""
    async with pane_of(recorded_run(tmp_path), size=(200, 56)) as (_, pane, _):
        assert pane.shown[:4] == ["loss", "perplexity", "learning_rate", "tokens_per_second"]
        assert len(pane.shown) == len(set(pane.shown)) >= 8
        assert set(pane.shown) <= set(pane.metric_names)


async def test_the_cursor_reads_all_charts_and_says_where_it_is(tmp_path: Path) -> None:
    """Guards the line in each chart, its values, the message for the samples, and the way to take it away."""
    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, holder):
        await pilot.press("left", "ctrl+left", "ctrl+left", "ctrl+left", "left")
        await pilot.pause()
        step = pane.cursor_step
        assert step is not None and step < 2000 and step % 10 == 0
        assert holder.moved[0] == 2000 and holder.moved[-1] == step
        assert f"step {step:,} · epoch" in foot_of(pane)
        train = dict(zip(*(column.tolist() for column in holder.runs[0].series("train_loss")), strict=True))[step]
        assert f"train {train:.4f}" in title_of(pane, "loss")
        assert f"train {np.exp(train):.4f}" in title_of(pane, "perplexity")
        columns = np.argwhere(pane._grid.roles == CURSOR)
        halves = {int(row) // 16 for row, column in columns if row < 31}
        assert halves == {0, 1} and len({int(column) for row, column in columns if row < 31}) == 1
        await pilot.press("escape")
        await pilot.pause()
        assert pane.cursor_step is None and holder.moved[-1] is None
        assert not pane.check_action("take_back", ())


async def test_zoom_pan_and_following(tmp_path: Path) -> None:
    """Guards the keys, and that the titles say whether the newest stays in view."""
    run = recorded_run(tmp_path, ended="", steps=1600)
    async with pane_of(run) as (pilot, pane, holder):
        assert "follows" not in text_of(pane) and "stays" not in text_of(pane)
        await pilot.press("plus", "plus")
        assert title_of(pane, "loss").startswith("─ loss · follows")
        assert "step 1,100–1,600" in foot_of(pane)
        metrics = JournalWriter(run.metrics_file)
        metrics.append({"step": 1700, "attempt": 2, "train_loss": 1.0})
        metrics.close()
        holder.runs[0].poll()
        pane.show(holder.runs)
        assert "step 1,200–1,700" in foot_of(pane)
        await pilot.press("shift+left")
        assert title_of(pane, "perplexity").startswith("─ perplexity · log · stays")
        assert "step 1,075–1,575" in foot_of(pane)
        await pilot.press("f")
        assert "follows" in title_of(pane, "loss") and "step 1,200–1,700" in foot_of(pane)
        await pilot.press("0")
        assert not pane.view.is_zoomed


async def test_the_perplexity_is_logarithmic_at_first(tmp_path: Path) -> None:
    """The perplexity of step 0 was a peak of 62 and all that came after it one flat line."""

    def rows_of_the_later_steps(pane: ChartsPane) -> int:
        area = pane._tiles[1][1]
        assert area is not None
        return int((pane._grid.roles[16:30, area.left + area.width // 6 :] == TRAIN).any(axis=1).sum())

    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, _):
        assert title_of(pane, "perplexity").startswith("─ perplexity · log ─")
        assert title_of(pane, "loss").startswith("─ loss ─")
        logarithmic = rows_of_the_later_steps(pane)
        await pilot.press("down", "l")
        assert logarithmic > 2 * rows_of_the_later_steps(pane) > 0


@pytest.mark.parametrize("size", [(84, 55), (200, 56)], ids=str)
async def test_the_same_step_stands_under_itself(tmp_path: Path, size: tuple[int, int]) -> None:
    """Each chart's axis began where its own labels ended, so that nothing could be compared down a column."""
    async with pane_of(recorded_run(tmp_path), size=size) as (_, pane, _):
        lefts: dict[int, set[int]] = {}
        for tile, area in pane._tiles:
            assert area is not None
            lefts.setdefault(tile.column, set()).add(tile.column + area.left)
        assert len(pane._tiles) >= 4 and all(len(places) == 1 for places in lefts.values())
        labels = [line for line in text_of(pane).splitlines() if "step 0" in line]
        assert len({line.index("step 0") for line in labels}) == 1


async def test_smoothing_is_said_and_shown_while_the_cursor_is_there(tmp_path: Path) -> None:
    """With a cursor w and W had no effect that could be seen."""
    for size in SIZES:
        async with pane_of(recorded_run(tmp_path / str(size)), size=size) as (pilot, pane, _):
            await pilot.press("left")
            assert "⠤ EMA 0.8 " in foot_of(pane) and "⡇ train 1.1052 · ⠤ EMA" in title_of(pane, "loss")
            await pilot.press("w")
            assert "⠤ EMA 0.9 " in foot_of(pane) and "step 2,000 · epoch" in foot_of(pane)
            await pilot.press(*["W"] * 9)
            assert "not smoothed" in foot_of(pane) and "⠤ train 1.1052" in title_of(pane, "loss")


async def test_the_average_at_the_cursor_has_room_in_four_charts(tmp_path: Path) -> None:
    """At 120×36, maximised, all four stand in two columns: beside the evaluation the average had no room, and went."""
    run, *others = several(tmp_path, 3)
    async with pane_of(run, size=(120, 32)) as (pilot, pane, holder):
        await pilot.press("left", *["ctrl+left"] * 2)
        step = pane.cursor_step
        assert step is not None
        loss = holder.runs[0]
        trained = dict(zip(*(column.tolist() for column in loss.series("train_loss")), strict=True))[step]
        average = pane._runs[0].reading("train_loss", "step", step, 0.8)
        assert average is not None and average.smoothed is not None
        top = text_of(pane).splitlines()[0]
        assert f"{trained:.4f} ⠤{average.smoothed:.4f} " in top
        assert f"{np.exp(trained):.4f} ⠤{np.exp(average.smoothed):.4f} " in top
        # And of three runs, of which the titles have room for three digits, the foot says all of the chosen chart.
        pane.show([loss, *map(following, others)])
        top = text_of(pane).splitlines()[0]
        for number, title in enumerate(("─ loss ─", "─ perplexity ─")):
            numbers = [trained, average.smoothed] if not number else [np.exp(trained), np.exp(average.smoothed)]
            assert title in top and "1 {:.2f}⠤{:.2f} ─ 2 ".format(*numbers) in top
        assert top.count("─ 3 ") == 2
        assert f"loss:  1 ● 01-otter  {trained:.4f} ⠤{average.smoothed:.4f} · ● " in text_of(pane)
        assert "2 ■ 02-otter  " in text_of(pane) and "3 ◆ 03-otter  " in foot_of(pane)
        await pilot.press("down")
        assert f"perplexity:  1 ● 01-otter  {np.exp(trained):.4f} ⠤{np.exp(average.smoothed):.4f} · ● " in text_of(pane)


async def test_a_value_of_another_step_than_the_cursor_says_so(tmp_path: Path) -> None:
    """Where the title was longer, after a zoom, an evaluation of another step was shown as one of the cursor's."""
    for size in (*SIZES, (60, 20)):
        async with pane_of(recorded_run(tmp_path / str(size)), size=size) as (pilot, pane, _):
            await pilot.press("left", "left", "plus", "plus")
            assert (pane.cursor_step or 0) < 2000 and pane.view.is_zoomed
            for name in ("loss", "perplexity"):
                title = title_of(pane, name)
                assert "●" not in title or " at 2,000 " in title or "@2,000 " in title
            assert "2,000 " in title_of(pane, "loss")


async def test_a_cursor_out_of_view_is_told_of(tmp_path: Path) -> None:
    """The values of its step were shown, and no line in any chart."""
    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, _):
        await pilot.press("plus", "plus", "left", *["less_than_sign"] * 9)
        assert "cursor ▸ step 2,000 · epoch" in foot_of(pane)
        await pilot.press(*["ctrl+left"] * 12, *["greater_than_sign"] * 12)
        assert "cursor ◂ step" in foot_of(pane)
        await pilot.press("0")
        assert "cursor" not in foot_of(pane)


async def test_the_cursor_is_brought_back_into_view(tmp_path: Path) -> None:
    """Guards a cursor that would wander off to where nothing is seen of it."""
    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, _):
        await pilot.press("plus", "plus", "plus", *["ctrl+left"] * 12)
        low, high = pane.view.bounds(pane._extent_now())
        assert pane.cursor_step is not None and low <= pane.cursor_step <= high < 1750


async def test_scale_smoothing_and_axis(tmp_path: Path) -> None:
    """Guards that the scale is one chart's and the rest that of all, and that each is said."""
    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, _):
        await pilot.press("l")
        assert title_of(pane, "loss").startswith("─ loss · log") and "perplexity · log" in text_of(pane)
        await pilot.press("down", "l")
        assert "log" not in title_of(pane, "perplexity") and "log" in title_of(pane, "loss")
        await pilot.press("w")
        assert "EMA 0.9 " in foot_of(pane)
        await pilot.press(*["W"] * 9)
        assert "not smoothed" in foot_of(pane)
        await pilot.press("plus", "left", "left", "a")
        step = pane.cursor_step
        assert step is not None and abs(step - 2000) < 200
        assert pane.view.axis == "tokens" and "tokens " in text_of(pane)
        low, high = pane.view.bounds(pane._extent_now())
        assert high - low == pytest.approx(1000 * 2048, rel=0.1)
        await pilot.press("a", "a", "a")
        assert pane.view.axis == "step" and pane.cursor_step == step


async def test_other_metrics(tmp_path: Path) -> None:
    """Guards both ways to another metric, its unit, and that none is shown twice."""
    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, _):
        await pilot.press("down", "n")
        assert pane.shown == ["loss", "learning_rate"]
        await pilot.press("N")
        assert pane.shown == ["loss", "perplexity"]
        # The list is searched by typing, as the other lists are, with or without a slash; also by the file's names.
        for typed, found in (("/mem", "memory_rss"), ("grad", "grad_norm"), ("/val_bp", "bpc"), ("zzz", "bpc")):
            await pilot.press("v")
            await pilot.pause()
            assert pilot.app.screen.query_one(RowList).chosen == str(pane.metric_names.index(pane.shown[1]))
            await pilot.press(*typed)
            # The line below is of what was found, also where that took another's place in the same row.
            assert typed != "grad" or str(pilot.app.screen.query_one("#choose-about", Static).content) == "grad_norm"
            await pilot.press("enter")
            await pilot.pause()
            if typed == "zzz":
                await pilot.press("escape", "escape")
            assert pane.shown == ["loss", found] and not isinstance(pilot.app.screen, ChooseScreen)
            if found == "memory_rss":
                assert "412 MiB" in title_of(pane, "process memory (MiB)")


async def test_all_metrics_at_a_glance(tmp_path: Path) -> None:
    """Metrics could be had one by one alone: guards the pages, with one cursor and one axis for all, and the way back."""
    run = recorded_run(tmp_path, ended="", steps=1600)
    async with pane_of(run, size=(80, 20)) as (pilot, pane, holder):
        await pilot.press("down", "n", "V")
        chosen, seen = ["loss", "learning_rate"], list[str]()
        assert title_of(pane, "learning rate") and f"metrics 1–6 of {len(pane.metric_names)} " in foot_of(pane)
        await pilot.press("left", "ctrl+left")
        for page in range(2):
            seen += pane.shown
            for tile, area in pane._tiles:
                assert tile.width >= 34 and tile.height >= 6 and area is not None and area.bounds == (0.0, 2000.0)
                inside = pane._grid.roles[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width]
                assert (inside == CURSOR).any()
            await pilot.press(*["pagedown"] * (1 + page))
        assert seen == pane.metric_names
        # The keys that choose what one chart shows have nothing to choose here.
        await pilot.press("n", "v")
        assert not isinstance(pilot.app.screen, ChooseScreen) and seen[-4:] == pane.shown
        # The grid keeps its size where the last page is not full, and takes in what is new.
        assert [tile.height for tile, _ in pane._tiles] == [6] * 4 and all(tile.width < 41 for tile, _ in pane._tiles)
        metrics = JournalWriter(run.metrics_file)
        metrics.append({"step": 1610, "attempt": 2, "train_loss": 1.0, "a_new_one": 3.0})
        metrics.close()
        holder.runs[0].poll()
        pane.show(holder.runs)
        assert "─ a new one ─" in text_of(pane)
        await pilot.press("pageup")
        assert pane.shown == seen[:6]
        # Escape takes back one thing at a time.
        await pilot.press("escape")
        assert pane.cursor_step is None and pane.shown == seen[:6]
        await pilot.press("escape")
        assert pane.shown == chosen and not pane.check_action("take_back", ())
        await pilot.press("V", "V", "pagedown", "N")
        assert pane.shown == ["loss", "perplexity"]
        await pilot.press("V", "down", "down", "enter")
        assert pane.shown == ["loss", pane.metric_names[3]]


async def test_all_metrics_of_several_runs_in_a_large_place(tmp_path: Path) -> None:
    """Guards that all stand on one page where they have the room, the widget being that of the comparison too."""
    for size, ascii in (((120, 32), True), ((200, 56), False)):
        async with pane_of(*several(tmp_path / str(size), 3), size=size, ascii=ascii) as (pilot, pane, _):
            await pilot.press("V")
            assert pane.shown == pane.metric_names and text_of(pane).isascii() == ascii
            lines = text_of(pane).splitlines()
            assert lines[-2].startswith(f" metrics 1{'-' if ascii else '–'}10 of 10 ") and "03-otter" in lines[-1]


async def test_mouse(tmp_path: Path) -> None:
    """Guards the wheel, which zooms where it points to, the click, and dragging."""
    async with pane_of(recorded_run(tmp_path)) as (pilot, pane, holder):
        await pilot.click(ChartsPane, offset=(37, 5))
        await pilot.pause()
        step = pane.cursor_step
        assert step is not None and 900 < step < 1100 and holder.moved == [step]
        for _ in range(5):
            await pilot._post_mouse_events([_wheel()], widget=ChartsPane, offset=(37, 5), button=0)
        low, high = pane.view.bounds(pane._extent_now())
        assert high - low == pytest.approx(2000 * 0.75**5) and low < step < high
        await pilot.mouse_down(ChartsPane, offset=(30, 5))
        await pilot.hover(ChartsPane, offset=(40, 5))
        await pilot.mouse_up(ChartsPane, offset=(40, 5))
        moved, _ = pane.view.bounds(pane._extent_now())
        assert low - moved == pytest.approx((high - low) * 10 / 62, rel=0.1)
        assert pane.cursor_step == step


def _wheel() -> type:
    from textual.events import MouseScrollUp

    return MouseScrollUp


async def test_nothing_is_drawn_again_that_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the budget of the screen: a redraw without news must send nothing."""
    async with pane_of(recorded_run(tmp_path)) as (_, pane, holder):
        refreshed: list[object] = []
        monkeypatch.setattr(pane, "refresh", lambda *regions, **_: refreshed.append(regions))
        pane.show(holder.runs)
        assert not refreshed
        await pane.run_action("toggle_log")
        assert refreshed


def troubled_run(directory: Path) -> RunDirectory:
    """A run with a spike, a value that is not finite, a rollback after it, and an alert."""
    run = recorded_run(directory, ended="", steps=1000)
    metrics, events = JournalWriter(run.metrics_file), JournalWriter(run.events_file)
    metrics.append({"step": 1010, "attempt": 1, "train_loss": 2.9, "elapsed": 101.0})
    metrics.append({"step": 1020, "attempt": 1, "train_loss": None, "elapsed": 102.0})
    events.append({"event": "notice", "kind": "spike", "step": 740, "attempt": 1, "loss": 2.9, "message": "a spike"})
    events.append(
        {
            "event": "recovered",
            "step": 750,
            "attempt": 2,
            "resumed_from": 750,
            "message": "",
            "learning_rate_scale": 0.5,
        }
    )
    for step in range(760, 1500, 10):
        row: Row = {"step": step, "attempt": 2, "train_loss": None if step == 1200 else 1.2 - step / 1e4}
        metrics.append({**row, "elapsed": step / 10, **({"resumed_from": 750} if step == 760 else {})})
    events.append({"event": "notice", "kind": "overfitting", "step": 1300, "since": 1000, "attempt": 2, "message": ""})
    metrics.close()
    events.close()
    return run


async def test_what_happened_is_marked_and_there_is_room_to_say_what_the_marks_mean(tmp_path: Path) -> None:
    """At 120×36 the legend had no room for the rollback when there were a NaN and a spike as well."""
    async with pane_of(troubled_run(tmp_path)) as (pilot, pane, _):
        foot = foot_of(pane)
        for words in ("★ best", "× 1 not finite", "▲ spike", "↺ went back"):
            assert words in foot
        marks = {chr(code) for code in pane._grid.codes[:-1][pane._grid.roles[:-1] == PROBLEM].tolist()}
        assert {"×", "▲", "↺", "!"} <= marks
        # The cursor says what the alert was.
        await pilot.press("left")
        while (pane.cursor_step or 0) > 1300:
            await pilot.press("left")
        assert "overfitting" in foot_of(pane)


# ── several runs ──────────────────────────────────────────────────────────────────────────────────────────────────


def several(directory: Path, number: int) -> list[RunDirectory]:
    runs = []
    for index in range(number):
        path = directory / f"{index + 1:02d}-otter"
        recorded_run(directory / f"of-{index}", steps=2000 - 300 * index).path.rename(path)
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            row |= {name: row[name] + 0.3 * index for name in ("train_loss", "val_loss") if name in row}
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        runs.append(RunDirectory(path))
    return runs


async def test_several_runs_are_told_apart_without_colours(tmp_path: Path) -> None:
    """Guards what stands on the lines: a number for the training, a shape for the evaluations; the legend names both."""
    async with pane_of(*several(tmp_path, 3), size=(100, 30)) as (pilot, pane, _):
        foot = foot_of(pane)
        for number, (name, shape) in enumerate((("1", "●"), ("2", "■"), ("3", "◆"))):
            assert f"{name} {shape} 0{number + 1}-otter" in foot
            cells = pane._grid.codes[:-2][pane._grid.roles[:-2] == FIRST_RUN + number]
            assert {ord(name), ord(shape)} <= set(cells.tolist())
        await pilot.press("left", "left", "left")
        step = pane.cursor_step
        assert step is not None and f"step {step:,}" in text_of(pane)


async def test_what_happened_to_each_of_several_runs_is_marked_in_its_colour(tmp_path: Path) -> None:
    """Only the best steps were: checkpoints, resumptions and alerts were those of a single run."""
    first = recorded_run(tmp_path / "first")
    troubled = troubled_run(tmp_path / "second")
    events = JournalWriter(troubled.events_file)
    events.append({"event": "saved", "step": 1400, "attempt": 2})
    events.close()
    async with pane_of(first, troubled, size=(116, 34)) as (pilot, pane, _):

        def roles_of(mark: str, row: int | None = None) -> set[int]:
            rows = np.s_[:15] if row is None else np.s_[row : row + 1]
            return set(pane._grid.roles[rows][pane._grid.codes[rows] == ord(mark)].tolist())

        shared, own = MARK, {FIRST_RUN, FIRST_RUN + 1}
        assert roles_of("★") == own and roles_of("▲") == roles_of("×", 1) == roles_of("↺", 1) == {FIRST_RUN + 1}
        assert roles_of("┊") == {FIRST_RUN}, "a mark, and no line through the other's curve"
        assert roles_of("!", 1) == {FIRST_RUN + 1} and roles_of("◇", 1) == {*own, shared}
        for entry in ("★ best", "× not finite", "▲ spike", "↺ went back", "┊ resumed", "! alert", "◇ saved"):
            assert entry in text_of(pane).splitlines()[-2]
        # The cursor says whose they are, without colours too.
        await pilot.press("left", *["ctrl+left"] * 5)
        while (pane.cursor_step or 0) > 1000:
            await pilot.press("left")
        assert " · ┊1 ◇1 · epoch" in text_of(pane)
        await pilot.press("ctrl+left")
        while (pane.cursor_step or 0) > 750:
            await pilot.press("left")
        assert " · ▲2 ↺2 Δ2 ◇12 · epoch" in text_of(pane)


async def test_a_spike_of_one_step_is_seen_in_one_run_among_several(tmp_path: Path) -> None:
    """Only smoothed lines were drawn of them, in which a spike of one step vanishes."""
    runs = several(tmp_path, 3)
    rows = [json.loads(line) for line in runs[1].metrics_file.read_text().splitlines()]
    next(row for row in rows if row["step"] == 800 and "train_loss" in row)["train_loss"] = 12.0
    runs[1].metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with pane_of(*runs, size=(100, 30)) as (_, pane, _):
        found = np.argwhere(pane._grid.roles[1:4] == FIRST_RUN + 1)
        area = pane._tiles[0][1]
        assert area is not None and len({int(column) for _, column in found}) in {1, 2}
        assert abs(area.place(int(found[0][1])) - 800) < 60


async def test_without_unicode_the_marks_are_letters_that_the_legend_names(tmp_path: Path) -> None:
    """Guards titles, foot and marks of a chart for terminals that have nothing but ASCII."""
    async with pane_of(troubled_run(tmp_path), size=(160, 40), ascii=True) as (pilot, pane, _):
        for _ in range(2):
            text = text_of(pane)
            assert text.isascii() and ". train" in text and "* EMA" in text and "o val" in text
            for entry in ("B best", "x 1 not finite", "S spike", "R went back"):
                assert entry in foot_of(pane)
            await pilot.press("plus", "plus", "left", *["less_than_sign"] * 9)
            assert "cursor > step" in foot_of(pane) and "* EMA 0.8" in foot_of(pane) and text_of(pane).isascii()
            await pilot.press("0", "escape")


async def test_more_runs_than_colours_and_names_that_have_no_room(tmp_path: Path) -> None:
    """Guards the foot: the names must leave room for the charts, and say that there are more."""
    runs = several(tmp_path, 2) * 20
    async with pane_of(*runs, size=(60, 20)) as (_, pane, _):
        lines = text_of(pane).splitlines()
        assert "more" in lines[-1] and "perplexity" in text_of(pane)
        assert len(pane._runs) == 40


def test_the_colours_of_runs_differ_at_256_and_the_first_of_them_at_16() -> None:
    """Guards the palette: terminals without true colours show the nearest they have, which may be the same for two."""
    for dark in (True, False):
        colours = [colour.rich_color for colour in run_colours(dark)]
        assert len({colour.downgrade(ColorSystem.EIGHT_BIT) for colour in colours}) == RUNS
        assert len({colour.downgrade(ColorSystem.STANDARD) for colour in colours[:4]}) == 4


def run_colours(dark: bool) -> list[Any]:
    import asyncio

    from tui.theme import DARK, LIGHT

    async def styles() -> list[Any]:
        app = PaneApp(ChartsPane)
        async with app.run_test(size=(60, 20)) as pilot:
            app.register_theme(LIGHT)
            app.theme = DARK.name if dark else LIGHT.name
            await pilot.pause()
            return [app.pane.get_component_styles(f"charts--run-{number}").color for number in range(1, RUNS + 1)]

    return asyncio.run(styles())


# ── anything ──────────────────────────────────────────────────────────────────────────────────────────────────────

value = st.one_of(
    st.none(), st.floats(allow_nan=False), st.sampled_from([0, -1, 1e308, 5e-324, "x", True, [], 10**400])
)
keys = st.lists(
    st.sampled_from(
        [
            "left",
            "right",
            "ctrl+left",
            "ctrl+right",
            "plus",
            "minus",
            "shift+left",
            "shift+right",
            "0",
            "f",
            "up",
            "down",
            "n",
            "N",
            "l",
            "a",
            "w",
            "W",
            "V",
            "pageup",
            "pagedown",
            "escape",
        ]
    ),
    max_size=8,
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.sampled_from(["train_loss", "val_loss", "tokens", "elapsed", "memory_rss"]), value)),
    st.integers(1, 130),
    st.integers(1, 40),
    st.integers(0, 3),
    keys,
    st.booleans(),
)
async def test_no_file_no_size_and_no_key_breaks_it(  # type: ignore[no-untyped-def]
    tmp_path_factory, rows, width: int, height: int, number: int, keys: list[str], ascii: bool
) -> None:
    """Guards the screen against what a file may hold: one exception while drawing ends the app."""
    path = tmp_path_factory.mktemp("any")
    run = RunDirectory(path)
    text = "".join(json.dumps({"step": at * 7, "attempt": 1, **row}) + "\n" for at, row in enumerate(rows))
    run.metrics_file.write_text(text)
    async with pane_of(*[run] * number, size=(width, height), ascii=ascii) as (pilot, pane, _):
        for key in keys:
            await pilot.press(key)
        assert pane._grid.codes.shape == (pane.size.height, pane.size.width)
        assert not ascii or text_of(pane).isascii()
        await pilot.resize_terminal(height, width)


# ── looks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


LOOKS = [(what, size) for what in ("plain", "zoomed", "troubled", "several", "ascii") for size in [(80, 24), (120, 36)]]


@pytest.mark.parametrize(("what", "size"), [*LOOKS, ("all", (120, 36))], ids=str)
def test_looks(snap_compare: Callable[..., bool], tmp_path: Path, what: str, size: tuple[int, int]) -> None:
    """The charts as a pane that fills the terminal."""
    makes: dict[str, Callable[[], list[RunDirectory]]] = {
        "several": lambda: several(tmp_path, 3),
        "troubled": lambda: [troubled_run(tmp_path)],
    }
    runs = makes.get(what, lambda: [recorded_run(tmp_path)])()
    holder = Holder([following(run) for run in runs], ascii=what == "ascii")

    async def show(pilot: Pilot[Any]) -> None:
        pane = holder.app.pane
        assert isinstance(pane, ChartsPane)
        pane.show(holder.runs)
        if what == "zoomed":
            await pilot.press("plus", "left", "ctrl+left", "left", "left", "down", "l")
        if what == "all":
            await pilot.press("V", "left", "ctrl+left")
        await settled(pilot)

    assert snap_compare(holder.app, terminal_size=size, run_before=show)
