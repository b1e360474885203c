"""A training that stands still says so itself, in its events, and nothing else changes by that."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minigpt import examining, stalls
from minigpt.commands import send_command
from minigpt.journal import Row, read_journal
from minigpt.learner import Learner
from minigpt.rundir import RunDirectory
from minigpt.session import TrainingSession
from minigpt.stalls import LOOK_INTERVAL, SHORTEST_STALL, STALL_INTERVALS, StallWatch
from minigpt.trainer import Trainer
from tests.training import assert_same_run, tiny_config, train, write_corpus


class Watched:
    """A watch whose thread does not run, and whose clock is moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(stalls, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.told: list[tuple[bool, str]] = []
        self.watch = StallWatch(lambda stalled, message: self.told.append((stalled, message)))

    def steps(self, number: int, seconds: float) -> None:
        for _ in range(number):
            self.pass_by(seconds)
            self.watch.step_done()

    def pass_by(self, seconds: float) -> list[bool]:
        """Look as the thread does, and return what was told."""
        before, end = len(self.told), self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + LOOK_INTERVAL)
            self.watch.look()
        return [stalled for stalled, _ in self.told[before:]]


def test_a_stall_is_told_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a hang that nobody hears of, one told every two seconds, and an alarm that is never called off."""
    watched = Watched(monkeypatch)
    watched.steps(30, 0.5)
    assert watched.pass_by(SHORTEST_STALL - LOOK_INTERVAL) == []
    assert watched.pass_by(10 * SHORTEST_STALL) == [True]
    assert "usually a step takes 0.5 s" in watched.told[0][1]
    watched.watch.step_done()
    assert watched.pass_by(SHORTEST_STALL - LOOK_INTERVAL) == [False]
    assert "after 11 min without" in watched.told[1][1]
    assert watched.pass_by(SHORTEST_STALL) == [True], "the next one is another"


def test_slow_steps_get_more_time_and_the_first_ones_all_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards false alarms: on a slow machine, while the first step is compiled, and after a pause among slow steps."""
    watched = Watched(monkeypatch)
    assert watched.pass_by(1000) == [], "the first step is being compiled"
    watched.watch.step_done()
    watched.steps(5, 40.0)
    for _ in range(1000):  # a pause: signs of life twenty times a second, which are no steps
        watched.now += 0.05
        watched.watch.sign_of_life()
    watched.watch.look()
    assert watched.pass_by(STALL_INTERVALS * 40.0 - LOOK_INTERVAL) == []
    assert watched.pass_by(2 * LOOK_INTERVAL) == [True]


def test_a_process_that_was_stopped_is_no_hang_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP stops the watch too. Guards an alarm for the time in which nobody could train, and its trace in the log."""
    watched = Watched(monkeypatch)
    watched.steps(30, 0.5)
    watched.now += 3600
    watched.watch.look()
    assert watched.told == [(False, "the training goes on, after 60 min in which nothing ran")]
    watched.steps(30, 0.5)
    assert len(watched.told) == 1


def test_that_it_goes_on_is_told_once_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that hung and was stopped meanwhile went on twice in one look, and already while it still hung."""
    watched = Watched(monkeypatch)
    watched.steps(30, 0.5)
    watched.pass_by(SHORTEST_STALL + LOOK_INTERVAL)
    watched.now += 3600
    watched.watch.look()
    assert [stalled for stalled, _ in watched.told] == [True]
    watched.watch.step_done()
    assert watched.pass_by(LOOK_INTERVAL) == [False]
    assert watched.told[1][1].endswith("after 70 s without a sign of life and 60 min in which nothing ran")
    watched.watch.step_done()
    assert watched.pass_by(LOOK_INTERVAL) == []


# ── in a training ─────────────────────────────────────────────────────────────────────────────────────────────────


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_training_says_itself_that_it_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the log of a run that nobody watches; and that what takes long by nature is not taken for a hang.

    The watch has a clock that goes on where the test says so: the first step takes long, so do a pause, an evaluation and
    a sample in their parts. Then a step blocks, and the words are there while it does. The run is the one that never
    stood still.
    """
    corpus = write_corpus(tmp_path / "corpus.txt")
    undisturbed = train(tiny_config(corpus, tmp_path / "one"))

    now, signs, looks, passed = 0.0, 0, 0, Counter[str]()
    monkeypatch.setattr(stalls, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(stalls, "LOOK_INTERVAL", 0.002)
    sign_of_life, look = StallWatch.sign_of_life, StallWatch.look
    update, look_up, generate = Learner._update, Trainer._look_up, examining.generate
    blocked, let_go = threading.Event(), threading.Event()

    def counted_sign(watch: StallWatch) -> None:
        nonlocal signs
        sign_of_life(watch)
        signs += 1

    def counted_look(watch: StallWatch) -> None:
        nonlocal looks
        look(watch)
        looks += 1

    def pass_by(seconds: float, what: str) -> None:
        nonlocal now
        before = looks
        wait_for(lambda: looks > before + 1)  # one has begun since, and seen the last sign
        now += seconds
        before = looks
        wait_for(lambda: looks > before + 1)
        passed[what] += int(seconds)

    def slow_update(learner: Learner, *batch: Any) -> bool:
        if learner.updates == 0:
            for _ in range(10):
                pass_by(9.0, "compiling")
        if learner.updates == 30:
            blocked.set()
            assert let_go.wait(60)
        if learner.updates == 31:
            pass_by(0.0, "going on")  # the training must not be over before the watch has looked
        return update(learner, *batch)

    def slow_look_up(trainer: Trainer, share: float) -> None:
        if trainer.counters.step == 15:
            for _ in range(3):
                pass_by(9.0, "evaluating")
        look_up(trainer, share)

    def slow_generate(*arguments: Any) -> Iterator[str]:
        for piece in generate(*arguments):
            if passed["evaluating"] and passed["sampling"] < 90:
                pass_by(9.0, "sampling")
            yield piece

    monkeypatch.setattr(StallWatch, "sign_of_life", counted_sign)
    monkeypatch.setattr(StallWatch, "look", counted_look)
    monkeypatch.setattr(Learner, "_update", slow_update)
    monkeypatch.setattr(Trainer, "_look_up", slow_look_up)
    monkeypatch.setattr(examining, "generate", slow_generate)
    session = TrainingSession(config=tiny_config(corpus, tmp_path / "two"), preset="test")
    session.start()
    run = RunDirectory(tmp_path / "two")

    def told(*names: str) -> list[Row]:
        return [row for row in read_journal(run.events_file) if {row["event"], row.get("kind")} & {*names}]

    wait_for(lambda: session.steps_done > 3)
    send_command(run.commands_dir, "pause")
    wait_for(lambda: told("paused"))
    for _ in range(10):
        before = signs
        pass_by(9.0, "pausing")
        wait_for(lambda before=before: signs > before + 1)
    send_command(run.commands_dir, "resume")
    assert blocked.wait(60)
    assert all(seconds > SHORTEST_STALL for seconds in passed.values()) and len(passed) == 4, passed
    assert told("stall", "went_on") == [], "nothing of that was a hang"
    for _ in range(7):
        pass_by(9.0, "blocking")
    (stall,) = told("stall")
    assert (stall["step"], stall["attempt"]) == (30, 1) and "has stood still for 63 s" in stall["message"]
    assert read_journal(run.events_file)[-1] == stall
    let_go.set()
    session.join(60)
    assert session.outcome == "finished"
    (went_on,) = told("went_on")
    assert went_on["step"] >= 30 and "the training goes on, after 63 s" in went_on["message"]
    assert len(told("stall")) == 1
    assert_same_run(run, undisturbed)
    assert all(thread.name != "stalls" for thread in threading.enumerate()), "the watch has ended with the training"
