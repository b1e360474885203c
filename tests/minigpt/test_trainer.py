"""The trainer writes what its readers need, obeys commands, and resumes exactly."""

import errno
import fcntl
import gc
import json
import math
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from minigpt import saving
from minigpt.checkpoint import Snapshot
from minigpt.commands import send_command
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.journal import Row, read_journal
from minigpt.metrics import Metrics
from minigpt.model import GPT, count_parameters
from minigpt.rundir import Checkpoint, RunDirectory, RunState
from minigpt.session import TrainingSession
from minigpt.trainer import Trainer
from tests.training import (
    assert_same_run,
    finish,
    in_evaluation,
    resume,
    rows_by_step,
    tiny_config,
    train,
    write_corpus,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.txt")


def events(run: RunDirectory, name: str) -> list[Row]:
    return [row for row in read_journal(run.events_file) if row["event"] == name]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# ── what a run leaves behind ──────────────────────────────────────────────────────────────────────────────────────


def test_rows_have_the_promised_names_at_the_promised_steps(tmp_path: Path, corpus: Path) -> None:
    run = train(tiny_config(corpus, tmp_path / "run"))
    rows = {row["step"]: row for row in read_journal(run.metrics_file)}
    assert list(rows) == [0, 4, 8, 12, 15, 16, 20, 24, 28, 30, 32, 36, 40]
    always = {"step", "attempt", "tokens", "epoch", "elapsed", "memory_rss"}
    trained = {"train_loss", "learning_rate", "grad_norm", "tokens_per_second"}
    figures = ("loss", "perplexity", "accuracy", "bpc", "bpb")
    evaluated = {f"{split}_{figure}" for split in ("train_eval", "val") for figure in figures}
    assert set(rows[0]) == always | evaluated
    assert set(rows[4]) == always | trained
    assert set(rows[15]) == set(rows[40]) == always | trained | evaluated
    assert rows[40]["tokens"] == 40 * 4 * 16
    assert rows[40]["epoch"] == pytest.approx(rows[40]["tokens"] / 2700)
    assert rows[40]["val_perplexity"] == pytest.approx(math.exp(rows[40]["val_loss"]))
    assert rows[0]["val_loss"] == pytest.approx(math.log(len(set(corpus.read_text()))), abs=0.1)
    assert rows[40]["val_loss"] < rows[0]["val_loss"] - 0.5


def test_train_loss_is_the_mean_over_the_steps_since_the_last_row(tmp_path: Path, corpus: Path) -> None:
    each = rows_by_step(train(tiny_config(corpus, tmp_path / "each", train={"log_interval": 1})))
    every = rows_by_step(train(tiny_config(corpus, tmp_path / "every")))
    assert every[4]["train_loss"] == pytest.approx(sum(each[step]["train_loss"] for step in (1, 2, 3, 4)) / 4, abs=1e-6)
    # The evaluation at 15 writes a row too, so that of step 16 stands for one step.
    assert every[16]["train_loss"] == pytest.approx(each[16]["train_loss"], abs=1e-6)


def test_checkpoints_are_the_newest_few_and_the_best(tmp_path: Path, corpus: Path) -> None:
    config = tiny_config(
        corpus, tmp_path / "run", train={"keep_checkpoints": 2, "checkpoint_interval": 5, "keep_every": 3}
    )
    run = train(config)
    steps = [checkpoint.step for checkpoint in run.checkpoints()]
    best = json.loads(run.best_file.read_text())
    evaluated = {row["step"]: row["val_loss"] for row in read_journal(run.metrics_file) if "val_loss" in row}
    assert best["step"] == min(evaluated, key=evaluated.__getitem__)
    assert best["val_loss"] == evaluated[best["step"]]
    assert run.checkpoint("best").info()["val_loss"] == best["val_loss"]
    assert run.checkpoint("last").step == 40
    assert set(steps) == {0, 15, 30, 35, 40, best["step"]}  # every third for looking back


def test_samples_come_from_a_fixed_prompt_and_seed(tmp_path: Path, corpus: Path) -> None:
    run = train(tiny_config(corpus, tmp_path / "run"))
    samples = read_journal(run.samples_file)
    assert [row["step"] for row in samples] == [0, 20, 40]
    assert all(row["prompt"] == "salt" and len(row["text"]) == 20 for row in samples)


def test_events_tell_the_story_and_the_state(tmp_path: Path, corpus: Path) -> None:
    config = tiny_config(corpus, tmp_path / "run")
    run = train(config)
    rows = read_journal(run.events_file)
    assert rows[0]["event"] == "started" and rows[-1]["event"] == "finished"
    assert rows[0]["parameters"] == count_parameters(config.model, rows[0]["vocab_size"])
    assert rows[0]["corpus_characters"] == 3000
    assert run.state() is RunState.FINISHED


# ── resuming ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("stop_at", [0, 10, 15, 20, 30])
def test_resumed_from_any_checkpoint_is_the_run_never_interrupted(
    tmp_path: Path, corpus: Path, stop_at: int, precision: str
) -> None:
    """Guards every piece of state: weights, moments, dropout's generator, batch position, sums between two rows.

    Evaluations at 15 and 30 save besides, in the middle of a logging interval.
    """
    device = {"precision": precision}
    changes = {"keep_checkpoints": 100}
    whole = train(tiny_config(corpus, tmp_path / "whole", device=device, train=changes))
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    kept = [checkpoint for checkpoint in cut.checkpoints() if checkpoint.step <= stop_at]
    assert kept[-1].step == stop_at
    for checkpoint in cut.checkpoints():
        if checkpoint.step > stop_at:
            shutil.rmtree(checkpoint.path)
    resume(cut)
    assert_same_run(whole, cut)
    assert events(cut, "started")[-1]["resumed_from"] == stop_at
    assert Metrics(cut.metrics_file).read_all().series("val_loss")[0].tolist() == [0, 15, 30, 40]
    assert cut.checkpoint("best").step == whole.checkpoint("best").step


def test_killed_before_the_first_checkpoint_it_begins_again(tmp_path: Path, corpus: Path) -> None:
    whole = train(tiny_config(corpus, tmp_path / "whole"))
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    shutil.rmtree(cut.checkpoints_dir)
    cut.checkpoints_dir.mkdir()
    resume(cut)
    assert_same_run(whole, cut)
    assert Metrics(cut.metrics_file).read_all().series("train_loss")[0].tolist()[:2] == [4, 8]


def test_elapsed_goes_on_where_it_was(tmp_path: Path, corpus: Path) -> None:
    run = train(tiny_config(corpus, tmp_path / "run", train={"keep_checkpoints": 100}))
    first = {row["step"]: row["elapsed"] for row in read_journal(run.metrics_file)}
    for checkpoint in run.checkpoints():
        if checkpoint.step > 20:
            shutil.rmtree(checkpoint.path)
    resume(run)
    again = {row["step"]: row["elapsed"] for row in read_journal(run.metrics_file) if row["attempt"] == 2}
    assert again[24] > first[20]


def test_a_changed_corpus_is_refused(tmp_path: Path, corpus: Path) -> None:
    run = train(tiny_config(corpus, tmp_path / "run"))
    shutil.rmtree(run.checkpoint("last").path)
    corpus.write_text("tide " + corpus.read_text()[5:])
    with pytest.raises(UserError, match="not the text any more"):
        resume(run)


def test_a_finished_run_is_not_resumed(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(UserError, match="has finished already"):
        resume(train(tiny_config(corpus, tmp_path / "run")))


@pytest.mark.parametrize("asked", ["by its process", "by a viewer"])
def test_stopped_in_an_evaluation_and_resumed_it_is_the_run_never_interrupted(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """The row that is still to be written tells of the step before: its learning rate came out as 0."""
    whole = train(tiny_config(corpus, tmp_path / "whole"))

    def stop(trainer: Trainer) -> None:
        if asked == "by a viewer":
            send_command(trainer.run.commands_dir, "stop")
        else:
            trainer._inbox.stop.set()

    with monkeypatch.context() as patch:
        patch.setattr("minigpt.inbox.POLL_INTERVAL", 0.0)
        in_evaluation(patch, 15, stop)
        run = train(tiny_config(corpus, tmp_path / "run"))
    assert run.state() is RunState.STOPPED and run.checkpoint("last").step == 15
    assert 15 not in rows_by_step(run), "the evaluation was not broken off"
    assert_same_run(whole, resume(run))


def test_without_its_events_a_resumed_run_is_still_a_new_attempt(tmp_path: Path, corpus: Path) -> None:
    """Readers pass over the rows of an attempt that is over: all that was trained after the loss was invisible."""
    run = train(tiny_config(corpus, tmp_path / "run"))
    shutil.rmtree(run.checkpoint("last").path)
    resume(run)
    run.events_file.unlink()
    finish(TrainingSession(resume=run, changes={"train.max_steps": "44"}))
    assert [row["attempt"] for row in events(run, "started")] == [3]
    assert Metrics(run.metrics_file).read_all().last["step"] == 44
    run.events_file.unlink()
    run.metrics_file.unlink()
    finish(TrainingSession(resume=run, changes={"train.max_steps": "48"}))
    assert [row["attempt"] for row in events(run, "started")] == [4]


def test_a_crash_is_told_by_the_next_attempt_once(tmp_path: Path, corpus: Path) -> None:
    """Who is killed cannot say so: without this the log of a run did not tell that it had ever been."""
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert events(run, "crashed") == []
    whole = run.events_file.read_text()
    shutil.rmtree(run.checkpoint("40").path)
    cut = [line for line in whole.splitlines(keepends=True) if json.loads(line)["step"] <= 30]
    run.events_file.write_text("".join(cut))
    resume(run)
    rows = read_journal(run.events_file)[len(cut) :]
    assert [row["event"] for row in rows[:2]] == ["crashed", "started"]
    # The rows had come further than the events.
    assert (rows[0]["step"], rows[0]["attempt"]) == (40, 1) and rows[1]["attempt"] == 2
    assert "ended without a word; it had come to step 40" in rows[0]["message"]
    assert run.state() is RunState.FINISHED
    finish(TrainingSession(resume=run, changes={"train.max_steps": "44"}))
    assert len(events(run, "crashed")) == 1, "an attempt that has told its end has not crashed"
    # Killed when it had only just said so.
    run.events_file.write_text("".join(cut) + json.dumps(rows[0]) + "\n")
    assert run.state() is RunState.CRASHED
    finish(TrainingSession(resume=run, changes={"train.max_steps": "48"}))
    assert events(run, "crashed") == [rows[0]]


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────


def started(config: Config) -> tuple[TrainingSession, RunDirectory]:
    session = TrainingSession(config=config, preset="test")
    session.start()
    wait_for(lambda: session.run_directory is not None or session.error)
    assert session.run_directory is not None, session.error
    return session, session.run_directory


def test_commands_are_taken_in_order_and_answered_and_change_nothing(tmp_path: Path, corpus: Path) -> None:
    """Guards determinism too: pausing, saving and sampling at odd moments leave the run what it would have been."""
    undisturbed = train(tiny_config(corpus, tmp_path / "one", train={"max_steps": 400, "checkpoint_interval": 200}))
    session, run = started(tiny_config(corpus, tmp_path / "two", train={"max_steps": 400, "checkpoint_interval": 200}))
    pause = send_command(run.commands_dir, "pause")
    wait_for(lambda: events(run, "paused"))
    assert run.state() is RunState.PAUSED
    at = events(run, "paused")[0]["step"]
    assert at < 400, "the run ended before it could be paused"
    save, sample = send_command(run.commands_dir, "save"), send_command(run.commands_dir, "sample")
    wait_for(lambda: any(row.get("command") == sample for row in events(run, "sampled")))
    assert any(row.get("command") == save and row["step"] == at for row in events(run, "saved"))
    assert run.checkpoint("last").step == at
    time.sleep(0.2)
    assert read_journal(run.events_file)[-1]["step"] == at, "training went on while paused"
    go_on = send_command(run.commands_dir, "resume")
    finish_thread(session)
    assert events(run, "paused")[0]["command"] == pause
    assert events(run, "continued")[0]["command"] == go_on
    assert rows_by_step(run) == rows_by_step(undisturbed)
    ours, theirs = run.checkpoint("last").path, undisturbed.checkpoint("last").path
    assert (ours / "training.safetensors").read_bytes() == (theirs / "training.safetensors").read_bytes()


def finish_thread(session: TrainingSession) -> None:
    session.join(60)
    assert not session.is_alive()
    assert session.error is None


def test_stopped_by_command_it_saves_and_says_so(tmp_path: Path, corpus: Path) -> None:
    config = tiny_config(corpus, tmp_path / "run", train={"max_steps": 100_000, "checkpoint_interval": 100_000})
    session, run = started(config)
    wait_for(lambda: len(read_journal(run.metrics_file)) > 3)
    send_command(run.commands_dir, "stop")
    finish_thread(session)
    assert session.outcome == "stopped"
    assert run.state() is RunState.STOPPED
    assert run.checkpoint("last").step == events(run, "stopped")[0]["step"]


def test_stopped_while_paused(tmp_path: Path, corpus: Path) -> None:
    session, run = started(tiny_config(corpus, tmp_path / "run", train={"max_steps": 100_000}))
    send_command(run.commands_dir, "pause")
    wait_for(lambda: events(run, "paused"))
    session.request_stop()
    finish_thread(session)
    assert run.state() is RunState.STOPPED


def test_each_of_two_who_stop_it_is_answered(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both in one look into commands/: the first was forgotten, and its viewer said that nobody answers."""
    asked: list[str] = []

    def stop(trainer: Trainer) -> None:
        if trainer.counters.step == 10 and not asked:
            asked.extend(send_command(trainer.run.commands_dir, "stop") for _ in range(2))
        step(trainer)

    step = Trainer._step
    monkeypatch.setattr("minigpt.inbox.POLL_INTERVAL", 0.0)
    monkeypatch.setattr(Trainer, "_step", stop)
    run = train(tiny_config(corpus, tmp_path / "run"))
    assert run.state() is RunState.STOPPED
    assert [row["command"] for row in events(run, "stopped") + events(run, "notice")] == asked


def test_waiting_for_room_in_the_end_it_still_obeys(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that stays full nobody could end it but with a signal."""
    write = saving.write_checkpoint

    def full_at_the_end(run: RunDirectory, snapshot: Snapshot) -> Checkpoint:
        if snapshot.step == 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(run, snapshot)

    monkeypatch.setattr(saving, "write_checkpoint", full_at_the_end)
    monkeypatch.setattr("minigpt.ending.RETRY_INTERVAL", 0.05)
    session, run = started(tiny_config(corpus, tmp_path / "run"))
    wait_for(lambda: session.trouble)
    pause, sample = (send_command(run.commands_dir, name) for name in ("pause", "sample"))
    wait_for(lambda: any(row.get("command") == sample for row in events(run, "sampled")))
    assert any(row.get("command") == pause for row in events(run, "notice")) and not events(run, "paused")
    send_command(run.commands_dir, "stop")
    session.join(20)
    assert not session.is_alive() and "step 40 could not be saved" in str(session.error)


def test_that_it_has_finished_is_not_lost_on_a_full_disk(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint took the last of the room: without that word the run seemed to have crashed."""
    full = threading.Event()
    full.set()
    write = os.write

    def refusing(descriptor: int, data: bytes) -> int:
        if full.is_set() and b'"event": "finished"' in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refusing)
    monkeypatch.setattr("minigpt.ending.RETRY_INTERVAL", 0.05)
    session, run = started(tiny_config(corpus, tmp_path / "run"))
    wait_for(lambda: session.trouble or not session.is_alive())
    assert session.is_alive() and "No space left" in session.trouble
    full.clear()
    finish_thread(session)
    assert run.state() is RunState.FINISHED and session.outcome == "finished"


def test_a_pause_counts_neither_as_time_nor_into_the_throughput(tmp_path: Path, corpus: Path) -> None:
    session, run = started(tiny_config(corpus, tmp_path / "run", train={"max_steps": 10**6, "eval_interval": 10**6}))
    wait_for(lambda: len(read_journal(run.metrics_file)) > 20)
    send_command(run.commands_dir, "pause")
    wait_for(lambda: events(run, "paused"))
    at = events(run, "paused")[0]["step"]
    time.sleep(1.5)
    send_command(run.commands_dir, "resume")
    wait_for(lambda: read_journal(run.metrics_file)[-1]["step"] > at)
    session.request_stop()
    finish_thread(session)
    rows = [row for row in read_journal(run.metrics_file) if "tokens_per_second" in row]
    before = [row for row in rows if row["step"] <= at][-1]
    after = next(row for row in rows if row["step"] > at)
    assert after["elapsed"] - before["elapsed"] < 1.0
    assert 4 * 4 * 16 / after["tokens_per_second"] < 1.0


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_crash_is_kept_and_explained(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Trainer) -> None:
        raise RuntimeError("[bold]boom")

    monkeypatch.setattr(Trainer, "_step", broken)
    session = TrainingSession(config=tiny_config(corpus, tmp_path / "run"), preset="test")
    session.start()
    session.join()
    assert isinstance(session.error, RuntimeError) and session.outcome is None
    run = RunDirectory(tmp_path / "run")
    assert "boom" in run.console_file.read_text() and "Traceback" in run.console_file.read_text()
    assert events(run, "failed")[0]["message"] == "[bold]boom"


def test_an_error_that_is_shown_does_not_keep_the_model(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen keeps the error; its frames, and those of the error that it came from, kept the device's memory."""
    models: list[weakref.ref[GPT]] = []

    def broken(trainer: Trainer) -> None:
        models.append(weakref.ref(trainer.learner.model))
        try:
            raise ValueError("the cause")
        except ValueError as error:
            raise UserError("the reason") from error

    monkeypatch.setattr(Trainer, "_step", broken)
    session = TrainingSession(config=tiny_config(corpus, tmp_path / "run"), preset="test")
    session.start()
    session.join()
    gc.collect()
    assert str(session.error) == "the reason" and models[0]() is None


def test_it_ends_when_another_process_trains_its_run(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has removed the lock, and another trainer has begun: the two would write into one run for ever."""
    monkeypatch.setattr("minigpt.trainer._LOCK_INTERVAL", 0.05)
    changes = {"max_steps": 10**6, "eval_interval": 10**6, "checkpoint_interval": 10**6}
    session, run = started(tiny_config(corpus, tmp_path / "run", train=changes))
    wait_for(lambda: session.steps_done)
    other = tmp_path / "lock"
    with other.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other.replace(run.lock_file)
        session.join(20)
        ended = not session.is_alive()
    session.request_stop()
    session.join()
    assert ended and isinstance(session.error, UserError) and "being trained by another process" in str(session.error)
    assert not events(run, "failed"), "that would be the other one's last word"


def test_nothing_is_made_when_the_corpus_is_unusable(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(UserError, match="too short"):
        train(tiny_config(short, tmp_path / "run", sample={"prompt": "to"}))
    assert not (tmp_path / "run").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short.txt"]


def test_commands_for_the_attempt_that_was_killed_are_not_obeyed_by_the_next(tmp_path: Path, corpus: Path) -> None:
    """Guards an overnight resumption against a stale `stop`, or a `pause` that nobody would end."""
    whole = train(tiny_config(corpus, tmp_path / "run", train={"keep_checkpoints": 100}))
    for checkpoint in whole.checkpoints():
        if checkpoint.step > 20:
            shutil.rmtree(checkpoint.path)
    send_command(whole.commands_dir, "pause")
    send_command(whole.commands_dir, "stop")
    resume(whole)
    assert whole.state() is RunState.FINISHED


def test_a_damaged_newest_checkpoint_is_put_aside_for_the_one_before(tmp_path: Path, corpus: Path) -> None:
    """Guards against a run that one bad sector makes unresumable; the steps are done again, the same."""
    whole = train(tiny_config(corpus, tmp_path / "whole", train={"keep_checkpoints": 100}))
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    for checkpoint in cut.checkpoints():
        if checkpoint.step > 30:
            shutil.rmtree(checkpoint.path)
    weights = cut.checkpoint("last").path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    resume(cut)
    assert_same_run(whole, cut)
    assert events(cut, "started")[-1]["resumed_from"] == 20
    assert "is damaged" in events(cut, "notice")[0]["message"]


def test_when_every_checkpoint_is_damaged_the_run_is_refused_not_started_over(tmp_path: Path, corpus: Path) -> None:
    run = train(tiny_config(corpus, tmp_path / "run", train={"max_steps": 8}))
    shutil.rmtree(run.checkpoint("last").path)
    for checkpoint in run.checkpoints():
        (checkpoint.path / "checkpoint.json").write_text("{}")
    rows = run.metrics_file.read_bytes()
    with pytest.raises(UserError, match="is damaged"):
        resume(run)
    assert run.metrics_file.read_bytes() == rows


def test_the_threads_of_one_run_do_not_leak_into_the_next(tmp_path: Path, corpus: Path) -> None:
    """torch's number of threads is the process's: a run that asked for one must not leave the next one with one."""
    default = train(tiny_config(corpus, tmp_path / "a", device={"threads": 0}, train={"max_steps": 1}))
    train(tiny_config(corpus, tmp_path / "b", device={"threads": 1}, train={"max_steps": 1}))
    again = train(tiny_config(corpus, tmp_path / "c", device={"threads": 0}, train={"max_steps": 1}))
    assert events(again, "started")[0]["threads"] == events(default, "started")[0]["threads"]


def test_what_auto_came_to_is_written_down(tmp_path: Path, corpus: Path) -> None:
    """A resumption in another environment must not choose another device, precision or number of threads."""
    config = tiny_config(corpus, tmp_path / "a", device={"type": "auto", "threads": 0}, train={"max_steps": 1})
    device = train(config).config().device
    assert device.type != "auto" and device.precision != "auto" and device.threads > 0


def test_saving_while_paused_leaves_time_and_throughput_right(tmp_path: Path, corpus: Path) -> None:
    """Guards against counting the save twice, which once gave a throughput of 160 billion tokens a second."""
    session, run = started(tiny_config(corpus, tmp_path / "run", train={"max_steps": 10**6, "eval_interval": 10**6}))
    wait_for(lambda: len(read_journal(run.metrics_file)) > 10)
    send_command(run.commands_dir, "pause")
    wait_for(lambda: events(run, "paused"))
    at = events(run, "paused")[0]["step"]
    time.sleep(1.0)
    for _ in range(3):
        identity = send_command(run.commands_dir, "sample")
        wait_for(lambda asked=identity: any(row.get("command") == asked for row in events(run, "sampled")))
    send_command(run.commands_dir, "save")
    wait_for(lambda: any(row["step"] == at for row in events(run, "saved")))
    before = [row for row in read_journal(run.metrics_file) if row["step"] <= at][-1]
    assert run.checkpoint(str(at)).info()["elapsed"] < before["elapsed"] + 0.9
    send_command(run.commands_dir, "resume")
    wait_for(lambda: read_journal(run.metrics_file)[-1]["step"] > at)
    session.request_stop()
    finish_thread(session)
    rates = [row["tokens_per_second"] for row in read_journal(run.metrics_file) if row["step"] > 0]
    after = next(row for row in read_journal(run.metrics_file) if row["step"] > at)
    assert after["tokens_per_second"] < 20 * sorted(rates)[len(rates) // 2]


def test_a_gradient_that_overflows_in_fp16_does_not_end_the_run(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaler tries large scales on purpose; that update is left out, and its norm is a gap in the row."""
    step = Trainer._step

    def overflowing(self: Trainer) -> None:
        hooks = []
        if self.counters.step == 6:
            weight = self.learner.model.wte.weight
            hooks.append(weight.register_hook(lambda grad: torch.full_like(grad, float("inf"))))
        step(self)
        for hook in hooks:
            hook.remove()

    monkeypatch.setattr(Trainer, "_step", overflowing)
    settings = {"max_steps": 12, "log_interval": 1, "checkpoint_interval": 7}
    run = train(tiny_config(corpus, tmp_path / "run", device={"precision": "fp16", "threads": 1}, train=settings))
    norms = {row["step"]: row["grad_norm"] for row in read_journal(run.metrics_file) if "grad_norm" in row}
    assert norms[7] is None
    assert all(norms[step] > 0 for step in (6, 8, 12))
    assert run.state() is RunState.FINISHED
