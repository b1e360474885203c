"""The reduction of a series to columns: no spike may vanish, no value may break it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tui.charts.reduce import Points, column_of, drawable, reduce_points

# Any float that a metrics file could ever lead to, the odd ones often.
values_of_any_kind = st.lists(
    st.one_of(st.floats(), st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e308])), max_size=200
)


def columns_of(values, width, logarithmic=False):
    values = np.array(values, dtype=np.float64)
    steps = np.arange(values.size) * 10
    return reduce_points(Points.of(steps, values, logarithmic), (0.0, max(1.0, values.size * 10.0)), width)


@given(st.integers(1, 5000), st.integers(1, 300), st.data())
def test_a_spike_is_there_at_any_width(length, width, data):
    """The one step at which a loss of 9 stood among others of 2 must be seen however long the run is."""
    values = np.full(length, 2.0)
    place = data.draw(st.integers(0, length - 1))
    values[place] = 9.0
    columns = columns_of(values, width)
    assert np.nanmax(columns.high) == 9.0
    assert columns.high[column_of(np.array([place * 10]), (0.0, length * 10.0), width)[0]] == 9.0


@given(values_of_any_kind, st.integers(1, 200), st.booleans())
def test_columns_hold_the_extremes_in_order(values, width, logarithmic):
    columns = columns_of(values, width, logarithmic)
    good = np.array(values, dtype=np.float64)
    good = good[drawable(good, logarithmic)]
    taken = np.isfinite(columns.low)
    assert taken.any() == bool(good.size)
    if good.size:
        assert np.nanmin(columns.low) == good.min()
        assert np.nanmax(columns.high) == good.max()
        for inner in (columns.first, columns.last):
            assert (columns.low[taken] <= inner[taken]).all()
            assert (inner[taken] <= columns.high[taken]).all()
    assert columns.undrawable.any() == (good.size < len(values))


@given(st.lists(st.integers(0, 2**61), min_size=1, max_size=50), st.integers(1, 100))
def test_every_step_has_a_column_and_order_is_kept(steps, width):
    ordered = np.array(sorted(steps))
    columns = column_of(ordered, (0.0, float(ordered[-1])), width)
    assert ((columns >= 0) & (columns < width)).all()
    assert (np.diff(columns) >= 0).all()


def test_a_value_that_is_none_is_a_gap_and_is_marked():
    """A line drawn across a nan would show a loss that nobody measured."""
    columns = columns_of([1.0, 2.0, float("nan"), 2.0, 1.0], 6)
    assert columns.joined.tolist() == [False, True, False, False, True, False]
    assert columns.undrawable.tolist() == [False, False, True, False, False, False]


def test_zero_is_undrawable_on_a_logarithmic_scale_alone():
    assert columns_of([1.0, 0.0, 1.0], 4, logarithmic=True).undrawable.any()
    assert not columns_of([1.0, 0.0, 1.0], 4).undrawable.any()


def test_points_outside_the_bounds_are_left_out():
    columns = reduce_points(Points.of(np.array([0, 10, 20]), np.array([1.0, 2.0, 3.0])), (5.0, 15.0), 4)
    assert np.nanmin(columns.low) == np.nanmax(columns.high) == 2.0
    assert columns.before is not None and columns.before[0] < 0 and columns.before[1] == 1.0
    assert columns.after is not None and columns.after[0] > 3 and columns.after[1] == 3.0


@given(values_of_any_kind)
def test_positive_values_are_sorted_out_as_for_a_logarithmic_scale(values):
    """Guards the shorter way to a logarithmic chart: from points that had been sorted out for a linear one."""
    values, steps = np.array(values, dtype=np.float64), np.arange(len(values)) * 3
    shorter, direct = Points.of(steps, values).positive(), Points.of(steps, values, logarithmic=True)
    for name in ("places", "values", "gaps", "gap_places"):
        assert np.array_equal(getattr(shorter, name), getattr(direct, name))
