"""What the charts show: zoom, pan, following; and how the charts are laid out."""

from hypothesis import given
from hypothesis import strategies as st

from tui.charts.smoothing import WEIGHTS
from tui.charts.tiling import room_for, tiles
from tui.charts.view import ChartView, Extent

RUN = Extent(newest=1500.0, end=2000.0, grain=10.0)

changes = st.lists(
    st.one_of(
        st.tuples(st.just("zoom"), st.floats(0.01, 10), st.one_of(st.none(), st.floats(-1e3, 3e3))),
        st.tuples(st.just("pan"), st.floats(-5, 5)),
        st.tuples(st.just("stay")),
    ),
    max_size=12,
)


# Steps, tokens, epochs or seconds: none yet, or at least a thousandth of one.
extents = st.just(0.0) | st.floats(1e-3, 1e9)


@given(changes, extents, extents)
def test_whatever_one_does_the_view_stays_on_the_run(steps, newest: float, end: float) -> None:  # type: ignore[no-untyped-def]
    """Guards a view beside the data: an empty chart from which no key leads back."""
    extent, view = Extent(newest, end, newest / 100), ChartView()
    for name, *values in steps:
        if name == "zoom":
            view = view.zoom(values[0], extent, values[1])
        else:
            view = view.pan(values[0], extent) if name == "pan" else view.stay(extent)
        low, high = view.bounds(extent)
        assert low >= 0 and high > low
        assert high <= max(extent.whole, high - low) * (1 + 1e-9)
    assert view.show_whole().bounds(extent) == (0, extent.whole)


def test_zooming_keeps_in_place_what_is_under_the_pointer() -> None:
    """Guards a wheel that would move what one looks at."""
    view = ChartView().zoom(0.5, RUN, about=800)
    low, high = view.bounds(RUN)
    assert (high - low, (800 - low) / (high - low)) == (1000, 0.4)
    assert not view.follows


def test_zooming_by_key_keeps_the_newest_in_view_as_the_run_grows() -> None:
    """Guards a zoomed chart that would stand still while the run trains on."""
    view = ChartView().zoom(0.5, RUN).zoom(0.5, RUN)
    for newest in range(1500, 2000, 10):
        low, high = view.bounds(Extent(newest, 2000, 10))
        assert low <= newest <= high and high - low == 500
        assert high - newest <= 100
    # And then stays where it is for most of the values: each move repaints the chart.
    moves = {view.bounds(Extent(newest, 2000, 10)) for newest in range(1500, 1600, 10)}
    assert len(moves) <= 3


def test_panning_stops_following_and_ends_at_the_edges() -> None:
    """Guards a chart that would spring back to the newest a second after it was moved."""
    view = ChartView().zoom(0.5, RUN).pan(-0.25, RUN)
    assert not view.follows
    for _ in range(20):
        view = view.pan(-0.25, RUN)
    assert view.bounds(RUN) == (0, 1000)


def test_it_zooms_no_deeper_than_the_values_lie() -> None:
    """Guards a window between two values, in which there is nothing to see."""
    view = ChartView()
    for _ in range(60):
        view = view.zoom(0.5, RUN)
    low, high = view.bounds(RUN)
    assert high - low == 40


def test_smoothing_goes_through_its_weights_from_wherever_the_setting_put_it() -> None:
    """Guards a weight of the user's that is none of the steps."""
    view = ChartView(smoothing=0.93)
    assert view.smooth(1).smoothing == 0.95 and view.smooth(-1).smoothing == 0.9
    for _ in range(20):
        view = view.smooth(1)
    assert view.smoothing == WEIGHTS[-1]


@given(st.integers(0, 300), st.integers(0, 120), st.integers(1, 30))
def test_tiles_fill_the_place_and_do_not_overlap(width: int, height: int, number: int) -> None:
    """Guards a chart drawn over another one, or over the edge."""
    found = tiles(width, height, number)
    rows, columns = room_for(width, height)
    assert 1 <= len(found) <= min(number, rows * columns)
    cells = set()
    for tile in found:
        own = {
            (x, y)
            for x in range(tile.column, tile.column + tile.width)
            for y in range(tile.row, tile.row + tile.height)
        }
        assert not own & cells
        cells |= own
    assert all(0 <= x < width and 0 <= y < height for x, y in cells)
    gaps = sum(tile.height for tile in found if tile.column)
    assert len(cells) == max(0, width * height - gaps)


def test_how_many_charts_there_are() -> None:
    """Guards the usual sizes of the pane, in terminals of 80×24, 120×36 and 200×60, and of all of the last."""
    assert [room_for(*size) for size in ((80, 19), (69, 31), (84, 55), (200, 56))] == [(2, 1), (2, 1), (4, 1), (4, 3)]
