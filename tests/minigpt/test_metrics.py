"""The one reader of metrics.jsonl: each step once, by its last attempt; what was given up stays visible."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.journal import Row
from minigpt.metrics import Metrics, Recovery


def metrics_of(path: Path, *rows: Any) -> Metrics:
    """Metrics over a file to which the rows are appended; text and bytes go in as they are."""
    with path.open("ab") as file:
        for row in rows:
            file.write(row if isinstance(row, bytes) else (json.dumps(row) + "\n").encode())
    return Metrics(path).read_all()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def row(step: int, attempt: int = 1, **values: Any) -> Row:
    return {"step": step, "attempt": attempt, **values}


@st.composite
def attempts(draw: st.DrawFn) -> list[list[Row]]:
    """The rows of a run that was killed and resumed a few times; each value tells its attempt."""
    made: list[list[Row]] = []
    reached = 0
    for attempt in range(1, draw(st.integers(1, 5)) + 1):
        start = draw(st.integers(0, reached))
        steps = range(start + (attempt > 1), start + draw(st.integers(1, 8)) + 1)
        rows = [row(step, attempt, loss=attempt * 1000 + step) for step in steps]
        if attempt > 1:
            rows[0]["resumed_from"] = start
        made.append(rows)
        reached = steps[-1]
    return made


@given(attempts(), st.integers(1, 5))
def test_each_step_is_there_once_with_the_value_of_its_last_attempt(made: list[list[Row]], polls: int) -> None:
    """Also where the file is taken in bit by bit, as a dashboard does."""
    expected: dict[int, float] = {}
    recoveries = []
    for index, rows in enumerate(made):
        if index:
            kept = rows[0]["resumed_from"]
            recoveries.append(Recovery(index + 1, max(expected), kept))
            expected = {step: value for step, value in expected.items() if step <= kept}
        expected |= {entry["step"]: entry["loss"] for entry in rows}
    written = [entry for rows in made for entry in rows]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "metrics.jsonl")
        metrics = Metrics(file)
        for start in range(0, len(written), polls):
            metrics_of(file, *written[start : start + polls])
            assert metrics.poll()
        assert not metrics.poll()
    steps, values = metrics.series("loss")
    assert dict(zip(steps.tolist(), values.tolist(), strict=True)) == expected
    assert steps.tolist() == sorted(expected)
    assert metrics.recoveries == recoveries
    assert metrics.last == written[-1]


def test_an_attempt_that_begins_anew_leaves_nothing_of_the_one_before(path: Path) -> None:
    """Killed before its first checkpoint, a run starts from step 0 again: there is no resumed_from then."""
    metrics = metrics_of(path, row(0, loss=9), row(10, loss=8), row(20, loss=7), row(0, 2, loss=5), row(10, 2, loss=4))
    assert metrics.series("loss")[0].tolist() == [0, 10]
    assert metrics.series("loss")[1].tolist() == [5, 4]
    assert metrics.recoveries == [Recovery(2, 20, 0)]


def test_null_is_a_gap(path: Path) -> None:
    metrics = metrics_of(path, row(1, loss=None), row(2, loss=3.0), b'{"step": 3, "attempt": 1, "loss": NaN}\n')
    values = metrics.series("loss")[1]
    assert np.isnan(values).tolist() == [True, False, True]


def test_the_best_loss_is_that_of_the_steps_that_count(path: Path) -> None:
    """After a recovery the best may be one of the steps that were given up."""
    metrics = metrics_of(path, row(10, val_loss=3.0), row(20, val_loss=1.0), row(30, val_loss=2.0))
    assert metrics.best == (20, 1.0)
    metrics_of(path, row(20, 2, resumed_from=10, val_loss=2.5))
    assert metrics.poll()
    assert metrics.best == (20, 2.5)
    metrics_of(path, row(30, 2, val_loss=None), row(40, 2, val_loss=2.25))
    metrics.poll()
    assert metrics.best == (40, 2.25)
    metrics_of(path, row(5, 3, resumed_from=4))
    metrics.poll()
    assert metrics.best is None


def test_a_best_loss_is_a_finite_number(path: Path) -> None:
    """A NaN in first place was never beaten, a bool counted as 1, and a number of 400 digits raised."""
    bad = [b"NaN", b"-Infinity", b"true", b"[1]", b'"low"', b"1" + b"0" * 400]
    rows = [b'{"step": %d, "attempt": 1, "val_loss": %s}\n' % (step, value) for step, value in enumerate(bad)]
    assert metrics_of(path, *rows).best is None
    assert metrics_of(path, row(10, val_loss=2)).best == (10, 2.0)


def test_rows_that_are_none_are_ignored(path: Path) -> None:
    good = row(10, loss=1.0)
    bad: list[Any] = [
        {"loss": 5.0},
        {"step": -1, "loss": 5.0},
        {"step": True, "loss": 5.0},
        {"step": 1.5, "loss": 5.0},
        {"step": "11", "loss": 5.0},
        {"step": 2**70, "loss": 5.0},
        {"step": 12, "attempt": "2", "loss": 5.0},
        row(10, loss=5.0),
        row(5, loss=5.0),
        row(20, 0, loss=5.0),
        [],
        b"\xff\n",
        b"\n",
    ]
    metrics = metrics_of(path, good, *bad)
    assert metrics.series("loss")[0].tolist() == [10]
    assert metrics.last == good
    assert metrics.recoveries == []
    # Values that are no numbers leave a row without that metric.
    metrics_of(path, row(30, loss="x", flag=True, note=[1], ok=1))
    metrics.poll()
    assert metrics.series("loss")[0].tolist() == [10]
    assert metrics.names() == ["loss", "ok"]


def test_a_replaced_file_starts_the_metrics_over(path: Path) -> None:
    metrics = metrics_of(path, row(1, loss=1.0), row(2, loss=2.0), row(1, 2, loss=3.0))
    path.write_bytes(b"")
    assert metrics.poll()
    assert metrics.names() == []
    assert (metrics.last, metrics.best, metrics.recoveries, metrics.attempt) == ({}, None, [], 0)
    metrics_of(path, row(7, loss=4.0))
    metrics.poll()
    assert metrics.series("loss")[0].tolist() == [7]


def test_no_file_is_no_metrics(path: Path) -> None:
    metrics = Metrics(path).read_all()
    assert not metrics.poll()
    assert metrics.last == {}
    assert metrics.series("loss")[0].size == 0
    assert math.isnan(metrics_of(path, row(0, loss=None)).series("loss")[1][0])


@given(st.lists(st.dictionaries(st.sampled_from(["step", "attempt", "resumed_from", "val_loss", "x"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 20) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2), max_leaves=3)), max_size=10))  # fmt: skip
def test_no_file_makes_it_raise(rows: list[Row]) -> None:
    """A run directory may come from anybody."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = metrics_of(Path(folder, "metrics.jsonl"), *rows)
        for name in metrics.names():
            steps, values = metrics.series(name)
            assert len(steps) == len(values)
            assert (np.diff(steps) > 0).all()
