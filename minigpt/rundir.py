"""The run directory: the one place that knows its layout, its lock and how a run's state is told from them."""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from minigpt.errors import UserError
from minigpt.files import read_json, sync_path, write_atomically
from minigpt.inert import inert_line
from minigpt.journal import Row, count_in, journal_rows
from minigpt.paths import expand_home, runs_dir
from minigpt.run_name import new_run_name

if TYPE_CHECKING:
    from minigpt.config import Config
    from minigpt.tokenizer import Tokenizer

_CHECKPOINT_NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,11})")


class RunState(StrEnum):
    """What a run is doing, told from its lock (held means alive) and its last events."""

    TRAINING = "training"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    CRASHED = "crashed"


@dataclass(frozen=True, order=True)
class Checkpoint:
    """One complete checkpoint directory."""

    step: int
    path: Path

    def info(self) -> dict[str, Any]:
        """Its checkpoint.json: step, val_loss (null without an evaluation there) and more; empty if unreadable."""
        return read_json(self.path / "checkpoint.json")


class HeldByAnotherError(UserError):
    """Another process trains the run."""


@dataclass
class RunLock:
    """The lock on a run, held by this process until its descriptor is closed in every process that inherited it."""

    path: Path
    descriptor: int

    def is_in_place(self) -> bool:
        """Whether the file that is locked still lies under its path."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def sign(self) -> None:
        """Write who holds it, for people: whether it is held is never told from this."""
        with suppress(OSError):  # such as a full disk
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)


class RunDirectory:
    """One run's directory. Anybody may read; only the process that holds the lock trains and writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.toml"
        self.tokenizer_file = path / "tokenizer.json"
        self.metrics_file = path / "metrics.jsonl"
        self.events_file = path / "events.jsonl"
        self.samples_file = path / "samples.jsonl"
        self.epochs_file = path / "epochs.csv"
        self.checkpoints_dir = path / "checkpoints"
        self.best_file = path / "checkpoints" / "best.json"
        self.commands_dir = path / "commands"
        self.chat_dir = path / "chat"
        self.evaluations_dir = path / "evaluations"
        self.lock_file = path / "lock"
        self.console_file = path / "console.log"
        self.notes_file = path / "notes.txt"

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """The run at `path`, or of that name among the runs. Raises UserError if there is none."""
        given = expand_home(path)
        candidates = [given] if given.is_absolute() else [given, runs_dir() / given]
        shown = inert_line(str(path))
        try:
            for candidate in candidates:
                if (candidate / "config.toml").is_file():
                    return cls(candidate.absolute())
            if any(candidate.is_dir() for candidate in candidates):
                raise UserError(f"{shown}: is a directory, but holds no run (there is no config.toml in it)")
            if any(candidate.exists() for candidate in candidates):
                raise UserError(f"{shown}: is a file, where the directory of a run is needed")
        except OSError as error:
            raise UserError(f"{shown}: cannot be read: {error.strerror}") from None
        raise UserError(f"{shown}: no such run; `minigpt runs` lists those in {inert_line(str(runs_dir()))}")

    @classmethod
    def create(cls, config: "Config", preset: str, tokenizer: "Tokenizer") -> "RunDirectory":
        """Make the directory of a new run, complete up to its configuration and vocabulary, or nothing at all.

        Raises UserError if it exists already or cannot be made: no existing directory is ever started over.
        """
        from minigpt.tokenizer import save_tokenizer

        path = Path(config.run.dir or runs_dir() / (config.run.name or new_run_name(preset))).absolute()
        while not (config.run.dir or config.run.name) and os.path.lexists(path):
            path = path.with_name(new_run_name(preset))
        if os.path.lexists(path):
            raise UserError(
                f"{inert_line(str(path))}: exists already, and no run is ever started over. "
                f"Go on with it by `minigpt train --resume {quote(inert_line(str(path)))}`, or choose another "
                "--run.dir."
            )
        building = path.with_name(f".{path.name}.{os.urandom(4).hex()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            building.mkdir(mode=0o700)
            for directory in ("checkpoints", "commands", "chat"):
                (building / directory).mkdir(mode=0o700)
            write_atomically(building / "config.toml", config.to_toml())
            save_tokenizer(tokenizer, building / "tokenizer.json")
            building.rename(path)
            sync_path(path.parent)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
            reason = "a file is in its way" if in_the_way else error.strerror
            raise UserError(
                f"{inert_line(str(path))}: cannot make the directory of the run: {reason}. "
                "Choose a writable place with --run.dir or MINIGPT_RUNS_DIR."
            ) from None
        return cls(path)

    def make_again(self, config: "Config", tokenizer: "Tokenizer", lock: "RunLock") -> None:
        """Put back what has vanished of a run that is being trained: the directory, its lock, what it began with.

        Raises OSError, and HeldByAnotherError. What somebody has put in its place is left alone; the lock's holder
        must have made sure of that.
        """
        from minigpt.tokenizer import save_tokenizer

        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not lock.is_in_place():
            try:
                descriptor = self._take_lock()
            except HeldByAnotherError:
                raise
            except UserError as error:
                raise OSError(errno.EBUSY, str(error)) from None
            os.close(lock.descriptor)
            lock.descriptor = descriptor
            lock.sign()
        if not self.config_file.exists():
            write_atomically(self.config_file, config.to_toml())
        if not self.tokenizer_file.exists():
            save_tokenizer(tokenizer, self.tokenizer_file)
        # checkpoints/ comes last: while it is missing this is done again.
        for directory in (self.commands_dir, self.chat_dir, self.checkpoints_dir):
            directory.mkdir(mode=0o700, exist_ok=True)

    def config(self) -> "Config":
        """The run's own configuration. Raises UserError if its file is damaged."""
        from minigpt.configfile import read_run_config

        return read_run_config(self.config_file)

    # ── the lock ──────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def locked(self, descriptor: int | None = None) -> Iterator["RunLock"]:
        """Hold the run for training: with a new lock, or with the one that `descriptor` inherited.

        Raises HeldByAnotherError while another process does, and UserError if it cannot be locked.
        """
        lock = RunLock(self.lock_file, self._take_lock() if descriptor is None else descriptor)
        try:
            lock.sign()
            yield lock
        finally:
            os.close(lock.descriptor)

    def _take_lock(self) -> int:
        from minigpt.securing import secure

        secure(self)
        deadline = time.monotonic() + 1.0
        while True:
            # Not inheritable: a child process must not keep a run alive whose trainer is gone.
            try:
                descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise UserError(f"{inert_line(str(self.path))}: cannot be written to: {error.strerror}") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Deleted or renamed since it was opened, it would keep nobody out.
                if RunLock(self.lock_file, descriptor).is_in_place():
                    return descriptor
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "its lock is replaced again and again")
            except BlockingIOError:
                # A viewer asking `is_live` holds it for microseconds, a trainer for good.
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise HeldByAnotherError(
                        f"{inert_line(self.name)}: is being trained by another process already; "
                        f"watch it with `minigpt-tui {quote(inert_line(str(self.path)))}`"
                    ) from None
                time.sleep(0.02)
            except OSError as error:  # some network file systems have no locks
                os.close(descriptor)
                raise UserError(f"{inert_line(str(self.path))}: cannot be locked: {error.strerror}") from None
            os.close(descriptor)

    def is_live(self) -> bool:
        """Whether a process holds the run's lock, that is: trains it or is about to."""
        try:
            # Never waiting, as for the writer of a pipe that lies there.
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    def state(self) -> RunState:
        """What the run is doing."""
        live = self.is_live()  # asked first: a run that ends meanwhile has told how before its lock is free
        return state_of(live, last_state_event(journal_rows(self.events_file)))

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────

    def checkpoints(self) -> list[Checkpoint]:
        """The complete checkpoints, oldest first. A name counts as complete: it is given by a rename at the end.

        None where that cannot be read.
        """
        try:
            return self.find_checkpoints()
        except OSError:
            return []

    def find_checkpoints(self) -> list[Checkpoint]:
        """`checkpoints` for whoever must not take a disk that fails for a run without any. Raises OSError."""
        if self.checkpoints_dir.is_symlink():
            return []  # they would be somebody else's
        try:
            paths = list(self.checkpoints_dir.iterdir())
        except FileNotFoundError:
            return []
        found = []
        for path in paths:
            match = _CHECKPOINT_NAME.fullmatch(path.name)
            if match and path.is_dir() and not path.is_symlink():
                found.append(Checkpoint(int(match[1]), path))
        return sorted(found)

    def checkpoint(self, which: str = "last") -> Checkpoint:
        """The checkpoint that `last`, `best` or a step means. Raises UserError that says which ones there are."""
        found = self.checkpoints()
        if not found and self.checkpoints_dir.is_symlink():
            shown = inert_line(str(self.checkpoints_dir))
            raise UserError(f"{shown}: is a link; put the directory itself there instead")
        if not found:
            raise UserError(f"{inert_line(self.name)}: has no checkpoint yet")
        if which == "last":
            return found[-1]
        steps = {str(checkpoint.step): checkpoint for checkpoint in found}
        if which == "best":
            best = str(self.best_step())
            if best in steps:
                return steps[best]
            raise UserError(f"{inert_line(self.name)}: has no best checkpoint yet; ask for last or for a step")
        if (step := which.lstrip("0") or "0") in steps and which:
            return steps[step]
        raise UserError(
            f"{inert_line(self.name)}: has no checkpoint {inert_line(which)}; "
            f"ask for last, best or one of {', '.join(steps)}"
        )

    def best_step(self) -> int | None:
        """The step whose checkpoint is called the best; None if none is."""
        return count_in(read_json(self.best_file), "step")

    def clear_unfinished(self) -> None:
        """Remove what a killed process left half written. Only for the holder of the lock."""
        for path in (*self.checkpoints_dir.glob(".*.tmp"), *self.path.glob(".*.tmp")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


# The events after which a run's state differs from before.
_STATE_EVENTS = frozenset({"started", "paused", "continued", "stopped", "finished", "failed", "crashed"})


def last_state_event(rows: Iterable[Row], before: str | None = None) -> str | None:
    """The last event among `rows` that changed what the run is doing; `before` if none of them did."""
    for row in rows:
        if isinstance(event := row.get("event"), str) and event in _STATE_EVENTS:
            before = event
    return before


def state_of(live: bool, last_event: str | None) -> RunState:
    """What a run is doing, from whether its lock is held and its last event that matters here."""
    if live:
        return RunState.PAUSED if last_event == "paused" else RunState.TRAINING
    match last_event:
        case "finished":
            return RunState.FINISHED
        case "stopped":
            return RunState.STOPPED
        case _:
            return RunState.CRASHED


def list_runs() -> list[RunDirectory]:
    """The runs under MINIGPT_RUNS_DIR or ./runs, the one written to last first."""
    try:
        paths = [path for path in runs_dir().iterdir() if _holds_run(path)]
    except OSError:
        return []
    return sorted(map(RunDirectory, paths), key=last_written, reverse=True)


def _holds_run(path: Path) -> bool:
    # A dot stands before the name of a run that is being made, or that was never finished making.
    try:
        return not path.name.startswith(".") and (path / "config.toml").is_file()
    except OSError:
        return False


def last_written(run: RunDirectory) -> float:
    """When the run last wrote an event or a row of metrics, as seconds since the epoch."""
    times = [0.0]
    for path in (run.config_file, run.metrics_file, run.events_file):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times)
