"""A training that goes on without its terminal because somebody wants it to: `d`, and `minigpt train --detach`."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory, RunState, list_runs
from tests.end_to_end.terminal import CTRL_C, Program, environment, script, wait_for
from tests.training import tiny_config, write_corpus


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A training that somebody has to stop."""
    train = {"max_steps": 10**7, "eval_interval": 10**7, "checkpoint_interval": 10**7, "log_interval": 20}
    corpus = write_corpus(tmp_path / "corpus.txt")
    config = tiny_config(corpus, tmp_path, train=train, sample={"interval": 10**7}, device={"threads": 1})
    path = tmp_path / "endless.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    yield
    for run in list_runs():
        if run.is_live():
            with suppress(ProcessLookupError):
                os.kill(trainer_of(run), signal.SIGKILL)


def only_run() -> RunDirectory:
    (run,) = list_runs()
    return run


def trainer_of(run: RunDirectory) -> int:
    return int([row for row in read_journal(run.events_file) if row["event"] == "started"][-1]["pid"])


def last_step(run: RunDirectory) -> int:
    return max((row["step"] for row in read_journal(run.metrics_file)), default=0)


def pid_in(words: str) -> int:
    found = re.search(r"the training goes on in process (\d+): ", words)
    assert found, words
    return int(found[1])


def test_detached_left_and_taken_up_again(endless: Path) -> None:
    """The shell is back, the training goes on without a gap in its lock, and another terminal steers it."""
    with Program(endless) as program:
        program.wait_until("● training")
        program.wait_until("d detach")
        run = only_run()
        program.wait_until(lambda: last_step(run) > 20)
        asked = time.monotonic()
        program.press("d")
        program.wait_until("handing over …")
        while program.running:
            assert run.is_live(), "nobody held the lock for a moment"
            time.sleep(0.005)
        assert time.monotonic() - asked < 10 or os.getloadavg()[0] > 2
        assert program.wait() == 0
        program.assert_restored()
        successor = pid_in(program.after_the_screen)
        assert successor != program.process.pid
        assert f"minigpt-tui {run.path}" in program.after_the_screen
        assert f"kill {successor}" in program.after_the_screen
        assert os.getsid(successor) == successor, "a logout would end it"
        reached = last_step(run)
        wait_for(lambda: last_step(run) > reached)

    with Program(run.path) as program:
        program.wait_until("● training")
        program.press("x")
        program.wait_until("stop and save")
        program.answer("s")
        program.wait_until("■ stopped")
        program.press("q")
        assert program.wait() == 0
    assert run.state() is RunState.STOPPED
    assert trainer_of(run) == successor
    assert f"stopped and saved: {run.path}" in run.console_file.read_text()


# ── minigpt train --detach ────────────────────────────────────────────────────────────────────────────────────────


def minigpt(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [script("minigpt"), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment(), timeout=60)


def test_detached_from_the_beginning_and_resumed_so(endless: Path) -> None:
    """Back in the shell with the first step; `kill` stops and saves, and the log is the run's own."""
    begun = minigpt("train", "--detach", endless)
    assert begun.returncode == 0, begun.stderr
    assert "loading torch ..." in begun.stderr, "what it is waiting for"
    run = only_run()
    assert str(run.path) in begun.stdout
    first = pid_in(begun.stdout)
    os.kill(first, signal.SIGHUP)  # ignored, whoever sends it
    reached = last_step(run)
    wait_for(lambda: last_step(run) > reached)

    os.kill(first, signal.SIGTERM)
    wait_for(lambda: not run.is_live())
    assert run.state() is RunState.STOPPED

    resumed = minigpt("train", "--resume", run.path, "--detach")
    assert resumed.returncode == 0, resumed.stderr
    assert trainer_of(run) == pid_in(resumed.stdout)


def test_what_is_wrong_with_a_configuration_comes_out_as_usual(endless: Path) -> None:
    """The same message and exit code as without --detach, and no run is left behind."""
    option = ("--train.max-step", "3")
    alone, detached = minigpt("train", endless, *option), minigpt("train", "--detach", endless, *option)
    assert detached.returncode == alone.returncode == 2
    assert "did you mean" in detached.stderr and detached.stderr == alone.stderr
    assert not list_runs()


def test_ctrl_c_while_it_waits_stops_the_detached_one(endless: Path) -> None:
    """Nothing may go on in the background of which nobody knows."""
    with Program("train", "--detach", endless, command="minigpt") as program:
        program.wait_until("loading torch")
        program.press(CTRL_C)
        assert program.wait() == 130
        assert "nothing was trained" in program.after_the_screen
    assert not any(run.is_live() for run in list_runs())
