"""Checkpoints come to the disk beside the training, one at a time, and whatever the disk does the training goes on."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from minigpt import checkpoint as checkpoints
from minigpt import saving
from minigpt.checkpoint import Snapshot
from minigpt.commands import send_command
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.journal import JournalWriter, Row, read_journal
from minigpt.metrics import Metrics
from minigpt.model import GPT
from minigpt.run_log import RunLog
from minigpt.rundir import Checkpoint, RunDirectory, RunLock, RunState
from minigpt.session import TrainingSession
from minigpt.tokenizer import CharTokenizer
from tests.training import assert_same_run, resume, rows_by_step, tiny_config, train, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.txt")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a training does every half minute it does several times a second here."""
    monkeypatch.setattr(saving, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr("minigpt.ending.RETRY_INTERVAL", 0.05)


LONG = {"max_steps": 700, "checkpoint_interval": 50, "eval_interval": 350, "keep_checkpoints": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """What a run of LONG comes to when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(tiny_config(write_corpus(folder / "corpus.txt"), folder / "run", train=LONG))


def events(run: RunDirectory, *names: str) -> list[Row]:
    return [row for row in read_journal(run.events_file) if row.get("event") in names]


def disk_notices(run: RunDirectory) -> list[Row]:
    return [row for row in events(run, "notice") if row.get("kind") == "disk"]


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


_begun: list[TrainingSession] = []


@pytest.fixture(autouse=True)
def nothing_trains_on() -> Iterator[None]:
    """A test that fails must not leave a training behind, beside which the next ones would fail too."""
    yield
    while _begun:
        session = _begun.pop()
        session.request_stop()
        session.join(30)


def began(config: object) -> tuple[TrainingSession, RunDirectory]:
    session = TrainingSession(config=config, preset="test")  # type: ignore[arg-type]
    _begun.append(session)
    session.start()
    wait_for(lambda: session.run_directory is not None or session.error)
    assert session.run_directory is not None, session.error
    return session, session.run_directory


# ── beside the training ───────────────────────────────────────────────────────────────────────────────────────────


def test_training_goes_on_while_a_checkpoint_is_written_and_only_one_is(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is written is the state of its step, not of the steps that came meanwhile."""
    whole = train(tiny_config(corpus, tmp_path / "whole", train={"keep_checkpoints": 100}))
    write = checkpoints.write_checkpoint
    steps_meanwhile, at_once, most = [], [0], [0]

    def slow(run: RunDirectory, snapshot: Snapshot) -> Checkpoint:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        rows = Metrics(run.metrics_file)
        if snapshot.step == 20:
            wait_for(lambda: rows.read_all().last["step"] > 20)
            steps_meanwhile.append(rows.last["step"])
        time.sleep(0.05)
        written = write(run, snapshot)
        at_once[0] -= 1
        return written

    monkeypatch.setattr(saving, "write_checkpoint", slow)
    run = train(tiny_config(corpus, tmp_path / "run", train={"keep_checkpoints": 100}))
    assert steps_meanwhile and most == [1]
    for one, other in zip(whole.checkpoints(), run.checkpoints(), strict=True):
        for name in ("model.safetensors", "training.safetensors"):
            assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), one.step
    assert [row["step"] for row in events(run, "saved")] == [0, 10, 15, 20, 30, 40]


def test_all_of_a_checkpoint_is_durable_before_it_has_its_name(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the order: rows and files to the disk, the rename, the directory to the disk."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noting_fsync(descriptor: int) -> None:
        calls.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def noting_rename(source: str | Path, target: str | Path) -> None:
        calls.append(f"rename {target}")
        rename(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell which file is synced")
    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    run = train(tiny_config(corpus, tmp_path / "run", train={"max_steps": 10, "eval_interval": 10}))
    end = calls.index(f"rename {run.checkpoint('10').path}")
    begin = calls.index(f"rename {run.checkpoint('0').path}")
    building = run.checkpoints_dir / ".step-00000010.tmp"
    needed = {str(building / "model.safetensors"), str(building / "training.safetensors"), str(building)}
    needed |= {str(run.metrics_file), str(run.events_file), str(run.samples_file)}
    assert needed <= set(calls[begin:end])
    assert str(run.checkpoints_dir) in calls[end:]


def test_a_save_that_was_asked_for_is_answered_when_it_is_on_the_disk(tmp_path: Path, corpus: Path) -> None:
    session, run = began(tiny_config(corpus, tmp_path / "run", train={"max_steps": 100_000}))
    wait_for(lambda: Metrics(run.metrics_file).read_all().last.get("step", 0) > 5)
    asked = send_command(run.commands_dir, "save")
    wait_for(lambda: any(row.get("command") == asked for row in events(run, "saved")))
    (answer,) = [row for row in events(run, "saved") if row.get("command") == asked]
    assert run.checkpoint(str(answer["step"])).path.name == answer["checkpoint"]
    session.request_stop()
    session.join()


# ── a disk that takes nothing ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> Iterator[None]:
    """Nothing can be written to any file of a run in here."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        patch.setattr(checkpoints, "save_file", refuse)
        patch.setattr(saving, "write_atomically", refuse)
        yield


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_on_a_full_disk_it_trains_on_says_so_and_loses_nothing(
    tmp_path: Path, corpus: Path, undisturbed: RunDirectory, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Full, read-only, broken: the earlier checkpoint stays whole, and once there is room all rows are there."""
    session, run = began(tiny_config(corpus, tmp_path / "run", train=LONG))
    wait_for(lambda: run.checkpoints() and run.checkpoints()[-1].step >= 50)
    with full_disk(monkeypatch, code):
        wait_for(lambda: "cannot be written" in session.trouble and "rows wait in memory" in session.trouble)
        wait_for(lambda: (trainer := session._trainer) is not None and trainer.saver.error is not None)
        assert os.strerror(code) in session.trouble
        kept = run.checkpoint("last")
        size = run.metrics_file.stat().st_size
        time.sleep(0.3)
        assert run.metrics_file.stat().st_size == size and run.checkpoint("last") == kept
        assert session.is_alive()
    session.join()
    assert session.error is None and session.outcome == "finished"
    assert_same_run(run, undisturbed)
    assert any("could not be written" in row["message"] for row in disk_notices(run))


def test_at_its_end_it_waits_for_room(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night's training must not be lost because somebody else's files fill the disk in its last minute."""
    whole = train(tiny_config(corpus, tmp_path / "whole"))
    session, run = began(tiny_config(corpus, tmp_path / "run"))
    with full_disk(monkeypatch):
        wait_for(lambda: session.trouble)
        time.sleep(0.5)
        assert session.is_alive() and run.state() is RunState.TRAINING
    session.join()
    assert session.outcome == "finished"
    assert_same_run(run, whole)


def test_who_does_not_want_to_wait_is_told_what_is_lost(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.ending.time.sleep", lambda _: None)
    session, run = began(tiny_config(corpus, tmp_path / "run", train={"max_steps": 100_000}))
    wait_for(run.checkpoints)
    with full_disk(monkeypatch):
        wait_for(lambda: session.trouble)
        session.request_stop()
        session.join()
    assert isinstance(session.error, UserError)
    assert "could not be saved: No space left on device; the last checkpoint is that of step" in str(session.error)
    last = run.checkpoint("last").step
    # Nothing half written is left, and it goes on from what there is.
    session = TrainingSession(resume=run)
    session.request_stop()
    session.start()
    session.join()
    assert session.error is None and run.checkpoint("last").step >= last


def test_a_save_that_fails_is_answered_too(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits for the answer, and must not believe that it was saved."""
    session, run = began(tiny_config(corpus, tmp_path / "run", train={"max_steps": 100_000}))
    wait_for(run.checkpoints)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(saving, "write_checkpoint", refuse)
        asked = send_command(run.commands_dir, "save")
        wait_for(lambda: any(row.get("command") == asked for row in disk_notices(run)))
    session.request_stop()
    session.join()
    assert session.error is None


@pytest.mark.parametrize("what", [".", "checkpoints", "lock", "metrics.jsonl"])
def test_what_somebody_deletes_is_made_again(
    tmp_path: Path, corpus: Path, undisturbed: RunDirectory, what: str
) -> None:
    """Deleted in the middle of a run, whole or in part: in the end everything is there, and the lock is held again."""
    session, run = began(tiny_config(corpus, tmp_path / "run", train=LONG))
    wait_for(lambda: run.checkpoints() and run.checkpoints()[-1].step >= 100)
    doomed = run.path / what
    if doomed.is_dir():
        gone = tmp_path / "gone"
        doomed.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    else:
        doomed.unlink()
    wait_for(lambda: (doomed.exists() and run.is_live()) or not session.is_alive())
    assert session.is_alive(), "over before it was made again"
    session.join()
    assert session.error is None and session.outcome == "finished"
    assert run.state() is RunState.FINISHED
    assert_same_run(run, undisturbed)
    assert run.config() and run.tokenizer_file.exists()
    if what != "metrics.jsonl":
        assert any("had vanished" in row["message"] for row in disk_notices(run))


def test_another_run_in_its_place_is_left_alone(tmp_path: Path, corpus: Path) -> None:
    """Writing into it would mix two runs."""
    other = train(tiny_config(corpus, tmp_path / "other"))
    rarely = {"max_steps": 100_000, "checkpoint_interval": 100_000, "eval_interval": 100_000}
    session, run = began(tiny_config(corpus, tmp_path / "run", train=rarely))
    command = send_command(run.commands_dir, "save")
    wait_for(lambda: any(row.get("command") == command for row in events(run, "saved")))  # then none is being written
    run.path.rename(tmp_path / "moved")
    shutil.copytree(other.path, run.path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    send_command(run.commands_dir, "save")
    wait_for(lambda: "another run lies in its place" in session.trouble)
    assert {path: path.read_bytes() for path in before} == before
    session.request_stop()
    session.join()
    assert isinstance(session.error, UserError)


# ── journals ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_cannot_be_written_wait_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = JournalWriter(tmp_path / "journal.jsonl")
    journal.append({"row": 1})
    with full_disk(monkeypatch):
        journal.append({"row": 2})
        journal.append({"row": 3})
        assert journal.waiting == 2 and journal.error is not None
        with pytest.raises(OSError, match="No space"):
            journal.flush()
    journal.append({"row": 4})
    assert journal.waiting == 0 and journal.error is None
    assert [row["row"] for row in read_journal(journal.path)] == [1, 2, 3, 4]
    journal.close()


# ── one save after the other, without a training ──────────────────────────────────────────────────────────────────

TOKENIZER = CharTokenizer(list("abc\n"))


@dataclass
class ByHand:
    """A run that is held, and who saves it."""

    run: RunDirectory
    config: Config
    lock: RunLock
    log: RunLog
    saver: saving.Saver
    model: GPT
    best: saving.Best | None = field(default=None, init=False)
    """As the training counts it."""

    def save(self, step: int) -> bool:
        """Save and wait for it; whether all is on the disk."""
        self.saver.save(self.config, step, lambda: self.snapshot(step), best=self.best)
        return self.saver.finish()

    def snapshot(self, step: int) -> Snapshot:
        return Snapshot.take(step, self.model, {"rng.cpu": torch.ones(2)}, {"val_loss": None})

    @property
    def steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self.run.checkpoints()]


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[ByHand]:
    config = tiny_config(tmp_path / "corpus.txt", tmp_path / "run", train={"keep_checkpoints": 1})
    run = RunDirectory.create(config, "test", TOKENIZER)
    with (
        run.locked() as lock,
        closing(RunLog(run, lock, attempt=1)) as log,
        closing(saving.Saver(run, lock, log, TOKENIZER)) as saver,
    ):
        yield ByHand(run, config, lock, log, saver, GPT(config.model, TOKENIZER.vocab_size))


def failing(*steps: int, function: Callable[..., object], code: int = errno.ENOSPC) -> Callable[..., object]:
    """The function, which fails at its so-manyth calls, from 1 on."""
    calls = []

    def call(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) in steps:
            raise OSError(code, os.strerror(code))
        return function(*arguments, **options)

    return call


def test_the_best_one_is_called_so_later_where_that_failed(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next save knew only that it was not the best itself, and removed the one that was."""
    monkeypatch.setattr(saving, "write_best", failing(2, function=saving.write_best))
    by_hand.best = (10, 2.0)
    assert by_hand.save(10)
    by_hand.best = (20, 1.0)
    assert not by_hand.save(20)
    assert by_hand.save(30)
    assert by_hand.steps == [20, 30] and by_hand.run.best_step() == 20
    assert [row["best"] for row in events(by_hand.run, "saved")] == [True, False]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"step": 10, "val_loss": null}', '{"step": 5, "val_loss": 3}'])
def test_the_best_one_stays_whatever_happens_to_the_file_that_names_it(by_hand: ByHand, content: str | None) -> None:
    """Unreadable for a moment, and the best checkpoint of a night was pruned."""
    by_hand.best = (10, 2.0)
    assert by_hand.save(10)
    by_hand.run.best_file.unlink()
    if content is not None:
        by_hand.run.best_file.write_text(content)
    assert by_hand.save(20) and by_hand.save(30)
    assert by_hand.steps == [10, 30]
    assert json.loads(by_hand.run.best_file.read_text()) == {"step": 10, "val_loss": 2.0}


def test_the_best_one_stays_where_its_file_cannot_be_read_at_that_moment(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand.best = (10, 2.0)
    assert by_hand.save(10)
    monkeypatch.setattr(RunDirectory, "best_step", lambda _: None)
    assert by_hand.save(20) and by_hand.save(30)
    assert by_hand.steps == [10, 30]


def test_the_best_one_that_there_is_stays_where_a_better_one_could_not_be_written(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand.best = (10, 2.0)
    assert by_hand.save(10)
    monkeypatch.setattr(saving, "write_checkpoint", failing(1, function=saving.write_checkpoint))
    by_hand.best = (20, 1.0)
    assert not by_hand.save(20)
    assert by_hand.save(30)
    assert by_hand.steps == [10, 30] and by_hand.run.checkpoint("best").step == 10


def test_old_checkpoints_that_cannot_be_removed_are_no_failure(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run hung at its end, and could not be handed over: what was saved was said not to be."""
    by_hand.save(10)
    remove = saving.remove_checkpoint
    monkeypatch.setattr(saving, "remove_checkpoint", failing(1, 2, function=remove, code=errno.EPERM))
    assert by_hand.save(20)
    assert by_hand.save(30)  # the one of step 20 is removed although the one before cannot be
    assert by_hand.steps == [10, 30]
    assert by_hand.saver.error is None and by_hand.saver.trouble == ""
    (notice,) = disk_notices(by_hand.run)
    assert "cannot be removed (Operation not permitted)" in notice["message"]
    assert by_hand.save(40) and by_hand.steps == [40]


def test_an_old_checkpoint_that_somebody_has_removed_is_no_failure(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand.save(10)
    remove = saving.remove_checkpoint
    monkeypatch.setattr(saving, "remove_checkpoint", failing(1, function=remove, code=errno.ENOENT))
    assert by_hand.save(20) and disk_notices(by_hand.run) == []


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")])
@pytest.mark.parametrize("where", ["written", "copied"])
def test_no_memory_for_a_checkpoint_is_like_no_room_for_it(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    """It ended the training."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    by_hand.save(10)
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoints if where == "written" else by_hand, "save_file" if where == "written" else "snapshot", refuse
        )
        assert not by_hand.save(20)
    assert [path.name for path in by_hand.run.checkpoints_dir.iterdir()] == ["step-00000010"]
    assert "step 20 could not be written (Cannot allocate memory)" in disk_notices(by_hand.run)[0]["message"]
    assert by_hand.save(30)


def test_a_fault_of_the_program_is_not_taken_for_one_of_the_disk(by_hand: ByHand) -> None:
    def wrong() -> Snapshot:
        raise RuntimeError("wrong")

    with pytest.raises(RuntimeError, match="wrong"):
        by_hand.saver.save(by_hand.config, 10, wrong)


def test_at_the_same_step_all_is_done_but_the_weights(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have been killed after a checkpoint was written, before the best was named and old ones removed."""
    by_hand.save(10)
    checkpoints.write_checkpoint(by_hand.run, by_hand.snapshot(20))  # and no more than that
    synced: list[list[int]] = []
    sync = RunLog.sync
    monkeypatch.setattr(RunLog, "sync", lambda log: synced.append(by_hand.steps) or sync(log))
    weights = (by_hand.run.checkpoint("20").path / "model.safetensors").stat().st_ino
    by_hand.best = (20, 1.0)
    assert by_hand.save(20)
    assert synced == [[10, 20]]  # before anything is removed
    assert by_hand.steps == [20] and by_hand.run.best_step() == 20
    assert (by_hand.run.checkpoint("20").path / "model.safetensors").stat().st_ino == weights


@pytest.mark.parametrize("step", [10, 20], ids=["the same step", "another"])
def test_no_checkpoint_appears_while_earlier_rows_wait(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """It vouches for them: resumed from it they would be missing for ever."""
    by_hand.save(10)
    before = by_hand.run.checkpoint("10").info()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(*range(1, 99), function=os.write))
        by_hand.log.metrics.append({"step": 15})
        patch.setattr(by_hand, "snapshot", lambda step: Snapshot.take(step, by_hand.model, {}, {"later": True}))
        assert not by_hand.save(step)
    assert by_hand.steps == [10] and by_hand.run.checkpoint("10").info() == before
    assert by_hand.save(20) and read_journal(by_hand.run.metrics_file) == [{"step": 15}]


def test_a_save_that_failed_is_tried_again_between_two_intervals(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "write_checkpoint", failing(1, function=saving.write_checkpoint))
    monkeypatch.setattr(saving, "RETRY_INTERVAL", 0.01)
    quiet = {"max_steps": 200, "checkpoint_interval": 1000, "eval_interval": 1000}
    run = train(tiny_config(corpus, tmp_path / "run", train=quiet, sample={"interval": 1000}))
    assert 0 < events(run, "saved")[0]["step"] < 200
    assert "tries again" in disk_notices(run)[0]["message"]


# ── who holds the run ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_that_somebody_deletes_is_taken_again(by_hand: ByHand) -> None:
    by_hand.run.lock_file.unlink()
    assert not by_hand.run.is_live()
    by_hand.saver.make_directory_again(by_hand.config, 5)
    assert by_hand.run.is_live() and by_hand.lock.is_in_place()
    assert "was made again" in disk_notices(by_hand.run)[0]["message"]


def test_who_has_lost_the_run_to_another_process_ends(by_hand: ByHand) -> None:
    """Two trainers wrote into one run, for as long as both of them lived."""
    by_hand.save(10)
    by_hand.run.lock_file.unlink()
    with by_hand.run.locked():
        with pytest.raises(UserError, match="is being trained by another process"):
            by_hand.save(20)
        assert by_hand.steps == [10]


@pytest.mark.parametrize("held", [True, False], ids=["held", "made"])
def test_nothing_is_written_into_a_new_run_of_that_name(by_hand: ByHand, held: bool) -> None:
    """The old one's next row came into its metrics.jsonl, before there was one."""
    by_hand.save(10)
    shutil.rmtree(by_hand.run.path)
    new = RunDirectory.create(by_hand.config, "test", TOKENIZER)
    before = sorted(path.name for path in new.path.rglob("*"))
    lock = new.locked() if held else None
    if lock is not None:
        lock.__enter__()
        before = sorted([*before, "lock"])
    by_hand.log.metrics.append({"step": 11})
    by_hand.log.event(11, "sampled")
    assert not by_hand.save(20)
    assert "another run lies in its place" in by_hand.saver.trouble and "rows wait" in by_hand.saver.trouble
    assert sorted(path.name for path in new.path.rglob("*")) == before
    if lock is not None:
        lock.__exit__(None, None, None)
    shutil.rmtree(new.path)
    assert by_hand.save(30), "and where there is nothing any more it is made again"
    assert [row["step"] for row in read_journal(by_hand.run.metrics_file)] == [11]


def test_rows_that_somebody_deletes_are_there_again_with_the_next_checkpoint(by_hand: ByHand) -> None:
    """Not only with the next row, which may be the next process's: it would know nothing of them."""
    by_hand.log.metrics.append({"step": 1})
    by_hand.save(10)
    by_hand.run.metrics_file.unlink()
    assert by_hand.save(20) and read_journal(by_hand.run.metrics_file) == [{"step": 1}]


def test_what_could_be_made_again_only_in_part_is_completed(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle of it must not make a stranger's run of one's own."""
    by_hand.log.metrics.append({"step": 1})
    by_hand.log.event(1, "sampled")
    for which in range(1, 6):
        shutil.rmtree(by_hand.run.path)
        with monkeypatch.context() as patch:
            patch.setattr("minigpt.rundir.write_atomically", failing(which, function=saving.write_atomically))
            patch.setattr(os, "write", failing(which, which + 1, which + 2, function=os.write))
            by_hand.save(10 * which)
        assert by_hand.save(10 * which + 1), by_hand.saver.trouble
        assert read_journal(by_hand.run.metrics_file) == [{"step": 1}]
        assert by_hand.run.config().train == by_hand.config.train and by_hand.run.is_live()


# ── a stop in the middle of an evaluation ─────────────────────────────────────────────────────────────────────────


def test_a_stop_breaks_an_evaluation_off_and_the_next_attempt_does_it(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine an evaluation takes minutes, and a shutdown gives ten seconds."""
    whole = train(tiny_config(corpus, tmp_path / "whole"))
    in_evaluation, asked = threading.Event(), threading.Event()
    monkeypatch.setattr("minigpt.examining.BATCH_TOKENS", 16)
    from minigpt.trainer import Trainer

    look_up = Trainer._look_up

    def waiting(self: Trainer, share: float) -> None:
        if self.counters.step == 15:
            in_evaluation.set()
            asked.wait(10)
        look_up(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_look_up", waiting)
        session = TrainingSession(config=tiny_config(corpus, tmp_path / "run"), preset="test")
        session.start()
        assert in_evaluation.wait(30)
        session.request_stop()
        asked.set()
        session.join()
    assert session.outcome == "stopped"
    run = RunDirectory(tmp_path / "run")
    assert run.checkpoint("last").step == 15 and run.checkpoint("last").info()["after_step_is_due"] is True
    assert max(rows_by_step(run)) == 12
    resume(run)
    assert run.checkpoint("best").step == whole.checkpoint("best").step
    ours, theirs = run.checkpoint("last").path, whole.checkpoint("last").path
    assert (ours / "training.safetensors").read_bytes() == (theirs / "training.safetensors").read_bytes()
    steps = [(step, row.get("train_loss")) for step, row in rows_by_step(run).items()]
    assert steps == [(step, row.get("train_loss")) for step, row in rows_by_step(whole).items()]


def test_little_room_is_told_once_while_there_is_some(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the warning before the disk is full, and a notice at each of a hundred checkpoints."""
    usage = shutil.disk_usage(tmp_path)
    short = {"max_steps": 60, "checkpoint_interval": 10, "eval_interval": 30}
    plenty = train(tiny_config(corpus, tmp_path / "plenty", train=short))
    size = sum(file.stat().st_size for file in plenty.checkpoints()[-1].path.iterdir())
    assert disk_notices(plenty) == []
    # Not to the byte: checkpoint.json has more digits at one time than at another.
    for free, told in ((3 * size + 999, 0), (3 * size - 999, 1)):
        monkeypatch.setattr(saving.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        run = train(tiny_config(corpus, tmp_path / str(free), train=short))
        assert len(disk_notices(run)) == told and len(events(run, "saved")) > 4
    assert "a checkpoint takes" in disk_notices(run)[0]["message"] and disk_notices(run)[0]["free"] == free
