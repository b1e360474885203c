"""The clock of a training, on a time that the test tells."""

import pytest

from minigpt.clock import Clock


@pytest.mark.parametrize("paused", [False, True])
def test_set_back_it_counts_on_from_there_and_a_pause_goes_on(monkeypatch: pytest.MonkeyPatch, paused: bool) -> None:
    """Gone back to a checkpoint: neither the time on the way that was left counts, nor that of the pause before."""
    now = 1000.0
    monkeypatch.setattr("minigpt.clock.time.perf_counter", lambda: now)
    clock = Clock(50.0)
    now += 8
    if paused:
        clock.pause()
    now += 4
    clock.set_back(20.0)
    assert clock.elapsed() == 20.0 and clock.paused is paused
    now += 2
    if paused:
        assert clock.elapsed() == 20.0
        clock.go_on()
        now += 2
    assert clock.elapsed() == 22.0 and clock.new_row() == 2.0
