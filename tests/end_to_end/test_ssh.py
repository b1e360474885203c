"""Over a real OpenSSH connection that drops: skipped where no server is installed."""

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from minigpt.commands import send_command
from minigpt.rundir import RunDirectory, RunState
from tests.end_to_end.terminal import Program, script, wait_for
from tests.end_to_end.test_hangup import assert_undisturbed, await_steps, last_step, pause

SYSTEM_FOLDERS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
NEEDED = {name: shutil.which(name, path=SYSTEM_FOLDERS) for name in ("sshd", "ssh", "ssh-keygen")}
PRIVILEGE_SEPARATION = Path("/run/sshd")  # what sshd asks for when root starts it, and init usually makes

CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""


@dataclass(frozen=True)
class Server:
    """An SSH server on the loopback, which lets this user in with a key of this test."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def start(self, *command: str | Path) -> Program:
        """`ssh -tt` with a command, in a terminal of its own."""
        options = ["-tt", "-F", "none", "-e", "none", "-i", self.folder / "user", "-p", str(self.port)]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"):
            options += ["-o", option]
        options += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        words = shlex.join(map(str, ("env", "COLORTERM=truecolor", f"PATH={os.environ['PATH']}", *command)))
        return Program(*options, f"{getpass.getuser()}@127.0.0.1", words, command=str(NEEDED["ssh"]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if missing := [name for name, path in NEEDED.items() if path is None]:
        pytest.skip(f"no {' and no '.join(missing)}: install an OpenSSH server to test over a real connection")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        keygen = [str(NEEDED["ssh-keygen"]), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(CONFIGURATION.format(port=port, folder=folder))
    command = [str(NEEDED["sshd"]), "-D", "-e", "-f", str(folder / "config")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: b"listening" in (folder / "log").read_bytes() or process.poll() is not None)
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()}")
        yield Server(folder, port, process)
    finally:
        process.kill()
        process.wait()


def trainer_of(server: Server) -> psutil.Process:
    """The program at the other end, and above it the server's child that holds its terminal."""
    (found,) = [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if any("minigpt-tui" in word for word in child.cmdline()[:2])
    ]
    return found


@pytest.mark.parametrize("killed", ["client", "server's child"])
def test_a_lost_connection(
    killed: str, server: Server, steady: Path, without_a_screen: RunDirectory, tmp_path: Path
) -> None:
    """The evening's connection drops; the training goes on, and in the morning a new one takes it up."""
    run = RunDirectory(tmp_path / "run")
    with server.start(script(), steady, "--run.dir", run.path) as program:
        program.wait_until("● training")
        wait_for(lambda: last_step(run) >= 100)
        trainer = trainer_of(server)
        if killed == "client":
            program.process.kill()
        else:
            above = trainer.parent()
            while above is not None and not above.name().startswith("sshd"):
                above = above.parent()
            assert above is not None and above.pid != server.process.pid
            above.kill()
        await_steps(run, 100)
        pause(run)
        program.wait()
    assert trainer.is_running() and run.is_live()
    with server.start(script(), run.path) as program:
        program.wait_until("‖ paused")
        program.press("p")
        program.wait_until("✓ finished")
        program.press("q")
        assert program.wait() == 0
    wait_for(lambda: not run.is_live())
    assert run.state() is RunState.FINISHED
    assert_undisturbed(run, without_a_screen)


def test_a_connection_that_is_dead_and_not_noticed(server: Server, steady: Path, tmp_path: Path) -> None:
    """A laptop that fell asleep: the client takes nothing any more, and the connection stands."""
    run = RunDirectory(tmp_path / "run")
    with server.start(script(), steady, "--run.dir", run.path) as program:
        program.wait_until("● training")
        wait_for(lambda: last_step(run) >= 100)
        trainer = trainer_of(server)
        program.send_signal(signal.SIGSTOP)
        await_steps(run, 200)
        send_command(run.commands_dir, "stop")
        wait_for(lambda: run.state() is RunState.STOPPED)
        assert run.checkpoint("last").step > 200
        program.send_signal(signal.SIGCONT)
        program.wait_until("stopped")
        program.press("q")
        assert program.wait() == 0
        wait_for(lambda: not trainer.is_running())
