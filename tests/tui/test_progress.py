"""The lines on top of the dashboard: what they say at every width, their layout, and how the time left is told."""

import asyncio
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App
from textual.content import Content
from textual.widget import Widget

from minigpt.files import write_atomically
from minigpt.journal import JournalWriter, Row
from minigpt.rundir import RunDirectory
from tests.recorded import MAX_STEPS, recorded_run
from tests.tui.panes import PaneApp, settled
from tui.run.following import Following
from tui.run.time_left import seconds_left, speed_of, steps_to_checkpoint, steps_to_evaluation
from tui.widgets.progress import ONE_LINE, header, progress, utilisation
from tui.widgets.status_line import StatusLine

COST = "dashboard 0.4% of a core"


def followed(run: RunDirectory, *, live: bool = True) -> Following:
    """As the dashboard sees it; while it is live its lock is held."""
    following = Following(run)
    for _ in range(20):
        following.poll(held=live)
    return following


def on_a_gpu(directory: Path, steps: int = 1010) -> Following:
    """The recorded run on a device whose peak is known, with its intervals configured."""
    run = recorded_run(directory, ended="", steps=steps)
    text = run.config_file.read_text() + "eval_interval = 250\ncheckpoint_interval = 500\n\n[sample]\ninterval = 250\n"
    write_atomically(run.config_file, text)
    events = JournalWriter(run.events_file)
    values = {"max_steps": MAX_STEPS, "steps_per_epoch": 30.1, "flops_per_token": 5_000_000, "peak_flops": 3e11}
    events.append({"event": "started", "step": steps, "attempt": 1, "device": "cuda", **values})
    events.close()
    return followed(run)


# ── what it says ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [80, 120, 200])
def test_looks(snap_compare: Any, tmp_path: Path, width: int) -> None:
    following = on_a_gpu(tmp_path)

    class ProgressApp(PaneApp):
        def on_mount(self) -> None:
            self.call_after_refresh(lambda: self.pane.show(progress(following, self.pane.size.width, COST)))  # type: ignore[attr-defined]

    def make() -> Widget:
        line = StatusLine()
        line.styles.padding = (0, 1)
        return line

    assert snap_compare(ProgressApp(make), terminal_size=(width, 4), run_before=settled)


EVERYTHING = [
    "step 1,010/2,000",
    "50%",
    "ETA 1:39",
    "epoch 33.6",
    "2.07M tokens",
    "20.5k tok/s",
    "MFU 34%",
    "eval in 0:24",
    "save in 0:49",
    COST,
]


@pytest.mark.parametrize("width", [78, 118, 198])
def test_all_of_it_is_there_from_80_columns_on(tmp_path: Path, width: int) -> None:
    lines = progress(on_a_gpu(tmp_path), width, COST).plain.splitlines()
    assert len(lines) == (1 if width >= ONE_LINE else 2)
    for words in EVERYTHING:
        assert words in "\n".join(lines)


@pytest.mark.parametrize(("width", "left"), [(20, 2), (40, 6), (60, 8), (70, 9)])
def test_the_most_important_stays_where_it_is_narrow(tmp_path: Path, width: int, left: int) -> None:
    text = progress(on_a_gpu(tmp_path), width, COST).plain
    shown = [words for words in EVERYTHING if words in text]
    assert shown[:1] == EVERYTHING[:1] and "20.5k tok/s" in shown
    assert len(shown) >= left
    if width >= 40:
        assert "ETA 1:39" in shown and max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 78, 118, 198])
def test_a_figure_that_ticks_moves_no_other(tmp_path: Path, width: int) -> None:
    """Figures that jump about with each look cannot be read, and each jump is sent over the connection."""
    places: list[list[int]] = []
    for steps, share in ((90, 9), (1010, 50), (1990, 99)):
        following = on_a_gpu(tmp_path / str(share), steps)
        text = progress(following, width, COST).plain
        assert f"{steps * 100 // MAX_STEPS}%" in text
        names = ("/2,000", "ETA", "epoch", "tok/s", "MFU", "eval in", "save in", COST[:4], "\n")
        places.append([text.find(name) for name in names])
    assert places[0] == places[1] == places[2]


def test_without_a_known_peak_there_is_no_utilisation(tmp_path: Path) -> None:
    """A CPU has none, and a run of an earlier version did not say."""
    following = followed(recorded_run(tmp_path, ended="", steps=1010))
    assert "MFU" not in progress(following, 200).plain
    assert utilisation(following, 1e6) is None


@pytest.mark.parametrize("peak", [0, -1, True, "fast", None, float("nan"), float("inf")])
def test_a_peak_of_anything(tmp_path: Path, peak: object) -> None:
    """Guards against an event that somebody else wrote."""
    following = on_a_gpu(tmp_path)
    for started in ({"peak_flops": peak, "flops_per_token": 1e6}, {"peak_flops": 1e12, "flops_per_token": peak}):
        following.started = started
        assert utilisation(following, 1e6) is None
    following.started = {"peak_flops": 1e-300, "flops_per_token": 1e300}
    assert len(progress(following, 198).plain) <= 198


@pytest.mark.parametrize(
    ("ended", "words", "others"),
    [("finished", "took 1:41", "ETA"), ("stopped", "took 1:41", "eval in"), ("paused", "paused: p goes on", "ETA")],
)
def test_what_is_not_going_on_has_no_time_left(tmp_path: Path, ended: str, words: str, others: str) -> None:
    following = followed(recorded_run(tmp_path, ended=ended, steps=1010), live=ended == "paused")
    text = progress(following, 118, "").plain
    assert words in text and others not in text and "epoch 33.6" in text
    assert "tok/s" not in text and "eval in" not in text and "save in" not in text


def test_an_evaluation_stands_in_the_place_of_the_next_one(tmp_path: Path) -> None:
    following = on_a_gpu(tmp_path)
    before = progress(following, 78).plain
    events = JournalWriter(following.run.events_file)
    events.append({"event": "evaluating", "step": 1010, "attempt": 1})
    events.close()
    following.poll(held=True)
    after = progress(following, 78).plain
    assert "evaluating …" in after and "eval in" not in after
    assert [before.find("ETA"), before.find("save in")] == [after.find("ETA"), after.find("save in")]


def test_bars_without_other_characters(tmp_path: Path) -> None:
    following = on_a_gpu(tmp_path)
    assert "#--" in progress(following, 78, ascii=True).plain and "━" in progress(following, 78).plain


def test_the_header_stays_one_line(tmp_path: Path) -> None:
    following = on_a_gpu(tmp_path)
    for width in (20, 40, 78, 118, 198):
        assert "\n" not in header(following, width).plain
    for words in ("brave-otter", "● training", "cuda"):
        assert words in header(following, 118).plain


def test_a_run_limited_by_time_shows_its_share_of_it(tmp_path: Path) -> None:
    """With no number of steps it showed `step 1,000/0`."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    events = JournalWriter(run.events_file)
    events.append({"event": "started", "step": 1000, "attempt": 1, "max_steps": 0, "max_minutes": 5.0})
    events.close()
    text = progress(followed(run), 118).plain
    for words in ("step 1,000 ━", "33% of 5:00", "ETA 3:20", "20.5k tok/s"):
        assert words in text


def test_numbers_that_are_none_leave_the_figures_standing(tmp_path: Path) -> None:
    """Null is read as nan, and a duration of nan raised."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    metrics = JournalWriter(run.metrics_file)
    metrics.append({"step": 1010, "attempt": 1, "elapsed": None, "epoch": None, "tokens": None})
    metrics.append({"step": 1020, "attempt": 1, "elapsed": float("inf"), "tokens_per_second": None})
    metrics.close()
    text = progress(followed(run), 118).plain
    assert "step 1,020/2,000" in text and "nan" not in text and "ETA …" in text


async def test_a_line_that_did_not_change_is_not_painted() -> None:
    app = App[None]()
    async with app.run_test() as pilot:
        line = StatusLine()
        await app.mount(line)
        await pilot.pause()
        updates: list[int] = []
        line.update = lambda *_, **__: updates.append(1)  # type: ignore[method-assign]
        line.show(Content("step 10"))
        line.show(Content("step 10"))
        await asyncio.sleep(0)
        assert len(updates) == 1


# ── the time left ─────────────────────────────────────────────────────────────────────────────────────────────────


def trained(
    directory: Path,
    *,
    steps: Iterable[int],
    seconds: float = 0.1,
    first: float = 0.0,
    evaluation: float = 0.0,
    every: int = 100,
    max_steps: int = 1000,
    attempts: Iterable[tuple[int, int]] = (),
) -> Following:
    """A run as its trainer would have timed it, which evaluates before the first step and each `every` steps.

    `first` is what its first step takes besides: the compilation. `attempts` are steps from which it was resumed,
    each with the step that it had come to.
    """
    run = recorded_run(directory, ended="", steps=0)
    config = (
        f"[train]\nmax_steps = {max_steps}\neval_interval = {every}\ncheckpoint_interval = 0\n[sample]\ninterval = 0\n"
    )
    write_atomically(run.config_file, config)
    run.metrics_file.unlink()
    metrics, events = JournalWriter(run.metrics_file), JournalWriter(run.events_file)
    events.append({"event": "started", "step": 0, "attempt": 1, "max_steps": max_steps})
    elapsed, before, cold = evaluation, 0, True
    resumed, attempt = dict(attempts), 1
    times = dict[int, float]()
    metrics.append({"step": 0, "attempt": 1, "tokens": 0, "elapsed": elapsed, "val_loss": 3.0})
    for step in steps:
        took = (step - before) * seconds + first * cold
        elapsed += took
        row: Row = {"step": step, "attempt": attempt, "tokens": step * 64, "train_loss": 2.0}
        row["tokens_per_second"] = (step - before) * 64 / took
        if cold and attempt > 1:
            row["resumed_from"] = before
        if step % every == 0:
            elapsed += evaluation
            row["val_loss"] = 2.0
        metrics.append({**row, "elapsed": elapsed})
        before, cold, times[step] = step, False, elapsed
        if step in resumed:
            attempt, before, cold, elapsed = attempt + 1, resumed[step], True, times[resumed[step]]
            events.append({"event": "started", "step": before, "attempt": attempt, "resumed_from": before})
    metrics.close()
    events.close()
    return followed(run)


def test_a_slow_first_row_does_not_spoil_it(tmp_path: Path) -> None:
    """A compilation of 90 s made a run of two minutes look like one of three hours."""
    following = trained(tmp_path, steps=range(10, 51, 10), first=90.0)
    assert seconds_left(following) == pytest.approx(950 * 0.1, rel=0.01)


def test_before_the_second_row_nothing_is_claimed(tmp_path: Path) -> None:
    following = trained(tmp_path, steps=[10], first=90.0)
    assert speed_of(following) is None and seconds_left(following) is None
    assert "ETA …" in progress(following, 78).plain and "eval in 90 steps" in progress(following, 78).plain


def test_a_resumed_run_is_calibrated_anew(tmp_path: Path) -> None:
    """It may go on on another machine; its first row has the compilation again, and caches that are cold."""
    for reached, left in (((510,), None), ((510, 520), 48.0)):
        steps = [*range(10, 591, 10), *reached]
        following = trained(tmp_path / str(left), steps=steps, first=90.0, attempts=[(590, 500)])
        assert following.metrics.recoveries[-1].resumed_from == 500
        expected = None if left is None else pytest.approx(left, rel=0.01)
        assert seconds_left(following) == expected


@pytest.mark.parametrize("reached", [50, 90, 100, 110, 550, 1000])
def test_evaluations_to_come_are_counted(tmp_path: Path, reached: int) -> None:
    """Ten evaluations of 30 s beside 100 s of steps: from the first row on, and right to the last one."""
    following = trained(tmp_path, steps=range(10, reached + 1, 10), evaluation=30.0)
    to_come = (1000 - reached) // 100 + (reached % 100 > 0)
    assert seconds_left(following) == pytest.approx((1000 - reached) * 0.1 + 30 * to_come, rel=0.01)


def test_a_step_that_met_with_something_else_does_not_count(tmp_path: Path) -> None:
    following = trained(tmp_path, steps=range(10, 301, 10), seconds=0.1)
    metrics = JournalWriter(following.run.metrics_file)
    metrics.append(
        {"step": 310, "attempt": 1, "tokens": 310 * 64, "tokens_per_second": 640 / 60, "elapsed": 90.0, "epoch": 1.0}
    )
    metrics.close()
    following.poll(held=True)
    assert seconds_left(following) == pytest.approx(69.0, rel=0.01)


def test_rows_of_an_earlier_version_have_fewer_figures(tmp_path: Path) -> None:
    """Without tokens and throughput all that happened counts as steps."""
    following = trained(tmp_path, steps=range(10, 301, 10))
    rows = following.run.metrics_file.read_text()
    following.run.metrics_file.write_text(re.sub(r', ?"tokens(_per_second)?": ?[0-9.e+]+', "", rows))
    assert "tokens" not in following.run.metrics_file.read_text()
    assert seconds_left(followed(following.run)) == pytest.approx(70.0, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "evaluation", "checkpoint"),
    [
        ({"eval_interval": 250, "checkpoint_interval": 400}, 240, 190),
        ({"eval_interval": 0, "checkpoint_interval": 1}, 14, 1),  # once an epoch of 30.1 steps: at 1,024
        ({"eval_interval": 10**6, "checkpoint_interval": 10**6}, 990, 990),  # at the end in any case
        ({}, 240, None),  # as it was so far
        ({"eval_interval": -1, "checkpoint_interval": "often"}, 240, None),
        ({"eval_interval": True, "checkpoint_interval": 0}, 240, None),
    ],
    ids=str,
)
def test_what_comes_next(tmp_path: Path, settings: Row, evaluation: int, checkpoint: int | None) -> None:
    following = on_a_gpu(tmp_path)
    following.settings = {"train": {"max_steps": MAX_STEPS, **settings}}
    assert following.step == 1010
    assert (steps_to_evaluation(following), steps_to_checkpoint(following)) == (evaluation, checkpoint)
    assert seconds_left(following) is not None


FIGURES = ["elapsed", "tokens", "tokens_per_second", "val_loss", "epoch"]
figures = st.dictionaries(
    st.sampled_from(FIGURES), st.one_of(st.none(), st.floats(), st.integers(-(2**70), 2**70)), max_size=5
)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(figures, max_size=8), apart=st.integers(1, 300), interval=st.integers(-1, 500))
def test_rows_of_anything(rows: list[Row], apart: int, interval: int) -> None:
    """Figures that are missing here and there, and numbers that are none, large, negative or not rising."""
    with tempfile.TemporaryDirectory() as directory:
        run = recorded_run(Path(directory), ended="", steps=0)
        metrics = JournalWriter(run.metrics_file)
        for number, row in enumerate(rows, 1):
            metrics.append({"step": number * apart, "attempt": 1, **row})
        metrics.close()
        following = followed(run)
        following.settings = {"train": {"max_steps": MAX_STEPS, "eval_interval": interval}}
        left = seconds_left(following)
        assert left is None or 0 <= left < float("inf")
        for width in (40, 78, 198):
            assert "nan" not in progress(following, width, COST).plain


def test_a_long_run_is_not_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at a run with a million rows took longer than drawing it."""
    monkeypatch.setattr("tui.run.time_left._MOST_ROWS", 200)
    following = trained(tmp_path, steps=range(10, 5001, 10), max_steps=10_000, evaluation=30.0, every=1000)
    sizes = []
    diff = np.diff
    monkeypatch.setattr("tui.run.time_left.np.diff", lambda values, **kwargs: sizes.append(len(values)) or diff(values))
    left = seconds_left(following)
    assert max(sizes) <= 200
    assert left == pytest.approx(5000 * 0.1 + 5 * 30, rel=0.1)
