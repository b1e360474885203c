"""The drawing of charts: anything can be drawn, and what is drawn can be read."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tui.plot import BEST, PROBLEM, RECOVERY, TRAIN, VAL, Grid, Line, Picture, draw
from tui.scale import labels_of

any_float = st.one_of(
    st.floats(), st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 5e-324, 1.7e308, -1.7e308])
)


def text_of(grid: Grid) -> list[str]:
    return ["".join(map(chr, row)) for row in grid.codes.tolist()]


def picture_of(values, **changes) -> Picture:
    values = np.array(values, dtype=np.float64)
    line = Line(np.arange(values.size) * 10, values, TRAIN)
    return dataclasses.replace(Picture("loss", (line,), waiting="nothing yet"), **changes)


def axis_labels(grid: Grid) -> list[str]:
    return [row.split("┤")[0].strip() for row in text_of(grid) if "┤" in row]


@given(st.lists(any_float, max_size=60), st.integers(0, 140), st.integers(0, 40), st.booleans(), st.integers(0, 2**40))
@example([1e308, -1e308], 40, 10, False, 0)
@example([5e-324, 1e308], 40, 10, True, 0)
@example([0.0], 40, 10, True, 0)
@example([0.0], 4, 3, False, 0)
def test_any_data_draws_at_any_size(values, width, height, logarithmic, end):
    """plotext raised on an inf, on the logarithm of 0 and on nothing at all, and took the app down with it."""
    best = (0, values[0]) if values else None
    grid = draw(picture_of(values, logarithmic=logarithmic, end=end, best=best, recoveries=(20,)), width, height)
    assert grid.codes.shape == grid.roles.shape == (height, width)
    for row in text_of(grid):
        assert row.isprintable()


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.booleans())
def test_labels_of_an_axis_are_all_different(low, span, logarithmic):
    """Labels rounded to the same text say nothing: an axis from 1.4001 to 1.4009 once read 1.40 five times."""
    low = abs(low) + 1e-9 if logarithmic else low
    labels = axis_labels(draw(picture_of([low, low + span], logarithmic=logarithmic), 60, 24))
    assert len(labels) == len(set(labels))


def test_the_usual_losses_have_readable_labels():
    assert axis_labels(draw(picture_of(np.linspace(4.2, 1.4, 50)), 60, 14)) == ["4", "3", "2"]


def test_one_point_can_be_seen():
    """A single braille dot is easily taken for dirt on the screen."""
    assert "•" in "".join(text_of(draw(picture_of([3.0]), 40, 10)))


def test_constant_values_draw_as_a_line_in_the_middle():
    rows = [index for index, row in enumerate(draw(picture_of([2.0] * 9), 40, 12).roles) if TRAIN in row]
    assert len(rows) == 1
    assert 3 <= rows[0] <= 8


def test_a_spike_reaches_the_top_however_long_the_run():
    values = np.full(100_000, 2.0)
    values[70_001] = 9.0
    grid = draw(picture_of(values), 60, 12)
    assert (grid.roles == TRAIN).any(axis=1).nonzero()[0].min() <= 2


def test_what_cannot_be_drawn_is_marked_where_it_happened():
    values = [2.0] * 50 + [float("nan")] + [2.0] * 49
    grid = draw(picture_of(values), 60, 12)
    marks = np.argwhere(grid.roles == PROBLEM)
    assert len(marks) == 1
    assert "×" in text_of(grid)[int(marks[0][0])]


def test_nothing_to_draw_says_so():
    for values in ([], [float("nan")], [float("inf")]):
        assert any("nothing yet" in row for row in text_of(draw(picture_of(values), 40, 10)))


def test_points_lie_on_their_line():
    """Rounded apart, a point of the validation loss stood one row above its own line."""
    values = np.linspace(4, 1, 6)
    grid = draw(Picture("loss", (Line(np.arange(6) * 100, values, VAL, "●"),)), 80, 20)
    for row, column in np.argwhere(grid.codes == ord("●")).tolist():
        around = grid.roles[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert (around == VAL).sum() > 1


def test_best_and_recovery_are_marked_by_shape():
    grid = draw(picture_of(np.linspace(3, 1, 50), best=(300, 1.8), recoveries=(200,)), 60, 12)
    assert chr(grid.codes[grid.roles == BEST][0]) == "★"
    assert chr(grid.codes[grid.roles == RECOVERY][0]) == "┊"


def test_the_axis_never_reaches_beyond_the_end_of_the_run():
    last = text_of(draw(picture_of(np.linspace(3, 1, 200), end=2000), 60, 12))[-1]
    assert last.rstrip().endswith("2,000")


@given(st.lists(st.floats(0.5, 5), min_size=2, max_size=40), st.lists(st.floats(0.5, 5), max_size=10))
def test_changed_spans_name_every_change(first, more):
    """A cell missing from the spans would keep the old picture on the screen."""
    before, after = draw(picture_of(first), 50, 12), draw(picture_of([*first, *more]), 50, 12)
    covered = np.zeros(before.codes.shape, bool)
    for row, column, width in after.changed_spans(before):
        covered[row, column : column + width] = True
    assert not ((before.codes != after.codes) | (before.roles != after.roles))[~covered].any()


def test_a_new_point_changes_few_cells():
    """Every cell sent costs the training thread: an axis that moved with each value would repaint the whole chart."""
    values = 1.4 + 2.8 * np.exp(-np.arange(300) / 60)
    changed = 0
    for number in range(200, 240):
        before, after = (draw(picture_of(values[:count], end=3000), 70, 14) for count in (number, number + 1))
        changed += sum(width for _, _, width in after.changed_spans(before))
    assert changed / 40 < 70 * 14 / 20


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.0, 500.0, 1000.0, 1500.0], ["0", "500", "1,000", "1,500"]),
        ([1.4, 1.45, 1.5], ["1.40", "1.45", "1.50"]),
        ([8e7, 1e8, 1.2e8], ["8e7", "1.0e8", "1.2e8"]),
        ([-0.002, 0.0, 0.002], ["-0.002", "0", "0.002"]),
        ([1e-5, 2e-5], ["1e-5", "2e-5"]),
    ],
)
def test_labels(ticks, labels):
    assert labels_of(ticks, logarithmic=False) == labels


def test_labels_of_a_logarithmic_axis_have_decimals_only_where_they_need_them():
    assert labels_of([0.1, 1.0, 10.0, 100.0], logarithmic=True) == ["0.1", "1.0", "10", "100"] or labels_of(
        [0.1, 1.0, 10.0, 100.0], logarithmic=True
    ) == ["0.1", "1", "10", "100"]
