"""A run directory is made whole or not at all, locked by one process, and read without trusting it."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import minigpt.rundir
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.files import write_atomically
from minigpt.journal import JournalWriter
from minigpt.run_name import new_run_name
from minigpt.rundir import RunDirectory, RunState, last_written, list_runs
from minigpt.tokenizer import CharTokenizer, load_tokenizer

TOKENIZER = CharTokenizer.train("abc")


def create(preset: str = "quickstart", **run: str) -> RunDirectory:
    return RunDirectory.create(Config.model_validate({"run": run}), preset, TOKENIZER)


def record(run: RunDirectory, *events: str) -> None:
    writer = JournalWriter(run.events_file)
    for event in events:
        writer.append({"event": event, "time": 0.0, "step": 0, "attempt": 1})
    writer.close()


@contextlib.contextmanager
def held_by_another_process(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run's lock, as a trainer does."""
    program = (
        "import sys; from pathlib import Path; from minigpt.rundir import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


# ── making one ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_run_is_complete_up_to_configuration_and_vocabulary(runs: Path) -> None:
    run = create(about="mine")
    assert run.path.parent == runs
    assert run.config() == Config.model_validate({"run": {"about": "mine"}})
    assert load_tokenizer(run.tokenizer_file).to_json() == TOKENIZER.to_json()
    assert run.checkpoints_dir.is_dir()
    assert run.commands_dir.is_dir()
    assert run.chat_dir.is_dir()
    assert list(runs.iterdir()) == [run.path]


def test_a_run_lies_where_it_was_told_to(tmp_path: Path, runs: Path) -> None:
    assert create(name="mine").path == runs / "mine"
    assert create(dir=str(tmp_path / "a" / "b"), name="ignored").path == tmp_path / "a" / "b"


@pytest.mark.parametrize("kind", ["directory", "empty directory", "file", "link", "dangling link"])
def test_what_exists_is_never_started_over(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "taken", tmp_path / "target"
    if kind == "file":
        path.write_text("mine")
    elif kind.endswith("link"):
        if kind == "link":
            target.mkdir()
        path.symlink_to(target)
    else:
        path.mkdir()
        if kind == "directory":
            (path / "config.toml").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="exists already, and no run is ever started over") as caught:
        create(dir=str(path))
    assert f"minigpt train --resume {path}" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["file/run", "x" * 300])
def test_an_impossible_place_is_refused_in_words(tmp_path: Path, name: str) -> None:
    """A name too long was an OSError from looking whether it exists, and so a crash."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot make the directory of the run: .* Choose a writable place"):
        create(dir=str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["write_atomically", "sync_path"])
def test_a_failure_on_the_way_leaves_no_half_made_run(
    runs: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(minigpt.rundir, failing, fail)
    with pytest.raises(UserError, match="No space left on device"):
        create(name="mine")
    if failing == "write_atomically":
        assert list(runs.iterdir()) == []
    assert [path.name for path in runs.iterdir() if path.name.startswith(".")] == []


def test_names_that_are_made_up_never_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two words there are some thousands a day: the second run of a name must not be refused."""
    names = iter(["same", "same", "same", "other"])
    monkeypatch.setattr(minigpt.rundir, "new_run_name", lambda _: next(names))
    assert [create().name, create().name] == ["same", "other"]


@pytest.mark.parametrize("preset", ["quickstart", "my notes\n\x1b[2J/..", "x" * 300, "роман", "caf\udce9", ""])
def test_a_made_up_name_is_one_for_a_directory_whatever_the_file_was_called(preset: str) -> None:
    """It begins with the date and the preset, which may be any TOML file's name."""
    name = new_run_name(preset)
    assert len(name.encode()) < 200
    assert name[0].isdigit()
    assert all(letter.isalnum() or letter in "._-" for letter in name)
    assert create(preset).config()


# ── finding one ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_opened_by_its_name_or_its_path(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(name="mine")
    assert RunDirectory.open("mine").path == run.path
    assert RunDirectory.open(run.path).path == run.path
    monkeypatch.chdir(runs)
    assert RunDirectory.open("./mine").path == run.path


def test_what_is_no_run_is_refused_in_words(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "file").touch()
    runs.mkdir()
    for path, reason in (
        (str(tmp_path), "is a directory, but holds no run"),
        (str(tmp_path / "file"), "is a file, where the directory of a run is needed"),
        ("none", f"no such run; `minigpt runs` lists those in {runs}"),
        ("~nobody-of-this-name/run", "no such run"),
        ("x" * 300, "cannot be read: File name too long"),
    ):
        with pytest.raises(UserError, match=reason):
            RunDirectory.open(path)
    with pytest.raises(UserError) as caught:
        RunDirectory.open("\x1b]0;owned\x07")
    assert "\x1b" not in str(caught.value)


def test_the_list_of_runs_has_the_newest_first_and_nothing_else(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_runs() == []
    for name in ("old", "new"):
        create(name=name)
    for path, when in ((runs / "old" / "config.toml", 1000), (runs / "new" / "config.toml", 2000)):
        os.utime(path, (when, when))
    (runs / "notes.txt").touch()
    (runs / "empty").mkdir()
    # What a process leaves that was killed while it made a run.
    half_made = runs / ".third.0a1b.new"
    half_made.mkdir()
    (half_made / "config.toml").touch()
    assert [run.name for run in list_runs()] == ["new", "old"]
    record(RunDirectory(runs / "old"), "started")
    assert [run.name for run in list_runs()] == ["old", "new"]
    assert last_written(RunDirectory(runs / "none")) == 0.0

    is_file = Path.is_file

    def forbidden(path: Path) -> bool:
        if path.parent.name == "empty":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", forbidden)
    # One directory that may not be looked into once made the list empty.
    assert len(list_runs()) == 2


# ── its lock and its state ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_trained_by_one_process_at_a_time() -> None:
    run = create(name="mine")
    assert not run.is_live()
    with held_by_another_process(run) as process:
        assert run.is_live()
        assert run.lock_file.read_text() == f"{process.pid}\n"
        with pytest.raises(UserError, match="is being trained by another process already"), run.locked():
            pytest.fail("two trainers at once")
        record(run, "started")
        assert run.state() == RunState.TRAINING
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not run.is_live()
        assert run.state() == RunState.CRASHED
    with run.locked():
        assert run.is_live()
    assert not run.is_live()


def test_looking_at_a_run_does_not_keep_a_trainer_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer asks by taking the lock for a moment: a trainer that starts in that moment waits it out."""
    run = create(name="mine")
    with run.locked():
        pass
    viewer = os.open(run.lock_file, os.O_RDONLY)
    fcntl.flock(viewer, fcntl.LOCK_SH)
    sleep = time.sleep

    def viewer_is_done(seconds: float) -> None:
        fcntl.flock(viewer, fcntl.LOCK_UN)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", viewer_is_done)
    with run.locked():
        assert run.is_live()
    os.close(viewer)


def test_a_lock_that_is_deleted_while_it_is_taken_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two could hold the run, each a file of its own: one of them without a name."""
    run = create(name="mine")
    flock = fcntl.flock
    removed = []

    def flock_too_late(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(run.lock_file.unlink())
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    with run.locked() as lock:
        assert removed and lock.is_in_place()
        assert run.is_live()


def test_a_lock_that_is_replaced_all_the_time_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(name="mine")
    monkeypatch.setattr(minigpt.rundir.RunLock, "is_in_place", lambda _: False)
    monkeypatch.setattr(time, "monotonic", iter(range(9)).__next__)
    with pytest.raises(UserError, match="cannot be locked: its lock is replaced again and again"), run.locked():
        pytest.fail("nothing to hold")


def test_an_unwritable_run_is_refused_in_words(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot be written to: No such file"), run.locked():
        pytest.fail("nothing to hold")
    assert not run.is_live()


def test_a_file_system_without_locks_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    run = create()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="cannot be locked: No locks available"), run.locked():
        pytest.fail("nothing to hold")


@pytest.mark.parametrize(
    ("events", "live", "ended"),
    [
        ([], RunState.TRAINING, RunState.CRASHED),
        (["started", "evaluated", "saved"], RunState.TRAINING, RunState.CRASHED),
        (["started", "paused", "notice"], RunState.PAUSED, RunState.CRASHED),
        (["started", "paused", "continued"], RunState.TRAINING, RunState.CRASHED),
        (["started", "saved", "finished"], RunState.TRAINING, RunState.FINISHED),
        (["started", "stopped"], RunState.TRAINING, RunState.STOPPED),
        (["started", "failed"], RunState.TRAINING, RunState.CRASHED),
        (["started", "stopped", "started"], RunState.TRAINING, RunState.CRASHED),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_the_state_follows_from_lock_and_last_event(events: list[str], live: RunState, ended: RunState) -> None:
    run = create(name="mine")
    record(run, *events)
    assert run.state() == ended
    with run.locked():
        assert run.state() == live


def test_events_that_are_none_do_not_hide_the_state() -> None:
    """A list in place of the name is not hashable, and raised."""
    run = create(name="mine")
    record(run, "started", "finished")
    with run.events_file.open("a") as file:
        file.write('{"event": ["stopped"]}\n{"event": {}}\n{"event": null}\n{}\n{"event": "unheard-of"}\nhalf')
    assert run.state() == RunState.FINISHED


# ── its checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    run = create(name="mine")
    for name in (
        "step-00001000",
        "step-00000500",
        ".step-00002000.tmp",
        "step-9",
        "step-0000050x",
        "step-00000500.old",
    ):
        (run.checkpoints_dir / name).mkdir()
    (run.checkpoints_dir / "step-00003000").touch()
    (tmp_path / "elsewhere").mkdir()
    (run.checkpoints_dir / "step-00004000").symlink_to(tmp_path / "elsewhere")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [500, 1000]
    assert RunDirectory(tmp_path / "none").checkpoints() == []


def test_a_checkpoint_is_found_by_last_best_or_step() -> None:
    run = create(name="mine")
    with pytest.raises(UserError, match="mine: has no checkpoint yet"):
        run.checkpoint("last")
    for step in (500, 1000):
        (run.checkpoints_dir / f"step-{step:08d}").mkdir()
    with pytest.raises(UserError, match="has no best checkpoint yet"):
        run.checkpoint("best")
    write_atomically(run.best_file, '{"step": 500}')
    assert run.checkpoint().step == run.checkpoint("last").step == 1000
    assert run.checkpoint("best").step == 500
    assert run.checkpoint("500").step == run.checkpoint("00000500").step == 500
    for wrong in ("700", "first", "", "-500", "5e2", "²", "9" * 5000):
        with pytest.raises(UserError, match="ask for last, best or one of 500, 1000"):
            run.checkpoint(wrong)


@pytest.mark.parametrize("content", ["", "[]", '{"step": [500]}', '{"step": {}}', '{"step": 700}', "[" * 100_000, "\0"])
def test_a_damaged_best_file_is_no_crash(content: str) -> None:
    run = create(name="mine")
    (run.checkpoints_dir / "step-00000500").mkdir()
    run.best_file.write_text(content)
    with pytest.raises(UserError, match="has no best checkpoint yet"):
        run.checkpoint("best")


def test_what_a_checkpoint_says_of_itself_may_be_missing_or_damaged() -> None:
    run = create(name="mine")
    (run.checkpoints_dir / "step-00000500").mkdir()
    checkpoint = run.checkpoint("last")
    assert checkpoint.info() == {}
    for content, info in (('{"step": 500}', {"step": 500}), ("[]", {}), ("\xff", {}), ("{" * 100_000, {})):
        (checkpoint.path / "checkpoint.json").write_text(content, encoding="latin-1")
        assert checkpoint.info() == info


def test_half_written_checkpoints_are_cleared_and_links_not_followed(tmp_path: Path) -> None:
    run = create(name="mine")
    (run.checkpoints_dir / ".step-00000500.tmp").mkdir()
    (run.checkpoints_dir / ".step-00000500.tmp" / "model.safetensors").touch()
    (run.checkpoints_dir / ".best.json.7.ab.tmp").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    (run.checkpoints_dir / ".link.tmp").symlink_to(outside)
    (run.checkpoints_dir / "step-00001000").mkdir()
    (run.path / ".epochs.csv.17.ab12.tmp").touch()
    run.clear_unfinished()
    assert not list(run.path.glob(".*.tmp"))
    assert [path.name for path in run.checkpoints_dir.iterdir()] == ["step-00001000"]
    assert (outside / "mine").exists()


def test_a_damaged_configuration_is_refused_in_words() -> None:
    run = create(name="mine")
    run.config_file.write_text("[train]\nmax_steps = -1\n")
    with pytest.raises(UserError, match=r"train\.max_steps = -1: must be at least 0"):
        run.config()


def test_a_name_with_escape_codes_is_inert_in_messages(runs: Path) -> None:
    """Anybody can name a directory so; the message goes to a terminal."""
    run = create(name="mine")
    run.path.rename(runs / "\x1b]0;owned\x07")
    run = list_runs()[0]
    for call in (run.checkpoint, lambda: create(dir=str(run.path)), run.locked().__enter__):
        run.lock_file.unlink(missing_ok=True)
        run.lock_file.mkdir(exist_ok=True)
        with pytest.raises(UserError) as caught:
            call()
        assert "\x1b" not in str(caught.value)
        run.lock_file.rmdir()
