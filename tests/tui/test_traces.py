"""The series that charts draw: grown with the run, read at a place, laid over other axes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.journal import Row
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tui.charts.smoothing import MovingAverage
from tui.charts.traces import Traces
from tui.run.following import Following

number = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -1.0, 1e308]))


def append(run: RunDirectory, rows: list[Row]) -> None:
    with run.metrics_file.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def followed(path: Path, rows: list[Row]) -> tuple[RunDirectory, Following, Traces]:
    run = RunDirectory(path)
    path.mkdir(parents=True, exist_ok=True)
    append(run, rows)
    following = Following(run)
    read(following)
    return run, following, Traces(following)


def read(following: Following) -> None:
    following.poll()
    while following.behind:
        following.poll()


def same_points(first: Traces, second: Traces, axis: str, weight: float) -> None:
    a, b = (traces.points("train_loss", axis, weight) for traces in (first, second))
    for name in ("places", "values", "gaps", "gap_places"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-9), name


@settings(max_examples=25)
@given(st.lists(number, min_size=2, max_size=80), st.data())
def test_a_series_that_grew_is_the_one_read_at_once(tmp_path_factory, values, data) -> None:  # type: ignore[no-untyped-def]
    """Guards the incremental way: raw and smoothed, over steps and over tokens, with values that cannot be drawn."""
    rows: list[Row] = [
        {"step": 10 * at, "attempt": 1, "tokens": 100 * at, "train_loss": value} for at, value in enumerate(values)
    ]
    cut = data.draw(st.integers(0, len(rows)))
    run, following, grown = followed(tmp_path_factory.mktemp("run"), rows[:cut])
    grown.points("train_loss", "tokens")
    grown.points("train_loss", "step", 0.9)
    append(run, rows[cut:])
    read(following)
    at_once = Traces(following)
    for axis in ("step", "tokens"):
        for weight in (0.0, 0.9):
            same_points(grown, at_once, axis, weight)
    assert grown.undrawable("train_loss") == sum(value is None for value in values)


def test_a_long_series_is_smoothed_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the borders of the pieces, and what another weight before it left in the same memory."""
    monkeypatch.setattr("tui.charts.traces._PIECE", 7)
    values = np.random.default_rng(1).normal(2, 1, 100)
    rows: list[Row] = [{"step": at, "attempt": 1, "train_loss": value} for at, value in enumerate(values.tolist())]
    _, _, traces = followed(tmp_path / "run", rows)
    for weight in (0.9, 0.5, 0.99, 0.9):
        smoothed = traces.points("train_loss", "step", weight).values
        assert np.allclose(smoothed, MovingAverage(weight).extend(values), rtol=1e-12)


def test_what_an_attempt_abandoned_is_gone(tmp_path: Path) -> None:
    """Guards a chart that would keep the steps a crashed attempt had come to, under those of the next."""
    rows: list[Row] = [{"step": step, "attempt": 1, "train_loss": 3.0} for step in range(0, 100, 10)]
    run, following, traces = followed(tmp_path / "run", rows)
    traces.refresh()
    assert traces.points("train_loss", "step", 0.9).places.size == 10
    # The last step of before has the same value by chance.
    again: list[Row] = [
        {"step": step, "attempt": 2, "train_loss": 3.0 if step == 90 else 2.0} for step in range(60, 120, 10)
    ]
    append(run, [{**again[0], "resumed_from": 50}, *again[1:]])
    read(following)
    traces.refresh()
    points = traces.points("train_loss", "step")
    assert points.places.tolist() == [*range(0, 120, 10)]
    assert points.values.tolist() == [3.0] * 6 + [2.0] * 3 + [3.0] + [2.0] * 2


def test_a_reading_is_the_nearest_logged_step(tmp_path: Path) -> None:
    """Guards a cursor that would read between two values, or pass a value that is not finite."""
    rows: list[Row] = [
        {"step": step, "attempt": 1, "elapsed": step / 10, "train_loss": None if step == 200 else step / 100}
        for step in range(0, 500, 100)
    ]
    _, _, traces = followed(tmp_path / "run", rows)
    reading = traces.reading("train_loss", "step", 140)
    assert reading is not None and (reading.step, reading.value) == (100, 1.0)
    reading = traces.reading("train_loss", "elapsed", 29.0)
    assert reading is not None and (reading.step, reading.value) == (300, 3.0)
    reading = traces.reading("train_loss", "step", 190)
    assert reading is not None and reading.step == 200 and math.isnan(reading.value)
    assert traces.reading("nothing", "step", 5) is None


def test_the_cursor_goes_from_value_to_value(tmp_path: Path) -> None:
    """Guards both ends, steps that lie farther apart than a column, and a value that cannot be drawn."""
    rows: list[Row] = [
        {"step": step, "attempt": 1, "train_loss": None if step == 200 else 1.0} for step in range(0, 500, 100)
    ]
    _, _, traces = followed(tmp_path / "run", rows)

    def near(place: float, by: float) -> float | None:
        return traces.logged_near("train_loss", "step", place, by)

    assert [near(100, 30), near(100, 150), near(300, -30), near(400, 30), near(0, -30)] == [200, 300, 200, 400, 0]
    assert [near(249, 0.0), near(251, 0.0)] == [200, 300]
    assert traces.logged_near("nothing", "step", 0, 1) is None


def test_axes(tmp_path: Path) -> None:
    """Guards the way from steps to tokens and back, and the clock of a machine that was put back."""
    traces = Traces(Following(recorded_run(tmp_path)))
    read(traces.following)
    assert all(traces.has_axis(axis) for axis in ("step", "tokens", "epoch", "elapsed"))
    assert traces.place_of("tokens", 500) == 500 * 2048 and traces.step_at("tokens", 500 * 2048) == 500
    rows: list[Row] = [
        {"step": step, "attempt": 1, "elapsed": 10.0 - abs(step - 5), "train_loss": 1.0} for step in range(10)
    ]
    _, _, backwards = followed(tmp_path / "backwards", rows)
    assert not backwards.has_axis("tokens")
    assert (np.diff(backwards.points("train_loss", "elapsed").places) >= 0).all()
