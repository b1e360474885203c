"""The moving average: the usual formula, in blocks, whatever pieces the values come in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.charts.smoothing import WEIGHTS, MovingAverage

finite = st.floats(allow_nan=False, allow_infinity=False)


def one_by_one(values: list[float], weight: float) -> list[float]:
    """The formula as textbooks have it."""
    averages, total = [], 0.0
    for count, value in enumerate(values, 1):
        total = weight * total + (1 - weight) * value
        averages.append(total / (1 - weight**count))
    return averages


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=400),
    st.one_of(st.sampled_from(WEIGHTS[1:]), st.floats(0.01, 0.999)),
    st.integers(0, 400),
)
def test_in_pieces_and_blocks_it_is_the_textbook_formula(values: list[float], weight: float, cut: int) -> None:
    """Guards the border between two blocks, between two calls, and the corrected bias of the first values."""
    average = MovingAverage(weight)
    found = np.concatenate([average.extend(np.array(part)) for part in (values[:cut], values[cut:])])
    assert np.allclose(found, one_by_one(values, weight), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("weight", [0.5, 0.9])
def test_over_many_blocks(weight: float) -> None:
    """Guards the way on from block to block: a block at 0.5 has two hundred values."""
    values = np.random.default_rng(1).normal(3, 1, 5000)
    assert np.allclose(MovingAverage(weight).extend(values), one_by_one(values.tolist(), weight), rtol=1e-12)


@given(st.lists(finite, min_size=1, max_size=50), st.one_of(st.sampled_from(WEIGHTS), st.floats(0, 0.999)))
def test_any_finite_values_give_finite_averages(values: list[float], weight: float) -> None:
    """Guards the sums of values near the largest float."""
    assert np.isfinite(MovingAverage(weight).extend(np.array(values))).all()


def test_constant_values_stay_as_they_are_from_the_first_on() -> None:
    """Guards the bias: without its correction a loss of 4 would begin at 0.4."""
    assert np.allclose(MovingAverage(0.9).extend(np.full(100, 4.0)), 4.0)
