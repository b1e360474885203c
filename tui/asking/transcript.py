"""What was asked and answered about a run, kept in its chat/: written by this conversation, read from earlier ones."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from os import getpid
from typing import TYPE_CHECKING

from minigpt.inert import inert_pane
from minigpt.journal import JournalTail, JournalWriter, Row, count_in, text_in
from minigpt.rundir import RunDirectory

if TYPE_CHECKING:
    from tui.asking.answering import Answer

HISTORY_LENGTH = 100
LONGEST_TEXT = 50_000  # characters to ask or evaluate: a field with one line of them takes a key in a fifth of a second
_MOST_FILES = 100
_MOST_READ = 256 << 10  # bytes of all transcripts together: it is read while the screen waits


class Transcript:
    """Keeps what was asked and answered, as a file of its own in the run's chat/. As far as the disk allows.

    One that is `read_only` has the earlier conversations and keeps nothing.
    """

    def __init__(self, run: RunDirectory, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._directory = run.chat_dir
        self._path = run.chat_dir / f"{datetime.now():%Y%m%d-%H%M%S}-{getpid()}.jsonl"
        self._lock = threading.Lock()

    def append(self, answer: "Answer", *, stopped: bool) -> None:
        """Add an answer that has been written, or as much of it as there was when it was stopped."""
        if answer.described is None or self._read_only:
            return
        sampling = answer.sampling
        row = {
            "time": time.time(),
            "step": answer.described.checkpoint.step,
            "val_loss": answer.described.val_loss,
            "prompt": answer.prompt,
            "text": answer.text,
            "stopped": stopped,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "stop": sampling.stop,
            "max_new_tokens": sampling.max_new_tokens,
            "seed": sampling.seed,
            # Of these many characters of the text another row tells who wrote them.
            "continued_from": len(answer.before.text) if answer.before is not None else 0,
            "tokens": answer.tokens,
            "seconds": round(answer.seconds, 3),
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
        for row in self._newest_first():
            prompt = text_in(row, "prompt")
            seen = prompt.replace("\t", " ")
            if prompt and len(prompt) <= LONGEST_TEXT and inert_pane(seen) == seen:
                prompts.setdefault(prompt)
            if len(prompts) == HISTORY_LENGTH:
                break
        return list(prompts)[::-1]

    def earlier_answers(self, most: int) -> list[Row]:
        """The last answers of earlier chats with the run, oldest first, as they were written: anything may be in them.

        Of a text that was continued only the whole is among them.
        """
        answers: list[Row] = []
        before: tuple[str, str] | None = None
        for row in self._newest_first(without_own=True):
            prompt, text = text_in(row, "prompt"), text_in(row, "text")
            if text and (prompt, text) != before:
                answers.append(row)
            continued = count_in(row, "continued_from") or 0
            before = (prompt, text[:continued]) if continued else None
            if len(answers) == most:
                break
        return answers[::-1]

    def _newest_first(self, *, without_own: bool = False) -> Iterator[Row]:
        if self._directory.is_symlink():
            return  # they would be somebody else's
        try:
            paths = sorted(self._directory.glob("*.jsonl"))[: -_MOST_FILES - 1 : -1]
        except OSError:
            return
        left = _MOST_READ
        for path in paths:
            if without_own and path == self._path:
                continue
            try:
                offset = max(0, path.stat().st_size - left)
            except OSError:
                continue
            tail = JournalTail(path, offset)
            yield from reversed(tail.poll(left))
            left -= max(0, tail.offset - offset)
            if left <= 0:
                return
