"""Kills a small training with SIGKILL again and again, and looks each time at what is left: `python -m tests.killing`.

A process that has imported torch and has no threads forks children, each of which goes on with the run until it is
killed: after a random time, or, so that the middle of a checkpoint and of a row are really hit, at a random operation on
a file, before, after or in the middle of it. The trainings must end as one that nobody disturbed, bit for bit.
"""

import argparse
import io
import json
import math
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch._dynamo  # noqa: F401 - the first optimizer imports it, which takes a second: once here instead of in each child

import minigpt.checkpoint as checkpoints
from minigpt.checkpoint import load_for_generation, read_training_state
from minigpt.config import Config
from minigpt.journal import read_journal
from minigpt.metrics import Metrics
from minigpt.rundir import RunDirectory, RunState
from minigpt.session import TrainingSession
from tests.training import EXEMPT, tiny_config, write_corpus

KEEP, KEEP_EVERY, INTERVAL = 2, 4, 8
_ALL_KEPT = 10_000
_BY_TIME = "any moment"
# What a child dies of, and how often: of each kind there are as many kills as it says, in proportion.
_CAN_BE_HALF = {"write", "save_file", "write of a new file"}
_KINDS = {_BY_TIME: 3, "write": 4, "save_file": 3, "write of a new file": 3, "rename": 3, "replace": 2, "fsync": 2}


def configuration(folder: Path, name: str, keep: int = KEEP) -> Config:
    """A run with rows, evaluations, samples and checkpoints at steps of their own, so that all orders come up."""
    return tiny_config(
        folder / "corpus.txt",
        folder / name,
        train={
            "max_steps": 120,
            "log_interval": 3,
            "eval_interval": 20,
            "checkpoint_interval": INTERVAL,
            "keep_checkpoints": keep,
            "keep_every": KEEP_EVERY,
        },
        sample={"interval": 25, "max_new_tokens": 10},
        device={"threads": 1},
    )


class Operations:
    """Counts what this process does to files, and ends it at the given one: `(name, which, part)`."""

    def __init__(self, deadly: tuple[str, int, str] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._deadly = deadly
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Stand in front of the functions with which a training writes. Never undone: for a forked child."""
        for name in ("write", "fsync", "ftruncate", "rename", "replace", "mkdir", "rmdir", "unlink"):
            setattr(os, name, self._watched(name, getattr(os, name), _half_of_a_write if name == "write" else None))
        checkpoints.save_file = self._watched("save_file", checkpoints.save_file, _half_of_a_file)
        write_a_file = self._watched("write of a new file", io.FileIO.write, _half_of_a_write)

        class NewFile(io.FileIO):
            def write(self, data: Any) -> int:
                return write_a_file(self, data)

        open_path = Path.open

        def open_watched(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            return io.BufferedWriter(NewFile(path, mode)) if mode == "xb" else open_path(path, mode, *rest, **options)

        Path.open = open_watched  # type: ignore[assignment,method-assign]

    def _watched(self, name: str, function: Callable[..., Any], half: Callable[..., None] | None) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.counts[name] += 1
                part = self._deadly[2] if self._deadly and self._deadly[:2] == (name, self.counts[name]) else ""
            if part == "in the middle of" and half is not None:
                half(function, *arguments, **options)
            if part in {"before", "in the middle of"}:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if part == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return operation


def _half_of_a_write(write: Callable[..., int], file: Any, data: Any) -> None:
    write(file, bytes(data)[: len(data) // 2])


def _half_of_a_file(save: Callable[..., None], tensors: Any, path: Path, **options: Any) -> None:
    save(tensors, path, **options)
    os.truncate(path, path.stat().st_size // 2)


# ── children ──────────────────────────────────────────────────────────────────────────────────────────────────────


def fork(work: Callable[[], None]) -> int:
    """Do something in a child, which ends with 0, or with 1 and a traceback; its process id."""
    assert psutil.Process().num_threads() == 1, "a process with threads must not fork once torch is there"
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it was, a forked child must not go on as its parent
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def ended(pid: int) -> int:
    """How a child came to its end: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def trained(config: Config, operations: Operations, slowness: float = 0.0) -> None:
    """Begin the run or go on with it, in the main thread; checkpoints take so many seconds longer to write."""
    if slowness:
        save = checkpoints.save_file

        def save_slowly(*arguments: Any, **options: Any) -> None:
            time.sleep(slowness)
            save(*arguments, **options)

        checkpoints.save_file = save_slowly
    operations.watch()
    assert config.run.dir is not None
    run = RunDirectory(Path(config.run.dir))
    session = TrainingSession(resume=run) if run.path.exists() else TrainingSession(config=config, preset="test")
    session.run()
    if session.error is not None:
        raise session.error
    assert session.outcome == "finished"


# ── what must be there ────────────────────────────────────────────────────────────────────────────────────────────


def _attempts(run: RunDirectory, event: str) -> list[int]:
    return [row["attempt"] for row in read_journal(run.events_file) if row["event"] == event]


class Undisturbed:
    """What every run has to come to: a run that kept all of its checkpoints, and nobody killed."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.metrics = Metrics(run.metrics_file).read_all()
        self.samples = {row["step"]: row["text"] for row in read_journal(run.samples_file)}
        self.steps = [checkpoint.step for checkpoint in run.checkpoints()]
        self.losses = dict(zip(*(column.tolist() for column in self.metrics.series("val_loss")), strict=True))

    def best_at(self, step: int) -> int | None:
        """Which step was the best one up to then; None before the first."""
        return min(((loss, at) for at, loss in self.losses.items() if at <= step), default=(0.0, None))[1]

    def kept_at(self, step: int) -> set[int | None]:
        """The checkpoints that the rule leaves once there is that of `step`."""
        there = [at for at in self.steps if at <= step]
        looking_back = {at for at in there if at % (KEEP_EVERY * INTERVAL) == 0}
        return {*there[-KEEP:], self.best_at(step), *looking_back}

    def assert_whole(self, run: RunDirectory, last_before: int) -> None:
        """After a kill: nothing is lost, torn, missing or double, and all that is there is what it should be."""
        there = run.checkpoints()
        last = there[-1].step if there else -1
        assert last >= last_before, f"the checkpoint of step {last_before} was there, and the newest is now {last}"
        for checkpoint in there:
            model, _ = load_for_generation(run, checkpoint)
            read_training_state(checkpoint, model)
            expected = self.run.checkpoint(str(checkpoint.step)).path
            for name in ("model.safetensors", "training.safetensors"):
                same = (checkpoint.path / name).read_bytes() == (expected / name).read_bytes()
                assert same, f"{name} of step {checkpoint.step} is another"
        if there:
            missing = self.kept_at(last) - {checkpoint.step for checkpoint in there}
            assert not missing, f"of the checkpoints those of {sorted(missing)} are missing"
            best, bests = run.best_step(), {self.best_at(last)}
            if last in bests:  # killed before it was called the best
                bests.add(self.best_at(last - 1))
            assert best in bests, f"best is {best}, not {bests}"
        self.assert_metrics(run, last)
        assert run.state() in {RunState.CRASHED, RunState.FINISHED}

    def assert_metrics(self, run: RunDirectory, last: int) -> None:
        """Each step is there once for the reader, at least up to the step of the newest checkpoint."""
        metrics = Metrics(run.metrics_file).read_all()
        reached = metrics.last.get("step", -1)
        rows = [step for step in self.metrics.series("tokens")[0].tolist() if step <= max(reached, last)]
        assert metrics.series("tokens")[0].tolist() == rows, "a step is missing or double"
        for name in set(self.metrics.names()) - EXEMPT:
            steps, values = (column.tolist() for column in self.metrics.series(name))
            expected = [pair for pair in zip(steps, values, strict=True) if pair[0] <= reached]
            found = list(zip(*(column.tolist() for column in metrics.series(name)), strict=True))
            assert repr(found) == repr(expected), f"{name} has other values"  # as text: nan equals nan
        samples: dict[int, set[str]] = {}
        for row in read_journal(run.samples_file):
            samples.setdefault(row["step"], set()).add(row["text"])
        assert all(texts == {self.samples[step]} for step, texts in samples.items()), "another sample"
        assert all(step in samples for step in self.samples if step <= last), "a sample is missing"

    def assert_same(self, run: RunDirectory) -> None:
        """At its end a run has all that this one has, bit for bit, and nothing else lies about."""
        self.assert_whole(run, self.steps[-1])
        assert run.state() is RunState.FINISHED
        assert Metrics(run.metrics_file).read_all().last["step"] == self.steps[-1]
        kept, expected = {checkpoint.step for checkpoint in run.checkpoints()}, self.kept_at(self.steps[-1])
        assert kept == expected, f"{sorted(kept)} are kept, not {sorted(expected)}"
        assert run.best_step() == self.best_at(self.steps[-1]), f"best is {run.best_step()}"
        assert run.epochs_file.read_bytes() == self.run.epochs_file.read_bytes()
        begun, crashed = (_attempts(run, name) for name in ("started", "crashed"))
        assert crashed == begun[:-1], f"attempts {begun} began, and {crashed} are said to have crashed"
        rubbish = [path.name for path in run.checkpoints_dir.rglob("*.tmp")]
        assert not rubbish, f"left behind: {rubbish}"


# ── killing ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Campaign:
    """Kills until it has been so often, run after run, and counts what the kills have left."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder = folder
        self.kills = kills
        self.random = random.Random(seed)
        self.done = 0
        self.runs = 0
        self.hit: Counter[str] = Counter()
        self.left: Counter[str] = Counter()

    def run(self) -> None:
        """Raises AssertionError, after the child's traceback, when a kill has broken something."""
        write_corpus(self.folder / "corpus.txt")
        reference = configuration(self.folder, "undisturbed", _ALL_KEPT)
        assert ended(fork(lambda: trained(reference, Operations()))) == 0
        self._undisturbed = Undisturbed(RunDirectory(self.folder / "undisturbed"))
        began = time.monotonic()
        assert ended(fork(self._count)) == 0
        self._seconds = time.monotonic() - began
        self._counts: dict[str, int] = json.loads((self.folder / "counts.json").read_text())
        while self.done < self.kills:
            self._one_run()

    def _count(self) -> None:
        operations = Operations()
        trained(configuration(self.folder, "counted"), operations)
        self._undisturbed.assert_same(RunDirectory(self.folder / "counted"))
        (self.folder / "counts.json").write_text(json.dumps(operations.counts))

    def _one_run(self) -> None:
        self.runs += 1
        config = configuration(self.folder, f"run-{self.runs}")
        run = RunDirectory(self.folder / f"run-{self.runs}")
        last = -1
        while True:
            how, deadly, seconds = self._choose()
            if self.done >= self.kills:
                how, deadly, seconds = "", None, math.inf
            slowness = self.random.choice([0.0, 0.0, 0.03])
            pid = fork(lambda: trained(config, Operations(deadly), slowness))  # noqa: B023 - called at once
            if seconds < math.inf:
                time.sleep(seconds)
                os.kill(pid, signal.SIGKILL)
            status = ended(pid)
            if status == 0:
                break
            assert status == -signal.SIGKILL, f"run {self.runs} could not go on after {self.done} kills"
            self.done += 1
            self.hit[how] += 1
            if run.path.exists():
                self._look_at(run)
                check = ended(fork(lambda: self._undisturbed.assert_whole(run, last)))  # noqa: B023 - called at once
                assert check == 0, f"{run.path}: kill {self.done} ({how}) has broken it"
                last = max((checkpoint.step for checkpoint in run.checkpoints()), default=-1)
                if run.state() is RunState.FINISHED:  # killed with its last breath
                    break
        assert ended(fork(lambda: self._undisturbed.assert_same(run))) == 0, f"{run.path}: ends as another run"

    def _choose(self) -> tuple[str, tuple[str, int, str] | None, float]:
        """What the next child dies of, in words; its deadly operation; after how many seconds it is killed."""
        kinds = [_BY_TIME, *self._counts]
        (name,) = self.random.choices(kinds, [_KINDS.get(kind, 1) for kind in kinds])
        if name == _BY_TIME:
            return name, None, self.random.uniform(0, 0.7 * self._seconds)
        # In half of a run's operations, so that there are several kills to a run.
        which = self.random.randint(1, max(1, math.ceil(self._counts[name] / 2)))
        parts = ["before", "after", *(["in the middle of"] * 2 if name in _CAN_BE_HALF else [])]
        part = self.random.choice(parts)
        return f"{part} {name}", (name, which, part), math.inf

    def _look_at(self, run: RunDirectory) -> None:
        self.left["a torn row"] += any(
            path.exists() and not (path.read_bytes() or b"\n").endswith(b"\n")
            for path in (run.metrics_file, run.events_file, run.samples_file)
        )
        unfinished = [int(path.name.split("-")[1].split(".")[0]) for path in run.checkpoints_dir.glob(".step-*.tmp")]
        reached = max((row["step"] for row in read_journal(run.metrics_file)), default=0)
        self.left["a half-written or half-removed checkpoint"] += bool(unfinished)
        newest = max((checkpoint.step for checkpoint in run.checkpoints()), default=-1)
        self.left["a checkpoint unfinished while later steps were trained"] += any(
            newest < step < reached for step in unfinished
        )


def main() -> int:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="chosen and printed if not given")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    began = time.monotonic()
    print(f"{options.kills} kills, seed {seed}, {os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    folder = Path(tempfile.mkdtemp(prefix="minigpt-killing-"))
    campaign = Campaign(folder, options.kills, seed)
    try:
        campaign.run()
    finally:
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        print(f"{campaign.done} kills of {campaign.runs} runs in {minutes} min {seconds} s")
        for title, counter in (("hit", campaign.hit), ("left", campaign.left)):
            for words, count in sorted(counter.items(), key=lambda pair: -pair[1]):
                print(f"  {title} {count:4} × {words}")
    print("no checkpoint lost, no step missing or double, every end equal bit for bit to the undisturbed run's")
    import shutil

    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
