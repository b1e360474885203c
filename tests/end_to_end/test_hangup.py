"""A closed window, a lost connection: the screen ends, the training doesn't."""

import os
import subprocess
from pathlib import Path
from resource import struct_rusage

import psutil

from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory, RunState
from tests.end_to_end.terminal import Program, environment, script, wait_for
from tests.training import tiny_config, write_corpus

STEPS = 4000


def last_step(run: RunDirectory) -> int:
    return max((row["step"] for row in read_journal(run.metrics_file)), default=0)


class Meter:
    """Measures how much CPU time a training takes per step, from the first step on that it is asked to."""

    def __init__(self, pid: int, run: RunDirectory, first_step: int) -> None:
        self._process = psutil.Process(pid)
        self._run = run
        self._step = first_step
        self._used: float | None = None

    def has_begun(self) -> bool:
        """Whether the training has come that far; to be asked until it has."""
        if self._used is None and (step := last_step(self._run)) >= self._step:
            self._step = step
            times = self._process.cpu_times()
            self._used = times.user + times.system
        return self._used is not None

    def per_step(self, total: struct_rusage | None) -> float:
        """The CPU time of a step, where `total` is what the process used altogether."""
        assert total is not None
        assert self._used is not None
        return (total.ru_utime + total.ru_stime - self._used) / (STEPS - self._step)


def test_a_closed_window_does_not_end_the_training(tmp_path: Path) -> None:
    """The run comes to its end with nobody there, and the process too.

    Textual's input thread span at the end of the file, which costs a second core. So the CPU time of a step is compared
    with that of the same training without a screen, which goes on at the same time, and so has the same neighbours.
    """
    config = tiny_config(
        write_corpus(tmp_path / "corpus.txt"),
        tmp_path,
        train={"max_steps": STEPS, "log_interval": 20, "eval_interval": 1000, "checkpoint_interval": 1000},
        sample={"interval": 1000},
        device={"threads": 1},
    )
    toml = tmp_path / "long.toml"
    toml.write_text(config.to_toml(), encoding="utf-8")
    watched, alone = RunDirectory(tmp_path / "watched"), RunDirectory(tmp_path / "alone")
    headless = subprocess.Popen(
        [script("minigpt"), "train", str(toml), "--run.dir", str(alone.path)],
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # as the other: Linux shares out the cores by session
        env=environment(),
    )
    try:
        with Program(toml, "--run.dir", watched.path) as program:
            program.wait_until("● training")
            program.wait_until(lambda: last_step(watched) >= 100)
            closed_at = last_step(watched)
            program.hang_up()
            # The steps in between are those in which the screen ends.
            meters = [
                Meter(program.process.pid, watched, closed_at + 300),
                Meter(headless.pid, alone, closed_at + 300),
            ]
            wait_for(lambda: [meter.has_begun() for meter in meters] == [True, True])
            assert program.wait() == 0
            usage = program.usage
        _, status, usage_alone = os.wait4(headless.pid, 0)
        headless.returncode = os.waitstatus_to_exitcode(status)
        assert headless.returncode == 0
    finally:
        headless.kill()

    assert watched.state() is RunState.FINISHED
    assert [row["step"] for row in read_journal(watched.metrics_file)] == list(range(0, STEPS + 1, 20))
    assert "Traceback" not in watched.console_file.read_text()
    spent, spent_alone = meters[0].per_step(usage), meters[1].per_step(usage_alone)
    assert spent < 1.5 * spent_alone


def test_a_closed_window_without_a_training_ends_the_program() -> None:
    """It was left behind as a process that nobody can reach."""
    with Program() as program:
        program.wait_until("? keys")
        program.hang_up()
        assert program.wait() == 0
