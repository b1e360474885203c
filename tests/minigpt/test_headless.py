"""Training without a screen, as a real process: in a pipe, on a terminal, interrupted and hung up on."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

from minigpt.cli import main
from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory, RunState
from tests.training import tiny_config, write_corpus

_ENTRY = "from minigpt.cli import entry_point; entry_point()"
MINIGPT = [sys.executable, "-c", _ENTRY]
# On a terminal of its own, Ctrl+C and hanging up reach it the way they reach a program that a shell has started.
ON_TERMINAL = [sys.executable, "-c", f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {_ENTRY}"]

METRICS = ["step", "attempt", "tokens", "epoch", "elapsed", "train_loss", "learning_rate", "grad_norm"]
METRICS += ["tokens_per_second", "memory_rss", "train_eval_loss", "val_loss", "val_perplexity"]


def write_toml(folder: Path, max_steps: int, **sample: object) -> Path:
    """A training of that many steps, of a millisecond each; it saves when it ends or is told to."""
    rarely = {"eval_interval": 10**9, "checkpoint_interval": 10**9, "max_steps": max_steps, "log_interval": 20}
    config = tiny_config(
        write_corpus(folder / "corpus.txt"),
        folder,
        train=rarely,
        sample={"interval": 10**9, **sample},
        device={"threads": 1},
    )
    path = folder / "tiny.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def steps_of(run: RunDirectory) -> list[int]:
    return [row["step"] for row in read_journal(run.metrics_file)]


@contextlib.contextmanager
def piped(*arguments: str, errors: int = subprocess.STDOUT) -> Iterator[subprocess.Popen[str]]:
    command = [*MINIGPT, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """A process on a pseudoterminal of 100 columns and 30 lines, and what it has drawn there."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.output = b""
        self.process = subprocess.Popen(
            [*ON_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(slave)

    def read(self, seconds: float = 0.05) -> bool:
        """Take in what was drawn; whether the process still has the terminal."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.output += data
        return bool(data)

    def read_until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.read()
            assert time.monotonic() < deadline, self.text()

    def text(self) -> str:
        """Everything that can be read on the screen."""
        screen = pyte.Screen(100, 30)
        pyte.ByteStream(screen).feed(self.output)
        return "\n".join(line.rstrip() for line in screen.display).strip()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.master)


@contextlib.contextmanager
def on_terminal(*arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(*arguments)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()


@pytest.fixture
def run(runs: Path) -> RunDirectory:
    """Where `--run.name=mine` trains."""
    return RunDirectory(runs / "mine")


# ── in a pipe ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_has_a_plain_line_with_every_metric_for_each_row(tmp_path: Path, run: RunDirectory) -> None:
    with piped("train", str(write_toml(tmp_path, 60)), "--run.name=mine") as process:
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0
    assert "\x1b" not in output
    assert "\r" not in output
    rows = [dict(pair.split("=", 1) for pair in line.split()) for line in output.splitlines() if line[:5] == "step="]
    assert [int(row["step"]) for row in rows] == steps_of(run) == [0, 20, 40, 60]
    assert set(METRICS) <= set(rows[-1])
    assert float(rows[-1]["val_loss"]) == pytest.approx(read_journal(run.metrics_file)[-1]["val_loss"], rel=1e-5)
    events = [line.split()[1] for line in output.splitlines() if line.startswith("# ") and "attempt=" in line]
    assert events == [row["event"] for row in read_journal(run.events_file)]
    assert f"finished: {run.path}" in output
    assert "its last sample, at step 60" in output


def test_a_log_tells_things_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and events come from two files; a run that failed once said so before its last rows."""
    toml = write_toml(tmp_path, 60)
    overrides = ["--train.learning-rate=10", "--train.warmup-steps=0", "--train.grad-clip=0", "--train.weight-decay=10"]
    assert main(["train", str(toml), *overrides, "--train.beta1=0.99", "--train.beta2=0", "--train.min-lr=10"]) == 2
    out, err = capsys.readouterr()
    log = [line for line in out.splitlines() if "attempt=" in line]
    assert log[0].startswith("# started")
    assert log[-1].startswith("# failed")
    assert 'message="the loss was no longer a finite number' in log[-1]
    assert log[-2].startswith("step=")
    assert err.startswith("minigpt: the loss was no longer a finite number")


def test_a_reader_that_has_seen_enough_does_not_end_the_training(tmp_path: Path, run: RunDirectory) -> None:
    """`minigpt train ... | head -1`: the next line meets a broken pipe."""
    with piped("train", str(write_toml(tmp_path, 600)), "--run.name=mine", errors=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "# loading torch\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0
    assert run.state() == RunState.FINISHED
    assert steps_of(run)[-1] == 600


def test_errors_are_still_told_where_only_the_output_was_closed(tmp_path: Path) -> None:
    """Both once went silent with the first broken pipe, and a failing training ended without a word."""
    toml = write_toml(tmp_path, 60, prompt="§")
    with piped("train", str(toml), errors=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        message = process.stderr.read()
    assert process.returncode == 2
    assert message.startswith("minigpt: ")
    assert "§ (U+00A7 SECTION SIGN)" in message
    assert "Traceback" not in message


def test_a_hangup_is_passed_over_and_sigterm_saves_and_ends(tmp_path: Path, run: RunDirectory) -> None:
    with piped("train", str(write_toml(tmp_path, 10**6)), "--run.name=mine") as process:
        wait_for(lambda: len(steps_of(run)) > 2)
        process.send_signal(signal.SIGHUP)
        reached = steps_of(run)[-1]
        wait_for(lambda: steps_of(run)[-1] > reached + 40)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)  # timeout(1) signals its child, then its own group: still one request
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "# stopping after this step" in output
    assert f"go on with it:  minigpt train --resume {run.path}" in output
    assert run.state() == RunState.STOPPED
    assert run.checkpoint("last").step >= steps_of(run)[-1]


# ── on a terminal ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress_is_shown_and_the_first_ctrl_c_saves_and_ends(
    tmp_path: Path, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """And while it trains nobody else may; afterwards it goes on from where it was."""
    with on_terminal("train", str(write_toml(tmp_path, 10**6)), "--run.name=mine") as terminal:
        terminal.read_until(lambda: "tokens/s" in terminal.text())
        text = terminal.text()
        assert "corpus.txt: 3,000 characters" in text
        assert "step       0  val loss" in text
        assert "training" in text
        assert "/1,000,000" in text
        assert main(["train", "--resume", "mine"]) == 2
        assert "is being trained by another process already" in capsys.readouterr().err
        os.write(terminal.master, b"\x03")
        terminal.read_until(terminal.ended)
        while terminal.read():
            pass
    assert terminal.process.returncode == 128 + signal.SIGINT
    assert "stopped and saved" in terminal.text()
    assert terminal.output.rfind(b"\x1b[?25h") > terminal.output.rfind(b"\x1b[?25l")
    assert run.state() == RunState.STOPPED
    stopped_at = run.checkpoint("last").step
    assert stopped_at >= steps_of(run)[-1] > 0

    config = run.config_file.read_text()
    run.config_file.write_text(config.replace("max_steps = 1000000\n", f"max_steps = {stopped_at + 30}\n"))
    assert main(["train", "--resume", "mine"]) == 0
    assert f"resumed_from={stopped_at}" in capsys.readouterr().out
    assert run.state() == RunState.FINISHED
    assert steps_of(run)[-1] == stopped_at + 30


def test_the_second_ctrl_c_ends_at_once_and_gives_the_cursor_back(tmp_path: Path, run: RunDirectory) -> None:
    """The first one waits for the step, or here for an endless sample, to end."""
    toml = write_toml(tmp_path, 10**6, max_new_tokens=100_000)
    with on_terminal("train", str(toml), "--run.name=mine") as terminal:
        terminal.read_until(lambda: "val loss" in terminal.text())
        os.write(terminal.master, b"\x03")
        terminal.read_until(lambda: "once more to end at once" in terminal.text())
        assert not terminal.ended()
        os.write(terminal.master, b"\x03")
        terminal.read_until(terminal.ended, seconds=5)
        while terminal.read():
            pass
    assert terminal.process.returncode == 128 + signal.SIGINT
    assert terminal.output.rfind(b"\x1b[?25h") > terminal.output.rfind(b"\x1b[?25l")
    assert run.state() == RunState.CRASHED
    assert run.checkpoints() == []


def test_closing_the_terminal_leaves_the_training_to_its_end(tmp_path: Path, run: RunDirectory) -> None:
    """A dropped connection or a closed window: SIGHUP, and a terminal on which every write fails."""
    with on_terminal("train", str(write_toml(tmp_path, 1500)), "--run.name=mine") as terminal:
        terminal.read_until(lambda: "tokens/s" in terminal.text())
        reached = steps_of(run)[-1]
        assert reached < 1500
        terminal.close()
        assert terminal.process.wait(60) == 0
    assert run.state() == RunState.FINISHED
    assert steps_of(run)[-1] == 1500
    # Nothing of it went to a terminal that was not there, as an error of the display.
    assert not run.console_file.exists() or run.console_file.read_text() == ""
