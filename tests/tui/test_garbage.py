"""When the memory is looked through for garbage."""

import gc
from collections.abc import Iterator

import pytest

from tui import garbage
from tui.garbage import INTERVAL, LATEST, QUIET, SETTLED_AFTER, Garbage

START = 1000.0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done to all objects, in order; Python itself leaves them alone meanwhile."""
    done: list[str] = []
    threshold = gc.get_threshold()
    monkeypatch.setattr(gc, "collect", lambda: done.append("look"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("keep"))
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, garbage.DUE))
    garbage.hold_off()
    try:
        yield done
    finally:
        gc.set_threshold(*threshold)


def test_python_does_not_look_at_everything_under_the_screen() -> None:
    """In the middle of a frame a look took a tenth of a second, and frames are what made it come."""
    before = gc.get_threshold()
    threshold = (700, 10, garbage.DUE)
    gc.set_threshold(*threshold)
    try:
        garbage.hold_off()
        assert gc.isenabled() and gc.get_threshold()[:2] == threshold[:2]
        assert gc.get_threshold()[2] > 10**6
        garbage.take_up()
        assert gc.isenabled() and gc.get_threshold() == threshold
    finally:
        gc.set_threshold(*before)


def test_a_look_waits_for_a_pause_between_keys(looks: list[str]) -> None:
    """Who presses a key presses another one soon."""
    own = Garbage(START)
    now = START + INTERVAL
    own.key_came(now)
    assert not own.look(now + QUIET / 2)
    assert own.look(now + QUIET)
    assert looks == ["look"]


def test_looks_are_seldom(looks: list[str]) -> None:
    """Each is a moment in which a key would have to wait."""
    own = Garbage(START)
    times = [at for at in range(0, 600, 5) if own.look(START + at)]
    assert times == [60, 120, 180, 240, 300, 360, 420, 480, 540]


def test_a_look_comes_at_last(looks: list[str]) -> None:
    """A key that is held down for ever, or a stream of mouse moves, must not fill the memory."""
    own = Garbage(START)
    for second in range(int(LATEST) + 5):
        own.key_came(START + second)
        own.look(START + second)
    assert looks == ["look"]


def test_nothing_is_looked_at_where_nothing_is_new(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard at rest makes no garbage, and shall cost nothing."""
    monkeypatch.setattr(gc, "get_count", lambda: (500, 5, garbage.DUE - 1))
    assert not Garbage(START).look(START + 10 * INTERVAL)
    assert looks == []


def test_what_torch_has_brought_is_looked_at_once(looks: list[str]) -> None:
    """With it each look takes several times as long; it stays until the process ends anyway."""
    own = Garbage(START)
    own.keep(START + 100)
    assert not own.look(START + 100 + SETTLED_AFTER - 1)
    assert own.look(START + 100 + SETTLED_AFTER)
    assert own.look(START + 100 + SETTLED_AFTER + INTERVAL)
    assert looks == ["look", "keep", "look"]


def test_where_python_looks_itself_nothing_is_added(looks: list[str]) -> None:
    """Tests and programs that the app is only a part of keep what they have set."""
    garbage.take_up()
    assert not Garbage(START).look(START + 10 * INTERVAL)
    assert looks == []
