"""A closed window, a lost connection, a terminal that takes nothing more: the screen ends or waits, the training doesn't."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from minigpt.commands import send_command
from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory, RunState
from tests.end_to_end.conftest import STEPS
from tests.end_to_end.terminal import Program, environment, script, wait_for
from tests.training import assert_same_run

STALL_SECONDS = float(os.environ.get("MINIGPT_STALL_SECONDS", "6"))  # `make soak` waits longer


def last_step(run: RunDirectory) -> int:
    return max((row["step"] for row in read_journal(run.metrics_file)), default=0)


def await_steps(run: RunDirectory, more: int) -> None:
    """Wait until the training has gone on by so many steps."""
    step = last_step(run)
    wait_for(lambda: last_step(run) >= step + more)


def threads_of(program: Program) -> dict[int, float]:
    """Each thread's CPU time so far."""
    return {
        thread.id: thread.user_time + thread.system_time for thread in psutil.Process(program.process.pid).threads()
    }


def cpu_beside_training(program: Program, run: RunDirectory, steps: int = 100) -> float:
    """What all threads but the busiest, which trains, use together over some steps, as a share of what that one uses.

    Within one process and one stretch of time, so that whatever else goes on on the machine falls on both. The lowest
    of three stretches: what spins does so in each of them, whereas to take the screen down costs something once.
    """
    shares = []
    for _ in range(3):
        before = threads_of(program)
        await_steps(run, steps)
        used = sorted(time - before.get(thread, 0.0) for thread, time in threads_of(program).items())
        shares.append(sum(used[:-1]) / used[-1])
        if shares[-1] < 0.1:
            break
    return min(shares)


def pause(run: RunDirectory) -> None:
    """Keep a run from ending before it has been looked at from elsewhere."""
    send_command(run.commands_dir, "pause")
    wait_for(lambda: run.state() is RunState.PAUSED)


def go_on(run: RunDirectory) -> None:
    send_command(run.commands_dir, "resume")
    wait_for(lambda: run.state() is not RunState.PAUSED)


def go_on_from_another_terminal(run: RunDirectory) -> None:
    """Attach to a paused run, see what happened, let it train to its end."""
    with Program(run.path, columns=80, rows=24) as program:
        program.wait_until("‖ paused")
        program.wait_until("─ loss")
        program.press("p")
        program.wait_until("✓ finished")
        program.press("q")
        assert program.wait() == 0


def assert_undisturbed(run: RunDirectory, without_a_screen: RunDirectory) -> None:
    assert run.state() is RunState.FINISHED
    assert [row["step"] for row in read_journal(run.metrics_file)] == list(range(0, STEPS + 1, 20))
    assert "Traceback" not in run.console_file.read_text()
    assert_same_run(run, without_a_screen)


@pytest.mark.parametrize("how", ["closed", "closed without a signal", "SIGHUP"])
def test_without_its_terminal_it_trains_on(
    how: str, steady: Path, without_a_screen: RunDirectory, tmp_path: Path
) -> None:
    """Nobody's screen, no step lost, and another terminal takes it up.

    Textual's input thread span at the end of the file, which costs a second core.
    """
    run = RunDirectory(tmp_path / "run")
    with Program(steady, "--run.dir", run.path, controlling=how != "closed without a signal") as program:
        program.wait_until("● training")
        program.wait_until(lambda: last_step(run) >= 100)
        before = cpu_beside_training(program, run)
        if how == "SIGHUP":
            program.send_signal(signal.SIGHUP)
        else:
            program.hang_up()
        await_steps(run, 100)
        pause(run)
        time.sleep(1.5)  # without a signal the loss is noticed within a second
        assert program.running
        go_on(run)
        written = len(program.output)
        after = cpu_beside_training(program, run)
        assert after < max(0.25, before), "something spins"
        assert len(program.output) == written
        if how == "closed":
            pause(run)
            assert last_step(run) < STEPS
            go_on_from_another_terminal(run)
        assert program.wait() == 0
    assert_undisturbed(run, without_a_screen)


def test_a_terminal_that_takes_nothing(steady: Path, without_a_screen: RunDirectory, tmp_path: Path) -> None:
    """Flow control, a connection that died unnoticed: the event loop blocked, and with it what it was to do.

    First it comes back, and everything is on the screen again; then it does not, and is closed in the end. Meanwhile
    another terminal has the run.
    """
    run = RunDirectory(tmp_path / "run")
    with Program(steady, "--run.dir", run.path) as program:
        program.wait_until("● training")
        program.wait_until(lambda: last_step(run) >= 100)
        pause(run)
        program.stall()
        time.sleep(1)  # what the filling has caused
        go_on(run)
        await_steps(run, 100)
        assert cpu_beside_training(program, run) < 0.25, "something spins"
        pause(run)  # so that a whole minute needs no longer training
        with Program(run.path, columns=80, rows=24) as other:
            other.wait_until("‖ paused")
            time.sleep(STALL_SECONDS)
            other.press("p")
            await_steps(run, 100)
            other.press("p")
            other.wait_until("‖ paused")
            program.go_on_reading()
            program.wait_until(lambda: "‖ paused" in program.text and step_on(program) >= last_step(run))
            program.stall()
            other.press("p")
            await_steps(run, 100)
            program.hang_up()
            other.wait_until("✓ finished")
            other.press("q")
            assert other.wait() == 0
        assert program.wait() == 0
    assert_undisturbed(run, without_a_screen)


def step_on(program: Program) -> int:
    """The step that the progress line shows."""
    words = program.text.partition("step ")[2].partition("/")[0].replace(",", "").strip()
    return int(words) if words.isdecimal() else -1


def test_a_closed_window_without_a_training_ends_the_program() -> None:
    """It was left behind as a process that nobody can reach."""
    with Program() as program:
        program.wait_until("? keys")
        program.hang_up()
        assert program.wait() == 0


def test_several_look_at_one_run(steady: Path, without_a_screen: RunDirectory, tmp_path: Path) -> None:
    """One who steers and one who only looks on: each sees what happens, and nobody's end is that of the training."""
    run = RunDirectory(tmp_path / "run")
    command = [script("minigpt"), "train", str(steady), "--run.dir", str(run.path)]
    trainer = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(), start_new_session=True)
    try:
        wait_for(lambda: last_step(run) >= 100)
        pause(run)
        with Program(run.path) as steering, Program("--read-only", run.path) as looking:
            for program in (steering, looking):
                program.wait_until("‖ paused")
            looking.wait_until("read-only")
            step = last_step(run)
            looking.press("p")
            steering.press("p")
            for program in (steering, looking):
                program.wait_until("● training")
            steering.press("p")
            for program in (steering, looking):
                program.wait_until("‖ paused")
            assert step < last_step(run) < STEPS
            steering.process.kill()
            assert steering.wait() == -signal.SIGKILL
            assert trainer.poll() is None and run.state() is RunState.PAUSED
            go_on(run)
            looking.wait_until("✓ finished")
            looking.press("q")
            assert looking.wait() == 0
        assert trainer.wait(60) == 0
    finally:
        trainer.kill()
    assert_same_run(run, without_a_screen)
