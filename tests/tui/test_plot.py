"""The drawing of charts: anything can be drawn, and what is drawn can be read."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tui.charts.grid import BEST, CURSOR, MARK, PROBLEM, RAW, RECOVERY, TRAIN, VAL, Grid, fitted, in_ascii
from tui.charts.plot import Line, Picture, draw, draw_framed, frame_of
from tui.charts.reduce import Points
from tui.charts.scale import axis_labels, axis_ticks, labels_of

any_float = st.one_of(
    st.floats(), st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 5e-324, 1.7e308, -1.7e308])
)


def text_of(grid: Grid) -> list[str]:
    return ["".join(map(chr, row)) for row in grid.codes.tolist()]


def picture_of(values, **changes) -> Picture:
    values = np.array(values, dtype=np.float64)
    line = Line(Points.of(np.arange(values.size) * 10, values), TRAIN)
    return dataclasses.replace(Picture("loss", (line,), waiting="nothing yet"), **changes)


def value_labels(grid: Grid) -> list[str]:
    return [row.split("┤")[0].strip() for row in text_of(grid) if "┤" in row]


@given(st.lists(any_float, max_size=60), st.integers(0, 140), st.integers(0, 40), st.booleans(), st.integers(0, 2**40))
@example([1e308, -1e308], 40, 10, False, 0)
@example([5e-324, 1e308], 40, 10, True, 0)
@example([0.0], 40, 10, True, 0)
@example([0.0], 4, 3, False, 0)
def test_any_data_draws_at_any_size(values, width, height, logarithmic, end):
    """plotext raised on an inf, on the logarithm of 0 and on nothing at all, and took the app down with it."""
    points = (("★", BEST, ((0.0, values[0]),)),) if values else ()
    picture = picture_of(values, logarithmic=logarithmic, end=end, points=points, recoveries=(20,), cursor=30.0)
    for one in (picture, dataclasses.replace(picture, bounds=(15.0, 45.0), unit=1024.0)):
        grid = draw(one, width, height)
        assert grid.codes.shape == grid.roles.shape == (height, width)
        for row in text_of(grid):
            assert row.isprintable()


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.booleans())
def test_labels_of_an_axis_are_all_different(low, span, logarithmic):
    """Labels rounded to the same text say nothing: an axis from 1.4001 to 1.4009 once read 1.40 five times."""
    low = abs(low) + 1e-9 if logarithmic else low
    labels = value_labels(draw(picture_of([low, low + span], logarithmic=logarithmic), 60, 24))
    assert len(labels) == len(set(labels))


def test_the_usual_losses_have_readable_labels():
    assert value_labels(draw(picture_of(np.linspace(4.2, 1.4, 50)), 60, 14)) == ["4", "3", "2"]


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
    assert any("nothing yet" in row for row in text_of(draw(picture_of([]), 40, 10)))
    for values in ([float("nan")], [float("inf")]):
        assert any("× no finite value" in row for row in text_of(draw(picture_of(values), 40, 10)))


def test_points_lie_on_their_line():
    """Rounded apart, a point of the validation loss stood one row above its own line."""
    values = np.linspace(4, 1, 6)
    grid = draw(Picture("loss", (Line(Points.of(np.arange(6) * 100, values), VAL, "●"),)), 80, 20)
    for row, column in np.argwhere(grid.codes == ord("●")).tolist():
        around = grid.roles[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert (around == VAL).sum() > 1


def test_best_and_recovery_are_marked_by_shape():
    grid = draw(picture_of(np.linspace(3, 1, 50), points=(("★", BEST, ((300, 1.8),)),), recoveries=(200,)), 60, 12)
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


def test_small_labels_all_have_an_exponent_where_one_needs_it():
    """An axis of learning rates once read 5e-4, 0.0010, 0.0015."""
    assert labels_of([0.0, 5e-4, 1e-3, 1.5e-3], logarithmic=False) == ["0", "5e-4", "1.0e-3", "1.5e-3"]


# ── zoomed, and with a cursor ─────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(5, 3000), st.integers(10, 120), st.floats(0.001, 1.0), st.floats(0.0, 1.0), st.data())
def test_a_spike_in_view_reaches_the_top_at_each_zoom(length, width, share, start, data):
    """The one step at which a loss of 9 stood among others of 2 must be seen at every zoom that includes it."""
    values = np.full(length, 2.0)
    place = data.draw(st.integers(0, length - 1))
    values[place] = 9.0
    span = max(40.0, length * 10 * share)
    low = start * max(0.0, length * 10 - span)
    if not low <= place * 10 <= low + span:
        low = max(0.0, place * 10 - span / 2)
    grid = draw(picture_of(values, bounds=(low, low + span)), width, 12)
    assert (grid.roles == TRAIN).any(axis=1).nonzero()[0].min() <= 2


def test_between_two_values_the_line_goes_on():
    """Zoomed in between two evaluations a chart once was empty, as if nothing had been measured."""
    for bounds in ((2.0, 8.0), (5.0, 15.0)):
        grid, area = draw_framed(frame_of(picture_of([3.0, 2.0, 1.0], bounds=bounds), 12), 60, 12)
        assert area is not None and (grid.roles == TRAIN).any(axis=0)[area.left :].sum() > area.width * 0.9
    grid = draw(picture_of([3.0, float("nan"), 2.0], bounds=(2.0, 8.0)), 60, 12)
    assert not (grid.roles == TRAIN).any()


def test_the_cursor_stands_where_the_mouse_would_find_it():
    """Guards the way from a place to a column and back, which zoom and click depend on."""
    for place in (0.0, 120.0, 333.0, 500.0):
        grid, area = draw_framed(
            frame_of(picture_of(np.linspace(3, 1, 51), cursor=place, bounds=(0.0, 500.0)), 14), 70, 14
        )
        columns = np.flatnonzero((grid.roles == CURSOR).any(axis=0))
        assert len(columns) == 1 and area is not None
        assert abs(area.place(int(columns[0])) - place) <= 500 / 60


def test_a_cursor_out_of_view_is_not_drawn():
    """Clipped, it stood at the edge and pointed at a step that it did not mean."""
    grid = draw(picture_of(np.linspace(3, 1, 51), cursor=20.0, bounds=(100.0, 300.0)), 70, 14)
    assert not (grid.roles == CURSOR).any()


# ── without colours, without braille ──────────────────────────────────────────────────────────────────────────────


def dots_of(grid: Grid, left: int) -> np.ndarray:
    """The dots of a chart without marks, four rows and two columns to a cell."""
    cells = grid.codes[1:-1, left:].astype(int) - 0x2800
    bits = np.where((cells >= 0) & (cells < 256), cells, 0)
    order = np.array([[1, 8], [2, 16], [4, 32], [64, 128]])
    dots = (bits[:, None, :, None] & order[None, :, None, :]) > 0
    return dots.reshape(bits.shape[0] * 4, -1)


@given(st.lists(st.lists(st.floats(1, 3), min_size=2, max_size=60), min_size=2, max_size=3))
def test_lines_that_cross_keep_all_their_dots(lines):
    """Where two lines met, the dots of the lower one were erased and both looked crumbled."""
    drawn = [
        Line(Points.of(np.linspace(0, 100, len(line)), np.array(line)), VAL + number)
        for number, line in enumerate(lines)
    ]
    scale = Line(Points.of(np.array([100.0, 100.0]), np.array([1.0, 3.0])), RAW)
    together, area = draw_framed(frame_of(Picture("", (scale, *drawn)), 14), 60, 14)
    assert area is not None
    expected = np.zeros((48, area.width * 2), bool)
    for line in drawn:
        expected |= dots_of(draw(Picture("", (scale, line)), 60, 14), area.left)
    assert (dots_of(together, area.left) == expected).all()


def test_single_values_and_the_line_through_them_are_told_apart_without_colours():
    """Laid over the dots of the single values the smoothed line was seen by its colour alone."""
    noise = np.random.default_rng(1).normal(2, 0.3, 4000)
    steps = np.arange(4000)
    band = Line(Points.of(steps, noise), RAW, band=True)
    line = Line(Points.of(steps, np.full(4000, 2.0)), TRAIN)
    grid, area = draw_framed(frame_of(Picture("", (band, line)), 16), 60, 16)
    assert area is not None
    dots = dots_of(grid, area.left)
    # The line is whole, the band has strokes at every other dot, and there is nothing beside the line.
    rows = np.flatnonzero(dots[:, 1:-1:2].all(axis=1))
    assert rows.size == 1 and dots[rows[0], :-2].all()
    assert not dots[[rows[0] - 1, rows[0] + 1]].any()
    others = np.delete(dots, rows, axis=0)
    assert others[:, ::2].sum() > 1000 and not others[:, 1::2].any()


def test_of_excursions_only_what_stands_out_is_drawn():
    """Over each other the smoothed lines of several runs showed no spike of one step, and their bands would be noise."""
    values = np.random.default_rng(1).normal(2, 0.05, 4000)
    values[1234] = 9.0
    line = Line(Points.of(np.arange(4000), values), RAW, excursions=True)
    for bounds in ((0.0, 4000.0), (1200.0, 1300.0)):
        grid = draw(Picture("", (line,), bounds=bounds), 60, 16)
        rows, columns = np.nonzero(grid.roles == RAW)
        assert rows.min() <= 2 and len(set(columns.tolist())) <= 3


def test_marks_keep_to_a_row_of_their_own():
    """Where the line reached the top, the mark of a checkpoint slid down and stood there like a value."""
    values, marks = np.linspace(4, 1, 50), (("◇", VAL, (0.0, 200.0, 400.0)), ("Δ", VAL, (200.0,)))
    for height in (5, 6, 8, 20):
        grid = draw(picture_of(values, marks=marks), 60, height)
        found = np.argwhere((grid.codes == ord("◇")) | (grid.codes == ord("Δ")))
        assert set(found[:, 0].tolist()) == {1}
        if height >= 8:
            assert not (grid.roles[1] == TRAIN).any() and len(found) == 3
            assert (grid.codes[1] == ord("◇")).sum() == 3, "the most important first"
        assert (grid.roles == TRAIN).any()


def test_a_mark_that_several_runs_share_has_the_colour_of_none():
    """The first run's checkpoints hid those of the others, which have them at the same steps mostly."""
    marks = (("◇", TRAIN, (0.0, 200.0)), ("◇", VAL, (200.0, 400.0)))
    broken = np.array([2.0, float("nan"), 2.0, float("nan"), 2.0])
    lines = tuple(
        Line(Points.of(np.arange(5) * 100 + shift, broken), role, broken=role)
        for role, shift in ((TRAIN, 0), (VAL, 200))
    )
    grid = draw(Picture("", lines, marks=marks, end=600), 60, 12)
    for mark, expected in (("◇", [TRAIN, MARK, VAL]), ("×", [TRAIN, MARK, VAL])):
        assert grid.roles[1][grid.codes[1] == ord(mark)].tolist() == expected


@given(st.lists(any_float, max_size=30), st.integers(0, 90), st.integers(0, 20))
def test_without_braille_everything_is_ascii(values, width, height):
    """Guards --ascii: one character that the terminal lacks moves all that stands to the right of it."""
    points = (("▲", PROBLEM, ((40, 3.0),)), ("★", BEST, ((0, 1.0),)))
    picture = picture_of(values, points=points, recoveries=(20,), rollbacks=(30,), cursor=10.0)
    picture = dataclasses.replace(picture, legend=(("⠤ train 1.5 · EMA 1.4", TRAIN),), marks=(("◇", VAL, (10.0,)),))
    for row in text_of(draw(picture, width, height, ascii=True)):
        assert row.isascii()


def test_ascii_keeps_the_length():
    assert in_ascii("loss · log ★ 日本") == "loss - log B ??"


def test_a_name_of_wide_characters_moves_nothing():
    """Two cells for one code once shifted the rest of the row, and its end over the edge."""
    grid = draw(picture_of([1.0, 2.0], title="損失"), 40, 8)
    assert grid.codes.shape == (8, 40)
    assert text_of(grid)[0].startswith("─ 損\0失\0 ─")


# ── legends and axes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_legend_short_of_room_loses_details_before_entries():
    """With a NaN, a spike and a rollback there once was no room for the rollback, while the best step was told in full."""
    entries = [("train 1.5 · EMA 1.4", TRAIN), ("val 1.6 · at 100", VAL), ("× NaN", PROBLEM)]
    assert fitted(entries, 80) == entries
    assert [text for text, _ in fitted(entries, 40)] == ["train 1.5 · EMA 1.4", "val 1.6", "× NaN"]
    assert [text for text, _ in fitted(entries, 33)] == ["train 1.5", "val 1.6", "× NaN"]
    assert [text for text, _ in fitted(entries, 22)] == ["train 1.5", "val 1.6"]
    assert fitted(entries, 3) == []
    # What has a shorter way to be said is told so before anything is left out.
    ways = [(("train 1.5123 · EMA 1.4", "1.51⠤1.4"), TRAIN), ("val 1.6", VAL)]
    assert [text for text, _ in fitted(ways, 38)] == ["train 1.5123 · EMA 1.4", "val 1.6"]
    assert [text for text, _ in fitted(ways, 21)] == ["1.51⠤1.4", "val 1.6"]


@pytest.mark.parametrize(
    ("axis", "bounds", "labels"),
    [
        ("step", (0.0, 2000.0), ["0", "500", "1,000", "1,500", "2,000"]),
        ("step", (3.0, 5.0), ["3", "4", "5"]),
        ("tokens", (0.0, 4e6), ["0", "1M", "2M", "3M", "4M"]),
        ("epoch", (0.0, 2.0), ["0", "0.5", "1.0", "1.5", "2.0"]),
        ("elapsed", (0.0, 240.0), ["0:00", "1:00", "2:00", "3:00", "4:00"]),
        ("elapsed", (3500.0, 8000.0), ["1:00:00", "1:30:00", "2:00:00"]),
        ("elapsed", (0.0, 4 * 86400.0), ["0:00", "24:00:00", "48:00:00", "72:00:00", "96:00:00"]),
    ],
    ids=str,
)
def test_labels_of_the_x_axis(axis, bounds, labels):
    """Guards times labelled at 1,000 seconds, and steps labelled at 3.5."""
    assert axis_labels(axis, axis_ticks(axis, bounds, 4)) == labels
