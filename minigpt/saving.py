"""Checkpoints written beside the training: copied to the host at a step, brought to the disk by a thread.

A disk that is full, gone or read-only does not end a training: it goes on, says so and tries again.
"""

import errno
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from minigpt.checkpoint import Snapshot, remove_checkpoint, write_checkpoint, write_checkpoint_info
from minigpt.commands import Command
from minigpt.config import Config, TrainConfig
from minigpt.device import is_out_of_memory
from minigpt.errors import UserError
from minigpt.files import read_json, write_atomically
from minigpt.inert import inert_line
from minigpt.run_log import RunLog
from minigpt.rundir import Checkpoint, RunDirectory, RunLock
from minigpt.tokenizer import Tokenizer

RETRY_INTERVAL = 30.0  # seconds until a checkpoint that could not be written is tried again
Best = tuple[int, float]  # the step that was best so far, and its val_loss
FEW_CHECKPOINTS = 3  # with room for fewer than these the user is told, while there is something to be done about it


@dataclass(frozen=True)
class _Writing:
    step: int
    best: Best | None
    command: Command | None
    done: Future[OSError | None]
    """Once it is written: why no old checkpoint could be removed, if so."""


class Saver:
    """Writes the checkpoints of one training, one at a time, and tells the log. For the training's thread."""

    def __init__(self, run: RunDirectory, lock: RunLock, log: RunLog, tokenizer: Tokenizer) -> None:
        self._run = run
        self._lock = lock
        self._log = log
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: _Writing | None = None
        self._retry_at = math.inf
        self.error: OSError | None = None
        """Why the newest checkpoint could not be written; None when it could."""
        self.trouble = ""
        """What cannot be written at present, for a screen: the files could not tell. Empty when all is well."""
        self._told_low = False
        self._told_kept = False

    def save(
        self,
        config: Config,
        step: int,
        take: Callable[[], Snapshot],
        *,
        best: Best | None = None,
        command: Command | None = None,
    ) -> None:
        """Begin to write a checkpoint, once the one before is done; `finish` tells what came of it.

        `best` is what the training counts as its best, whether that is this step or an earlier one: best.json may have
        been lost, or could not be written then. Raises UserError if another process trains the run by now.
        """
        self.finish()
        try:
            self.make_directory_again(config, step)
            self._log.flush()
            snapshot = take()
            if same := [checkpoint for checkpoint in self._run.checkpoints() if checkpoint.step == step]:
                # The weights are the same at the same step; the rest may have been seen to the end only now.
                self._log.sync()
                write_checkpoint_info(same[0].path, step, snapshot.info)
                # Who wrote it may have been killed before this.
                self._saved(step, best, command, tidy(self._run, best, config.train))
                return
        except (OSError, RuntimeError, MemoryError) as error:
            self._not_saved(step, _of_disk_or_memory(error), command)
            return
        self._writing = _Writing(step, best, command, self._thread.submit(self._write, snapshot, best, config.train))

    def _write(self, snapshot: Snapshot, best: Best | None, train: TrainConfig) -> OSError | None:
        self._log.sync()  # a checkpoint vouches for the rows up to its step: they must be as durable as it is
        write_checkpoint(self._run, snapshot)
        return tidy(self._run, best, train)

    def look(self) -> None:
        """Tell of a checkpoint that has been written meanwhile, without waiting for one."""
        if self._writing is not None and self._writing.done.done():
            self.finish()
        self._look_for_trouble()

    def finish(self) -> bool:
        """Wait for the checkpoint that is being written; whether all that was to be saved is."""
        if (writing := self._writing) is not None:
            self._writing = None
            try:
                unremovable = writing.done.result()
            except (OSError, RuntimeError, MemoryError) as error:
                self._not_saved(writing.step, _of_disk_or_memory(error), writing.command)
            else:
                self._saved(writing.step, writing.best, writing.command, unremovable)
        return self.error is None

    @property
    def should_try_again(self) -> bool:
        """Whether the last checkpoint could not be written, some time ago."""
        return time.monotonic() >= self._retry_at

    def close(self) -> None:
        """Wait until nothing is being written."""
        self.finish()
        self._thread.shutdown()

    def kept(self) -> str:
        """What is there to go back to, in words."""
        kept = self._run.checkpoints()
        return f"the last checkpoint is that of step {kept[-1].step:,}" if kept else "no checkpoint has been saved"

    def _saved(self, step: int, best: Best | None, command: Command | None, unremovable: OSError | None) -> None:
        self.error, self._retry_at = None, math.inf
        is_best = best is not None and best[0] == step
        self._log.event(step, "saved", checkpoint=f"step-{step:08d}", best=is_best, **answer(command))
        if unremovable is not None and not self._told_kept:
            message = f"old checkpoints cannot be removed ({reason_of(unremovable)}): they stay, and take room"
            self._log.notice(step, "disk", message)
        self._told_kept = unremovable is not None
        self._look_for_room(step)
        self._look_for_trouble()

    def _not_saved(self, step: int, error: OSError, command: Command | None) -> None:
        first = self.error is None
        self.error, self._retry_at = error, time.monotonic() + RETRY_INTERVAL
        if first or command:
            message = f"the checkpoint of step {step:,} could not be written ({reason_of(error)}); {self.kept()}"
            self._log.notice(step, "disk", f"{message}. The training goes on and tries again.", **answer(command))
        self._look_for_trouble()

    def _look_for_room(self, step: int) -> None:
        try:
            size = sum(file.stat().st_size for file in os.scandir(self._run.checkpoint(str(step)).path))
            free = shutil.disk_usage(self._run.path).free
        except (OSError, UserError):
            return
        if free >= FEW_CHECKPOINTS * size or self._told_low:
            return
        self._told_low = True
        self._log.notice(
            step,
            "disk",
            f"little room is left where the run lies: {free / 2**20:,.1f} MiB, and a checkpoint takes "
            f"{size / 2**20:,.1f} MiB. Make room, or resume it with a lower --train.keep-checkpoints.",
            free=free,
        )

    def _look_for_trouble(self) -> None:
        error = self.error or self._log.error
        if error is None:
            self.trouble = ""
            return
        rows = f" {self._log.waiting:,} rows wait in memory;" if self._log.waiting else ""
        self.trouble = (
            f"{inert_line(str(self._run.path))} cannot be written: {reason_of(error)}. The training goes on and tries "
            f"again;{rows} {self.kept()}."
        )

    def make_directory_again(self, config: Config, step: int) -> None:
        """Put the run's directory back if somebody has deleted it, or its lock, with all that is known of it.

        Raises OSError, and UserError if another process trains the run by now.
        """
        run = self._run
        if self._lock.is_in_place() and run.checkpoints_dir.is_dir():
            self._log.make_again()
            return
        is_ours = self._log.is_in_place() or not run.config_file.exists() or self._lock.is_in_place()
        if not is_ours or (run.metrics_file.exists() and not self._log.metrics.is_in_place()):
            raise OSError(errno.EBUSY, "another run lies in its place")
        run.make_again(config, self._tokenizer, self._lock)
        self._log.make_again()
        message = f"{inert_line(str(run.path))} had vanished, in whole or in part, and was made again"
        self._log.notice(step, "disk", message)


def write_best(run: RunDirectory, step: int, val_loss: float) -> None:
    """Call the checkpoint of a step the best one. Raises OSError."""
    write_atomically(run.best_file, json.dumps({"step": step, "val_loss": val_loss}) + "\n")


def tidy(run: RunDirectory, best: Best | None, train: TrainConfig) -> OSError | None:
    """What comes after a checkpoint: the best one is called so, and old ones are removed.

    Raises OSError if the first fails, and returns it if only the second does: nothing is lost then.
    """
    if best is not None and best[0] in {checkpoint.step for checkpoint in run.checkpoints()}:
        said = read_json(run.best_file)
        if (said.get("step"), said.get("val_loss")) != best:
            write_best(run, *best)
    return prune_checkpoints(run, best, train)


def prune_checkpoints(run: RunDirectory, best: Best | None, train: TrainConfig) -> OSError | None:
    """Remove old checkpoints: the newest few stay, the best one, and every so many intervals one for looking back.

    Returns why not all of them could be.
    """
    kept_as_best = {run.best_step(), None if best is None else best[0]}
    failure = None
    for checkpoint in run.checkpoints()[: -train.keep_checkpoints]:
        if checkpoint.step not in kept_as_best and not _is_for_looking_back(checkpoint, train):
            try:
                remove_checkpoint(checkpoint)
            except FileNotFoundError:
                continue  # somebody else has removed it
            except OSError as error:
                failure = error
    return failure


def _is_for_looking_back(checkpoint: Checkpoint, train: TrainConfig) -> bool:
    return bool(train.keep_every) and checkpoint.step % (train.keep_every * train.checkpoint_interval) == 0


def answer(command: Command | None) -> dict[str, Any]:
    """What an event says of the command that it answers."""
    return {"command": command.id} if command else {}


def _of_disk_or_memory(error: Exception) -> OSError:
    """What the training goes on with: the disk, or no memory for a checkpoint. Raises the error if it is another."""
    if isinstance(error, OSError):
        return OSError(error.errno, reason_of(error))  # without the frames, which hold the whole checkpoint
    if is_out_of_memory(error):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    raise error


def reason_of(error: OSError) -> str:
    """Why something could not be written, without the path."""
    return inert_line(error.strerror or str(error))
