"""One training in a background thread of this process, for a dashboard or the command line to stand beside."""

import math
import os
import threading
import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from minigpt.commands import take_commands
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.files import write_atomically
from minigpt.inert import inert_line
from minigpt.rundir import RunDirectory, RunLock

if TYPE_CHECKING:
    from minigpt.dataset import TrainingData
    from minigpt.resumption import Changes
    from minigpt.trainer import Trainer


class TrainingSession(threading.Thread):
    """Trains a new run, or resumes one. Start it, read its attributes, and `join` it; nothing else is shared.

    Not a daemon thread: when the screen in front of it goes away, the process lives on until the training ends.
    """

    def __init__(
        self,
        *,
        config: Config | None = None,
        preset: str = "run",
        resume: RunDirectory | None = None,
        changes: Mapping[str, str] = MappingProxyType({}),
        lock_descriptor: int | None = None,
    ) -> None:
        """`changes` are settings that a resumption is to have, as the command line gives them.

        `lock_descriptor` is a lock on the run that this process has inherited from the one that trained it before.
        """
        super().__init__(name="trainer", daemon=False)
        if (config is None) == (resume is None):
            raise ValueError("a session takes a configuration or a run to resume")
        self._config = config
        self._preset = preset
        self._resume = resume
        self._changes = changes
        self._lock_descriptor = lock_descriptor
        self._stop_requested = threading.Event()
        self._detach_requested = threading.Event()
        self._trainer: Trainer | None = None
        self._hand_over_failure = ""
        self.phase = "starting"
        """What it is doing, in words for the screen."""
        self.run_directory: RunDirectory | None = None
        """Set once the directory exists and its lock is held."""
        self.offsets = {"events": 0, "metrics": 0}
        """Where in the run's files this attempt begins, for a display that shows only it."""
        self.error: BaseException | None = None
        """What ended it badly: a UserError to be shown, or anything else, whose traceback is in console.log."""
        self.outcome: str | None = None
        """"finished", "stopped" or "detached", once it ended well."""
        self.successor: int | None = None
        """The process that trains on, once the run has been handed over."""

    def request_stop(self) -> None:
        """Ask for a checkpoint and the end. Only sets a flag, so it may be called from a signal handler."""
        self._stop_requested.set()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._stop_requested.is_set()

    def request_detach(self) -> None:
        """Ask for a process of its own to train on. If that fails `detach_failure` says why, and this one goes on."""
        self._hand_over_failure = ""
        if (trainer := self._trainer) is not None:
            trainer.detach_failure = ""
        self._detach_requested.set()

    @property
    def detach_requested(self) -> bool:
        """Whether the run is to be handed over, or is being handed over."""
        return self._detach_requested.is_set()

    @property
    def detach_failure(self) -> str:
        """Why the run could not be handed over when that was asked for last."""
        return self._hand_over_failure or (trainer.detach_failure if (trainer := self._trainer) is not None else "")

    @property
    def steps_done(self) -> int:
        """How many steps this process has trained since it took the run up."""
        return trainer.steps_done if (trainer := self._trainer) is not None else 0

    @property
    def trouble(self) -> str:
        """What cannot be written at present, on a full disk for example; empty when all is well."""
        return trainer.saver.trouble if (trainer := self._trainer) is not None else ""

    def run(self) -> None:
        try:
            self.outcome = self._train()
        except _StopRequestedError:
            self.outcome = "stopped"
        except UserError as error:
            self.error = _without_frames(error)
        except BaseException as error:  # noqa: BLE001 - whatever it was, it belongs on the screen, not on stderr
            self._log(traceback.format_exc())
            self.error = _without_frames(error)
        finally:
            self._trainer = None
            self.phase = "ended"

    def _train(self) -> str:
        self.phase = "loading torch"
        from minigpt.capacity import require_memory
        from minigpt.device import choose_device, configure_threads
        from minigpt.trainer import Trainer

        config, changed = self._config_and_changes()
        device = choose_device(config.device)
        if self._resume is None or any(key.startswith("device.") for key in changed):
            # Written down as they came out: a resumption in another environment must not choose otherwise.
            settings = {"type": device.type, "precision": device.precision, "threads": configure_threads(config.device)}
            config = config.model_copy(update={"device": config.device.model_copy(update=settings)})
        self.phase = "reading the corpus"
        data = self._prepare(config)
        require_memory(config, data.tokenizer.vocab_size, device.type, device.precision)
        if self._stop_requested.is_set():
            return "stopped"
        if self._resume is None or not config.train.max_steps:
            config = _with_steps(config, data)
        run = self._resume or RunDirectory.create(config, self._preset, data.tokenizer)
        with run.locked(self._lock_descriptor) as lock:
            if self._lock_descriptor is None:
                take_commands(run.commands_dir)  # they were meant for an attempt that is gone
            for name, path in (("events", run.events_file), ("metrics", run.metrics_file)):
                self.offsets[name] = path.stat().st_size if path.exists() else 0
            self.run_directory = run
            was_free = self._lock_descriptor is None
            while True:
                self.phase = "building the model"
                preset = "" if self._resume is not None else self._preset
                self._trainer = Trainer(
                    run, config, data, device, lock=lock, changed=changed, preset=preset, was_free=was_free
                )
                if changed:  # written only now, when nothing refuses them any more
                    self._write_config(run, config)
                if self._hand_over_failure:
                    failure = f"not handed over: {self._hand_over_failure}. The training goes on where it was."
                    self._trainer.notices.append(("detach", failure))
                self.phase = "training"
                outcome = self._trainer.train(self._stop_requested, self._detach_requested)
                if outcome != "detach":
                    return outcome
                # As the training has it, which memory may have changed; the file is anybody's.
                config, changed, was_free = self._trainer.config, {}, False
                if self._hand_over(run, lock, config.device.type):
                    return "detached"

    def _config_and_changes(self) -> "tuple[Config, Changes]":
        if self._resume is None:
            assert self._config is not None
            return self._config, {}
        from minigpt.resumption import resumed_config

        return resumed_config(self._resume, self._changes)

    def _hand_over(self, run: RunDirectory, lock: RunLock, device: str) -> bool:
        """Let a successor train on; whether it does. The model here is gone: a device may have no room for two."""
        from minigpt.detaching import hand_over
        from minigpt.device import free_memory

        self.phase = "handing over"
        self._trainer = None
        free_memory(device)
        successor = hand_over(run, lock.descriptor, self._stop_requested)
        if isinstance(successor, int):
            self.successor = successor
            return True
        lock.sign()
        self._hand_over_failure = successor
        self._detach_requested.clear()
        return False

    def _prepare(self, config: Config) -> "TrainingData":
        from minigpt.dataset import load_training_data
        from minigpt.tokenizer import load_tokenizer

        def progress(words: str) -> None:
            self.phase = words
            if self._stop_requested.is_set():
                raise _StopRequestedError

        if self._resume is None:
            return load_training_data(config, None, progress)
        kept = self._resume.checkpoints()
        expected = kept[-1].info().get("corpus_sha256") if kept else None
        return load_training_data(config, load_tokenizer(self._resume.tokenizer_file), progress, expected)

    def _write_config(self, run: RunDirectory, config: Config) -> None:
        try:
            write_atomically(run.config_file, config.to_toml())
        except OSError as error:
            assert self._trainer is not None
            self._trainer.log.close()
            shown = inert_line(str(run.config_file))
            raise UserError(f"{shown}: cannot be written: {error.strerror}; nothing was changed") from None

    def _log(self, text: str) -> None:
        run = self.run_directory or self._resume
        if run is None:
            return
        try:
            # Not through a link, nor into a pipe: a stranger's run may be refused only later.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(run.console_file, flags, 0o666), "a", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError:
            return  # the error itself is still shown; only its traceback is lost


def _without_frames(error: BaseException) -> BaseException:
    # They would keep the model, and the memory of the device, for as long as the screen shows the error; so would those
    # of what it was raised from.
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class _StopRequestedError(Exception):
    """Asked to stop before the training began."""


def _with_steps(config: Config, data: "TrainingData") -> Config:
    """The configuration with a length in epochs turned into one in steps, now that the corpus is known."""
    train = config.train
    if not train.max_epochs:
        return config
    from minigpt.batches import Batches

    per_epoch = Batches(data.train, train.batch_size, config.data.batches, train.seed).steps_per_epoch
    steps = max(1, math.ceil(train.max_epochs * per_epoch - 1e-6))
    steps = min(steps, train.max_steps or steps)
    return config.model_copy(update={"train": train.model_copy(update={"max_steps": steps})})
