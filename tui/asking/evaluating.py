"""One evaluation of a run's model, worked out in a thread: of the validation split, or of a text that was typed.

Nothing here draws, and nothing of it reaches a training: the model is a copy on the CPU, which takes no GPU memory from
anybody, and no random number is drawn.
"""

import hashlib
import threading
import time
from math import isfinite
from typing import TYPE_CHECKING, Literal

from minigpt.errors import UnknownCharactersError, UserError
from minigpt.files import read_json
from minigpt.inert import inert_line
from minigpt.journal import Row, number_in
from minigpt.rundir import RunDirectory
from tui.asking.answering import Unknown
from tui.asking.models import Models

if TYPE_CHECKING:
    from minigpt.device import Device
    from minigpt.evaluations import Result
    from minigpt.model import GPT
    from minigpt.tokenizer import Tokenizer

EVALUATING = "An evaluation is going on; Esc stops it."
MOST_RESULTS = 50
_MOST_READ = 1000


class _CancelledError(Exception):
    """Raised out of the progress report, which is called often."""


class Evaluating(threading.Thread):
    """Evaluates one thing. Start it, then read its fields while and after it runs.

    `which` is the checkpoint: "last", "best" or a step. Without a `text` it takes the validation split. The result is
    written into the run as `minigpt evaluate` does, unless `read_only`. `unknown` says what becomes of characters
    outside the vocabulary.
    """

    def __init__(
        self,
        run: RunDirectory,
        models: Models,
        *,
        which: str,
        text: str | None = None,
        unknown: Unknown = "refuse",
        read_only: bool = False,
    ) -> None:
        # A daemon, since quitting must not wait for it.
        super().__init__(name="evaluate", daemon=True)
        self.text = text
        self.state: Literal["working", "done", "stopped", "failed"] = "working"
        self.words = "opening the checkpoint"
        """What it is doing."""
        self.result: Row | None = None
        """What `minigpt evaluate` would write."""
        self.error = ""
        """Why it failed; after a success, why the result could not be written."""
        self.refused_characters = False
        """Whether it failed because of characters that the model does not know."""
        self._run_directory = run
        self._models = models
        self._which = which
        self._unknown = unknown
        self._read_only = read_only
        self._ending = threading.Lock()

    @property
    def going_on(self) -> bool:
        """Whether a result may still come."""
        return self.state == "working"

    def cancel(self) -> None:
        """Stop at once; the thread gives up at its next report of progress."""
        self._end("stopped")

    def run(self) -> None:
        try:
            self._end("done", self._evaluate())
        except _CancelledError:
            pass
        except UserError as error:
            self._end("failed", str(error), refused_characters=isinstance(error, UnknownCharactersError))
        except Exception as error:  # noqa: BLE001 - what fails here must not take the training's process along
            self._end("failed", f"{type(error).__name__}: {inert_line(str(error))}")

    def _end(
        self, state: Literal["done", "stopped", "failed"], error: str = "", *, refused_characters: bool = False
    ) -> None:
        with self._ending:
            if self.state == "working":
                self.error, self.refused_characters, self.state = error, refused_characters, state

    def _evaluate(self) -> str:
        """Evaluate and keep the result; returns why it could not be kept."""
        from minigpt.config import DeviceConfig
        from minigpt.device import choose_device
        from minigpt.evaluations import evaluate_split, keep, metrics_of

        run, device = self._run_directory, choose_device(DeviceConfig(type="cpu", precision="float32"))
        described, model, tokenizer = self._models.open(run, self._which)
        self._report("evaluating")
        checkpoint = described.checkpoint
        if self.text is None:
            result = evaluate_split(
                run, checkpoint, model, tokenizer, split="val", device=device, progress=self._report
            )
        else:
            result = self._evaluate_text(self.text, model, tokenizer, device)
        self.result = metrics_of(run, checkpoint, result, device)
        if self._read_only:
            return ""
        self._report(self.words)  # what was stopped meanwhile is not kept
        try:
            keep(run, self.result)
        except OSError as error:
            return f"not kept in {run.evaluations_dir.name}/: {error.strerror}"
        return ""

    def _evaluate_text(self, text: str, model: "GPT", tokenizer: "Tokenizer", device: "Device") -> "Result":
        from minigpt.evaluations import Result, evaluate_text, what_was_altered
        from minigpt.tokenizer import known_text

        began = time.perf_counter()
        altered = what_was_altered(tokenizer, text, self._unknown)
        text = known_text(tokenizer, text, self._unknown)
        measured = evaluate_text(model, tokenizer, text, device, progress=self._report)
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        # Its checksum in the name keeps two texts apart; its beginning tells people which one it was.
        beginning = inert_line(" ".join(text.replace("/", " ").split()), 40)
        name, seconds = f"text {digest[:8]} “{beginning}”", time.perf_counter() - began
        return Result(measured, "file", name, digest, seconds, altered)

    def _report(self, words: str) -> None:
        self.words = words
        if not self.going_on:
            raise _CancelledError


def kept_results(run: RunDirectory) -> list[Row]:
    """The results in the run's evaluations/, the oldest first; `minigpt evaluate` leaves them there too."""
    if run.evaluations_dir.is_symlink():
        return []  # they would be somebody else's
    paths = sorted(run.evaluations_dir.glob("step-*.json"))[-_MOST_READ:]
    timed = [(number_in(row, "time"), row) for row in (read_json(path, 1 << 16) for path in paths)]
    rows = [(time, row) for time, row in timed if time is not None and isfinite(time)]
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])][-MOST_RESULTS:]
