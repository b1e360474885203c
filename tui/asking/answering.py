"""One answer of a run's model, worked out in a thread: it opens the checkpoint, writes the text, keeps the transcript.

Nothing here draws. The chat pane looks at an answer's fields whenever it likes.
"""

import sys
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Literal

from minigpt.errors import UnknownCharactersError, UserError
from minigpt.inert import inert_line
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from tui.asking.models import Described, Models
from tui.asking.transcript import Transcript

Unknown = Literal["refuse", "replace", "drop"]
"""What becomes of a prompt's characters that the model has never seen."""


class Answer(threading.Thread):
    """The answer to one prompt. Start it, then read its fields while and after it runs.

    `which` is the checkpoint that answers: "last", "best" or a step. `unknown` says what becomes of characters in the
    prompt that the model has never seen. With `before` it goes on where that answer to the same prompt has ended.
    """

    def __init__(
        self,
        run: RunDirectory,
        prompt: str,
        sampling: Sampling,
        models: Models,
        transcript: Transcript,
        *,
        which: str = "last",
        unknown: Unknown = "refuse",
        before: "Answer | None" = None,
    ) -> None:
        # A daemon, since quitting must not wait for an import of torch.
        super().__init__(name="chat", daemon=True)
        self.prompt = prompt
        """As it was typed; once the model has it, as it was asked."""
        self.sampling = sampling
        self.unknown = unknown
        self.before = before
        self.refused_characters = False
        """Whether it failed because of characters that the model does not know."""
        self.state: Literal["waiting", "loading", "writing", "done", "stopped", "failed"] = "waiting"
        self.described: Described | None = None
        self.error = ""
        self.tokens = 0
        """How many the model has written."""
        self.seconds = 0.0
        """What they took, the reading of the prompt included, the opening of the checkpoint not."""
        self._run_directory = run
        self._which = which
        self._models = models
        self._transcript = transcript
        self._pieces = [before.text] if before is not None else []
        self._cancelled = False
        self._changing = threading.Lock()

    @property
    def text(self) -> str:
        """What has been written so far."""
        return "".join(self._pieces)

    @property
    def going_on(self) -> bool:
        """Whether more text may come."""
        return self.state in {"waiting", "loading", "writing"}

    @property
    def tokens_per_second(self) -> float | None:
        """How fast it is written; None before the first token."""
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None

    def cancel(self) -> None:
        """Stop: after the present token, or at once as long as there is none, although the thread loads to its end."""
        with self._changing:
            self._cancelled = True
            if self.state in {"waiting", "loading"}:
                self.state = "stopped"

    def run(self) -> None:
        try:
            self._write()
        except UserError as error:
            self.refused_characters = isinstance(error, UnknownCharactersError)
            self._end("failed", str(error))
        except Exception as error:  # noqa: BLE001 - a chat that fails must not take the training's process along
            self._end("failed", _in_words(error))

    def _goes_on(self, state: Literal["loading", "writing"]) -> bool:
        """Come to this state, unless it is stopped already."""
        with self._changing:
            if self.going_on:
                self.state = state
            return self.going_on

    def _end(self, state: Literal["done", "failed"], error: str = "") -> None:
        with self._changing:
            self.error, self.state = error, "stopped" if self._cancelled else state

    def _write(self) -> None:
        if not self._goes_on("loading"):  # stopped while others answered before it
            return
        from minigpt.generate import generate
        from minigpt.tokenizer import known_text

        described, model, tokenizer = self._models.open(self._run_directory, self._which)
        if not self.going_on:
            return
        self.described = described
        self.prompt = known_text(tokenizer, self.prompt, self.unknown)
        begun, asked_for = perf_counter(), 0

        def is_cancelled() -> bool:
            # Asked before each token. A piece of text may be more than one of them.
            nonlocal asked_for
            self.tokens, self.seconds = asked_for, perf_counter() - begun
            asked_for += not self._cancelled
            return self._cancelled

        for piece in generate(model, tokenizer, self.prompt + self.text, self.sampling, is_cancelled):
            if not self._goes_on("writing"):
                break
            self._pieces.append(piece)
        self.tokens, self.seconds = asked_for, perf_counter() - begun
        # Before it is said to be done: whoever quits then has it kept.
        self._transcript.append(self, stopped=self._cancelled)
        self._end("done")


class AnswersInTurn(threading.Thread):
    """Several answers in one thread, one after the other, so that one model at a time is in memory."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__(name="answers", daemon=True)
        self.answers = tuple(answers)

    @property
    def going_on(self) -> bool:
        """Whether more text may come."""
        return any(answer.going_on for answer in self.answers)

    def cancel(self) -> None:
        """Stop them all, each as an answer stops; those that have not begun never do."""
        for answer in self.answers:
            answer.cancel()

    def run(self) -> None:
        for answer in self.answers:
            answer.run()


def _in_words(error: Exception) -> str:
    out_of_memory = isinstance(error, MemoryError)
    if not out_of_memory and "torch" in sys.modules:
        from minigpt.device import is_out_of_memory

        out_of_memory = is_out_of_memory(error)
    if out_of_memory:
        return "there is not enough free memory for this model to answer; the training is not touched by that"
    return f"{type(error).__name__}: {inert_line(str(error))}"
