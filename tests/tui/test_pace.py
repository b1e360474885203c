"""How often is drawn with low bandwidth; at default settings see test_following."""

import pytest

from tui.pace import EAGER_FOR, FRAME, FRUGAL_FRAME, FRUGAL_SHORTEST, Pace


def test_low_bandwidth_draws_seldom() -> None:
    """A modem's 0.5 kB/s are 15 kB in the half minute between two drawings of the charts, and they take one or two."""
    pace = Pace(low_bandwidth=True)
    assert pace.is_due(100.0), "the first loss is waited for with any bandwidth"
    pace.spent(0.001, 100.0)
    later = 100.0 + EAGER_FOR
    assert pace.interval(later) == FRUGAL_SHORTEST
    assert not pace.is_due(100.0 + FRUGAL_SHORTEST - 1)
    assert pace.is_due(100.0 + FRUGAL_SHORTEST)
    assert pace.frame(later) == FRUGAL_FRAME > Pace().frame(0.0)


@pytest.mark.parametrize("low_bandwidth", [False, True])
def test_what_somebody_waits_for_comes_soon(low_bandwidth: bool) -> None:
    pace = Pace(low_bandwidth=low_bandwidth)
    pace.is_due(0.0)
    pace.spent(0.001, 50.0)
    assert pace.frame(50.0) >= FRAME
    pace.hurry()
    assert pace.frame(51.0) <= 5.0
    assert pace.is_due(55.0)
