"""One answer of a run's model, worked out in a thread: it opens the checkpoint, writes the text, keeps the transcript.

Nothing here draws. The chat pane looks at an answer's fields whenever it likes.
"""

import threading
import time
from datetime import datetime
from os import getpid
from pathlib import Path
from typing import Literal

from minigpt.errors import UnknownCharactersError, UserError
from minigpt.inert import inert_line, inert_pane
from minigpt.journal import JournalTail, JournalWriter, Row, text_in
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from tui.models import Described, Models

HISTORY_LENGTH = 100
_LONGEST_PROMPT = 10_000  # characters: a line with more holds up its field
_TAIL = 256 << 10  # of each transcript: the history is read before the chat can be shown


Unknown = Literal["refuse", "replace", "drop"]
"""What becomes of a prompt's characters that the model has never seen."""


class Answer(threading.Thread):
    """The answer to one prompt. Start it, then read its fields while and after it runs.

    `which` is the checkpoint that answers: "last", "best" or a step. `unknown` says what becomes of characters in the
    prompt that the model has never seen.
    """

    def __init__(
        self,
        run: RunDirectory,
        prompt: str,
        sampling: Sampling,
        models: Models,
        transcript: "Transcript",
        *,
        which: str = "last",
        unknown: Unknown = "refuse",
    ) -> None:
        # A daemon, since quitting must not wait for an import of torch.
        super().__init__(name="chat", daemon=True)
        self.prompt = prompt
        """As it was typed; once the model has it, as it was asked."""
        self.sampling = sampling
        self.unknown = unknown
        self.refused_characters = False
        """Whether it failed because of characters that the model does not know."""
        self.state: Literal["loading", "writing", "done", "stopped", "failed"] = "loading"
        self.described: Described | None = None
        self.error = ""
        self._run_directory = run
        self._which = which
        self._models = models
        self._transcript = transcript
        self._pieces: list[str] = []
        self._cancelled = threading.Event()

    @property
    def text(self) -> str:
        """What has been written so far."""
        return "".join(self._pieces)

    @property
    def going_on(self) -> bool:
        """Whether more text may come."""
        return self.state in {"loading", "writing"}

    def cancel(self) -> None:
        """Stop after the present token."""
        self._cancelled.set()

    def run(self) -> None:
        try:
            self._write()
        except UserError as error:
            self.refused_characters = isinstance(error, UnknownCharactersError)
            self.error, self.state = str(error), "failed"
        except Exception as error:  # noqa: BLE001 - a chat that fails must not take the training's process along
            self.error, self.state = f"{type(error).__name__}: {inert_line(str(error))}", "failed"
        self._transcript.append(self)

    def _write(self) -> None:
        from minigpt.generate import generate
        from minigpt.tokenizer import known_text

        self.described, model, tokenizer = self._models.open(self._run_directory, self._which)
        self.prompt = known_text(tokenizer, self.prompt, self.unknown)
        for piece in generate(model, tokenizer, self.prompt, self.sampling, self._cancelled.is_set):
            self._pieces.append(piece)
            self.state = "writing"
        self.state = "stopped" if self._cancelled.is_set() else "done"


class Transcript:
    """Keeps what was asked and answered, as a file of its own in the run's chat/. As far as the disk allows.

    One that is `read_only` has the earlier prompts and keeps nothing.
    """

    def __init__(self, run: RunDirectory, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._directory = run.chat_dir
        self._path = run.chat_dir / f"{datetime.now():%Y%m%d-%H%M%S}-{getpid()}.jsonl"
        self._lock = threading.Lock()

    def append(self, answer: Answer) -> None:
        """Add one answer; one that could not be given is left out."""
        if answer.described is None or answer.state == "failed" or self._read_only:
            return
        sampling = answer.sampling
        row = {
            "time": time.time(),
            "step": answer.described.checkpoint.step,
            "val_loss": answer.described.val_loss,
            "prompt": answer.prompt,
            "text": answer.text,
            "stopped": answer.state == "stopped",
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "max_new_tokens": sampling.max_new_tokens,
            "seed": sampling.seed,
        }
        if self._directory.is_symlink():
            return  # nor may anything be written elsewhere
        try:
            with self._lock:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                writer = JournalWriter(self._path)
                try:
                    writer.append(row)
                finally:
                    writer.close()
        except OSError:
            return  # a chat on a full or read-only disk is still a chat

    def earlier_prompts(self) -> list[str]:
        """The prompts of this and earlier chats with the run, oldest first, each once.

        One that could steer the terminal was not typed here, and is left out.
        """
        prompts: dict[str, None] = {}
        if self._directory.is_symlink():
            return []  # they would be somebody else's
        try:
            paths = sorted(self._directory.glob("*.jsonl"))[-10:]
        except OSError:
            return []
        for path in paths:
            for row in _last_rows(path):
                prompt = text_in(row, "prompt")
                if len(prompt) <= _LONGEST_PROMPT and prompt and inert_pane(prompt) == prompt:
                    prompts.pop(prompt, None)
                    prompts[prompt] = None
        return list(prompts)[-HISTORY_LENGTH:]


def _last_rows(path: Path) -> list[Row]:
    try:
        offset = max(0, path.stat().st_size - _TAIL)
    except OSError:
        return []
    return JournalTail(path, offset).poll(_TAIL)
