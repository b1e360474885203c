"""A disk that is really full: a file system of its own that holds a megabyte, where one may be mounted."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory, RunState
from tests.end_to_end.terminal import environment, script, wait_for
from tests.end_to_end.test_hangup import last_step
from tests.training import assert_same_run

ROOT = Path(__file__).parents[2]
IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def train_on_a_full_disk(toml: Path, disk: Path) -> None:
    """Within the namespace: fill the disk in the middle of a training, make room again, and take the run away from it."""
    run = RunDirectory(disk / "run")
    command = [script("minigpt"), "train", str(toml), "--run.dir", str(run.path)]
    with (disk.parent / "printed").open("wb") as printed:
        trainer = subprocess.Popen(command, stdout=printed, stderr=printed)
    try:
        wait_for(lambda: last_step(run) >= 100)
        with (disk / "others").open("wb", buffering=0) as others:
            try:
                while True:
                    others.write(bytes(512))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        wait_for(
            lambda: "No space left on device" in (disk.parent / "printed").read_text() or trainer.poll() is not None
        )
        assert trainer.poll() is None, "the full disk has ended the training"
        kept = run.checkpoint("last")
        assert kept.info()["step"] == kept.step, "the earlier checkpoint is whole"
        (disk / "others").unlink()
        assert trainer.wait(120) == 0
    finally:
        trainer.kill()
    subprocess.run(["cp", "-a", str(run.path), str(disk.parent / "run")], check=True)


def test_on_a_full_disk_it_trains_on(steady: Path, without_a_screen: RunDirectory, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs "{disk}"'
    try:
        tried = subprocess.run([*IN_A_NAMESPACE, "sh", "-c", mount], capture_output=True, check=False)
        if tried.returncode:
            pytest.skip(f"no file system can be mounted here: {tried.stderr.decode().strip()}")
    except FileNotFoundError:
        pytest.skip("no file system can be mounted here: unshare is Linux's")
    words = f'{mount} && exec "{sys.executable}" -m {__name__} "$1" "$2"'
    command = [*IN_A_NAMESPACE, "sh", "-c", words, "sh", str(steady), str(disk)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    run = RunDirectory(tmp_path / "run")
    said = [row["message"] for row in read_journal(run.events_file) if row.get("kind") == "disk"]
    assert any("No space left on device" in message for message in said)
    assert not os.path.lexists(disk / "run"), "it was not a disk of its own"
    assert run.state() is RunState.FINISHED
    assert_same_run(run, without_a_screen)


if __name__ == "__main__":
    train_on_a_full_disk(Path(sys.argv[1]), Path(sys.argv[2]))
