"""One training in a background thread of this process, for a dashboard or the command line to stand beside."""

import math
import threading
import traceback
from typing import TYPE_CHECKING

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.rundir import RunDirectory

if TYPE_CHECKING:
    from minigpt.dataset import TrainingData


class TrainingSession(threading.Thread):
    """Trains a new run, or resumes one. Start it, read its attributes, and `join` it; nothing else is shared.

    Not a daemon thread: when the screen in front of it goes away, the process lives on until the training ends.
    """

    def __init__(
        self, *, config: Config | None = None, preset: str = "run", resume: RunDirectory | None = None
    ) -> None:
        super().__init__(name="trainer", daemon=False)
        if (config is None) == (resume is None):
            raise ValueError("a session takes a configuration or a run to resume")
        self._config = config
        self._preset = preset
        self._resume = resume
        self._stop_requested = threading.Event()
        self.phase = "starting"
        """What it is doing, in words for the screen."""
        self.run_directory: RunDirectory | None = None
        """Set once the directory exists and its lock is held."""
        self.offsets = {"events": 0, "metrics": 0}
        """Where in the run's files this attempt begins, for a display that shows only it."""
        self.error: BaseException | None = None
        """What ended it badly: a UserError to be shown, or anything else, whose traceback is in console.log."""
        self.outcome: str | None = None
        """"finished" or "stopped", once it ended well."""

    def request_stop(self) -> None:
        """Ask for a checkpoint and the end. Only sets a flag, so it may be called from a signal handler."""
        self._stop_requested.set()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._stop_requested.is_set()

    def run(self) -> None:
        try:
            self.outcome = self._train()
        except _StopRequestedError:
            self.outcome = "stopped"
        except UserError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 - whatever it was, it belongs on the screen, not on stderr
            self._log(traceback.format_exc())
            # Its frames would keep the model, and the memory of the device, for as long as the screen shows it.
            self.error = error.with_traceback(None)
        finally:
            self.phase = "ended"

    def _train(self) -> str:
        self.phase = "loading torch"
        from minigpt.device import choose_device, configure_threads
        from minigpt.trainer import Trainer

        config = self._config or self._resumable_config()
        device = choose_device(config.device)
        if self._resume is None:
            # Written down as they came out: a resumption in another environment must not choose otherwise.
            settings = {"type": device.type, "precision": device.precision, "threads": configure_threads(config.device)}
            config = config.model_copy(update={"device": config.device.model_copy(update=settings)})
        self.phase = "reading the corpus"
        data = self._prepare(config)
        if self._stop_requested.is_set():
            return "stopped"
        if self._resume is None:
            config = _with_steps(config, data)
        run = self._resume or RunDirectory.create(config, self._preset, data.tokenizer)
        with run.locked():
            for name, path in (("events", run.events_file), ("metrics", run.metrics_file)):
                self.offsets[name] = path.stat().st_size if path.exists() else 0
            self.run_directory = run
            self.phase = "building the model"
            trainer = Trainer(run, config, data, device)
            self.phase = "training"
            return trainer.train(self._stop_requested)

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

    def _resumable_config(self) -> Config:
        assert self._resume is not None
        run = self._resume
        config = run.config()
        if not (kept := run.checkpoints()):
            return config
        from minigpt.counters import Counters

        step, train = kept[-1].step, config.train
        try:
            counters = Counters.from_json(step, kept[-1].info())
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            counters = Counters(step)  # damaged: the trainer puts it aside and says so
        match counters.end(train, counters.elapsed):
            case "steps":
                raise UserError(f"{inert_line(run.name)}: has finished already, with step {step} of {train.max_steps}")
            case "time":
                raise UserError(
                    f"{inert_line(run.name)}: has finished already, after {counters.elapsed / 60:.1f} of "
                    f"{train.max_minutes:g} minutes"
                )
            case "patience":
                raise UserError(
                    f"{inert_line(run.name)}: has finished already, at step {step}, after {train.patience} evaluations "
                    "without a better validation loss"
                )
        return config

    def _log(self, text: str) -> None:
        run = self.run_directory or self._resume
        if run is None:
            return
        try:
            with run.console_file.open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError:
            return  # the error itself is still shown; only its traceback is lost


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
