"""Handing a run over to another process: it is the same run, one process trains it at any moment, and it never ends."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from minigpt import background, detaching, saving
from minigpt.checkpoint import Snapshot
from minigpt.commands import send_command
from minigpt.config import Config
from minigpt.detaching import hand_over
from minigpt.journal import Row, read_journal
from minigpt.learner import Learner
from minigpt.rundir import Checkpoint, RunDirectory, RunState
from minigpt.session import TrainingSession
from tests.training import assert_same_run, in_evaluation, tiny_config, train, write_corpus


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # gone between the two questions
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    yield
    for child in children():
        child.kill()


def started(run: RunDirectory) -> list[Row]:
    return [row for row in read_journal(run.events_file) if row["event"] == "started"]


@contextmanager
def watched_lock(run: RunDirectory) -> Iterator[list[float]]:
    """Look all the time whether the lock is held; yields the times at which it was not."""
    free: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.001):
            if not run.is_live():
                free.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield free
    over.set()
    watcher.join()


@pytest.fixture
def saved(tmp_path: Path) -> RunDirectory:
    """A run with a checkpoint, and much left to train."""
    config = tiny_config(
        write_corpus(tmp_path / "corpus.txt"),
        tmp_path / "runs" / "saved",
        train={"max_steps": 10**6, "eval_interval": 10**6, "checkpoint_interval": 10**6, "log_interval": 10},
        device={"threads": 1},
    )
    session = TrainingSession(config=config, preset="test")
    session.start()
    wait_for(lambda: session.steps_done)
    session.request_stop()
    session.join()
    assert session.error is None and session.run_directory is not None
    return session.run_directory


def test_handed_over_it_is_the_undisturbed_run(tmp_path: Path) -> None:
    """Bit for bit, with dropout, detached in the middle of a logging interval; its lock is never free."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    model = {"n_layer": 2, "n_embd": 32, "block_size": 32, "dropout": 0.2}
    long = {"max_steps": 400, "eval_interval": 150, "checkpoint_interval": 200, "log_interval": 7}

    def config(name: str) -> Config:
        return tiny_config(corpus, tmp_path / "runs" / name, model=model, train=long, device={"threads": 1})

    undisturbed = train(config("undisturbed"))
    session = TrainingSession(config=config("handed"), preset="test")
    session.start()
    wait_for(lambda: session.steps_done > 30)
    run = session.run_directory
    assert run is not None
    with watched_lock(run) as free:
        session.request_detach()
        session.join()
        handed_at = time.monotonic()
        assert session.error is None and session.outcome == "detached", session.detach_failure
        assert session.successor == started(run)[-1]["pid"] != os.getpid()
        wait_for(lambda: not children())
    assert not free or min(free) > handed_at
    assert run.state() is RunState.FINISHED
    assert started(run)[-1]["resumed_from"] > 30
    assert_same_run(undisturbed, run)
    assert all(row["event"] != "crashed" for row in read_journal(run.events_file)), "it was handed over"


def test_a_successor_that_dies_is_noticed_at_once(saved: RunDirectory) -> None:
    """Killed while it loads, as by a system that is out of memory: the old process is told, and trains on."""

    def kill() -> None:
        wait_for(children)
        os.kill(children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    began = time.monotonic()
    with saved.locked() as lock:
        assert hand_over(saved, lock.descriptor, threading.Event()) == "its process was ended by signal 9 (Killed)"
        killer.join()
        assert time.monotonic() - began < 5 and not children()
        assert saved.is_live(), "it still holds the lock"


def test_a_session_goes_on_when_nobody_can_take_over(tmp_path: Path) -> None:
    """The text is gone, which only the successor has to read again: the same process ends the same run."""
    corpus = write_corpus(tmp_path / "corpus.txt")

    def config(name: str) -> Config:
        changes = {"max_steps": 400, "eval_interval": 150, "checkpoint_interval": 200}
        return tiny_config(corpus, tmp_path / "runs" / name, train=changes, device={"threads": 1})

    undisturbed = train(config("undisturbed"))
    session = TrainingSession(config=config("kept"), preset="test")
    session.start()
    wait_for(lambda: session.steps_done > 5)
    corpus.unlink()
    session.request_detach()
    wait_for(lambda: session.detach_failure or not session.is_alive())
    assert "corpus.txt: no such text file" in session.detach_failure
    assert not session.detach_requested and not children()
    session.join()
    assert session.outcome == "finished" and session.error is None
    assert session.run_directory is not None
    assert started(session.run_directory)[-1]["pid"] == os.getpid()
    assert_same_run(undisturbed, session.run_directory)


@pytest.mark.parametrize("at", [15, 40])
def test_a_hand_over_that_fails_in_an_evaluation_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Broken off for a checkpoint that could not be written, the evaluation was forgotten, and its row, and the end."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    undisturbed = train(tiny_config(corpus, tmp_path / "undisturbed"))
    write, failed = saving.write_checkpoint, []

    def full_once(run: RunDirectory, snapshot: Snapshot) -> Checkpoint:
        if snapshot.step == at and not failed:
            failed.append(at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(run, snapshot)

    monkeypatch.setattr(saving, "write_checkpoint", full_once)
    monkeypatch.setattr(saving, "RETRY_INTERVAL", 0.05)
    in_evaluation(monkeypatch, at, lambda trainer: trainer._inbox.detach.set())
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert failed == [at]
    assert_same_run(undisturbed, run)


def long_session(tmp_path: Path) -> TrainingSession:
    """One that trains until it is stopped."""
    changes = {"max_steps": 10**6, "eval_interval": 10**6, "checkpoint_interval": 10**6}
    corpus = write_corpus(tmp_path / "corpus.txt")
    session = TrainingSession(config=tiny_config(corpus, tmp_path / "run", train=changes), preset="test")
    session.start()
    wait_for(lambda: session.steps_done or session.error)
    return session


def test_the_successor_finds_the_memory_free_and_the_old_one_needs_nothing_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model was there until Python came to collect it; and config.toml, edited meanwhile, ended the training."""
    learners: list[weakref.ref[Learner]] = []
    alive: list[bool] = []
    build = Learner.__init__

    def noting(self: Learner, *arguments: Any) -> None:
        learners.append(weakref.ref(self))
        build(self, *arguments)

    def nobody(*_: object) -> str:
        alive.append(learners[0]() is not None)
        return "nobody is there"

    monkeypatch.setattr(Learner, "__init__", noting)
    monkeypatch.setattr(detaching, "hand_over", nobody)
    session = long_session(tmp_path)
    assert session.run_directory is not None
    session.run_directory.config_file.write_text("rubbish [")
    session.request_detach()
    wait_for(lambda: len(learners) == 2 and (session.steps_done or session.error))
    session.request_stop()
    session.join()
    assert session.error is None and session.outcome == "stopped"
    assert alive == [False]


def test_paused_it_is_not_handed_over_and_says_so(tmp_path: Path) -> None:
    """A successor would train, which nobody has asked for."""
    session = long_session(tmp_path)
    run = session.run_directory
    assert run is not None
    try:
        send_command(run.commands_dir, "pause")
        wait_for(lambda: run.state() is RunState.PAUSED)
        session.request_detach()
        wait_for(lambda: session.detach_failure or not session.is_alive())
        assert session.detach_failure == "the run is paused: let it go on first"
        assert not session.detach_requested and not children() and run.state() is RunState.PAUSED
    finally:
        session.request_stop()
        session.join()
    assert session.outcome == "stopped"


def test_the_lock_names_who_trains_after_a_hand_over_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor signs it before it may fail."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho 1 > "$7/lock"\nexit 3\n')
    python.chmod(0o755)
    session = long_session(tmp_path)
    run = session.run_directory
    assert run is not None
    try:
        monkeypatch.setattr(sys, "executable", str(python))
        session.request_detach()
        wait_for(lambda: session.detach_failure or not session.is_alive())
        assert run.lock_file.read_text() == f"{os.getpid()}\n"
    finally:
        session.request_stop()
        session.join()


def test_no_program_that_a_successor_starts_keeps_the_lock(saved: RunDirectory) -> None:
    """A run whose trainer is gone would look alive for as long as a compiler's worker, say, lives."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    reading, writing = os.pipe()
    try:
        with saved.locked() as lock:
            os.set_inheritable(lock.descriptor, True)
            os.set_inheritable(writing, True)
            arguments = [str(writing), str(lock.descriptor), "--resume", str(saved.path / "nothing")]
            assert background.main(arguments) == 2
            assert not os.get_inheritable(lock.descriptor) and not os.get_inheritable(writing)
    finally:
        os.close(reading)
        os.close(writing)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_whoever_stops_it_meanwhile_is_heeded(saved: RunDirectory) -> None:
    """A signal to stop during the hand-over must not end up in a training that goes on somewhere."""
    stop = threading.Event()
    threading.Thread(target=lambda: (wait_for(children), stop.set())).start()
    with saved.locked() as lock:
        reason = hand_over(saved, lock.descriptor, stop)
        assert isinstance(reason, str) and "stopped" in reason
        assert not children()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("trap '' TERM; sleep 60 & wait", "nothing was heard from its process for 0 minutes"),
        ("echo out of luck; exit 3", "its process ended with exit code 3: out of luck"),
    ],
)
def test_a_successor_that_never_trains_is_gone_before_the_old_one_goes_on(
    saved: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    """Two trainers at once would be the end of the run: also one that heeds no request is gone."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(detaching, "_PATIENCE", 0.3)
    monkeypatch.setattr(detaching, "_GRACE", 0.3)
    with saved.locked() as lock:
        assert hand_over(saved, lock.descriptor, threading.Event()) == reason
        assert not children()


_HANDS_OVER = """\
import sys, threading
from minigpt.detaching import hand_over
from minigpt.rundir import RunDirectory
run = RunDirectory.open(sys.argv[1])
with run.locked() as lock:
    hand_over(run, lock.descriptor, threading.Event())
"""


def test_a_successor_outlives_whoever_started_it(saved: RunDirectory) -> None:
    """Killed while it waits, the old process leaves a training, not a run that nobody trains."""
    parent = subprocess.Popen([sys.executable, "-c", _HANDS_OVER, str(saved.path)])
    wait_for(lambda: psutil.Process(parent.pid).children())
    (successor,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    try:
        assert saved.is_live()
        wait_for(lambda: len(started(saved)) == 2 and saved.state() is RunState.TRAINING)
        assert started(saved)[-1]["pid"] == successor.pid
        assert os.getsid(successor.pid) == successor.pid, "it would end with the terminal"
        successor.terminate()
        wait_for(lambda: not saved.is_live())
        assert saved.state() is RunState.STOPPED
    finally:
        with suppress(psutil.NoSuchProcess):
            successor.kill()
