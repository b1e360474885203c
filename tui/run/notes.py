"""A user's notes on a run as they are kept: notes.txt in its directory, written beside the screen, never lost."""

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import UserError
from minigpt.files import read_limited, write_atomically
from minigpt.inert import inert, inert_line

LONGEST = 100_000  # characters
RETRY_INTERVAL = 3.0  # seconds until notes that could not be written are tried again

Signature = tuple[int, int, int]


@dataclass(frozen=True)
class Found:
    """The file as it was read."""

    text: str
    signature: Signature | None
    """By which another writing of it is noticed; None while there is none."""
    windows: bool = False
    """Whether its lines end as on Windows."""


class Notes:
    """Writes the notes on one run in a thread, the newest text only, until that has worked.

    It is never over a text that somebody else has written there since: `conflict` is set then, and nothing is
    written before `take_over` or `load` has been called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """Why the newest text is not in the file; empty if it is, or is about to be."""
        self.conflict = False
        """Whether somebody else has changed the file under a text that is not saved."""
        self._known: Signature | None = None
        self._windows = False
        self._wanted: str | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def unsaved(self) -> str | None:
        """The text that is not in the file yet; None if nothing waits."""
        with self._changed:
            return self._wanted

    def load(self) -> str:
        """The text of the file, from which to go on; a text that waited is given up. Raises UserError."""
        found = read_notes(self.path)
        with self._changed:
            self._wanted, self.conflict, self.problem = None, False, ""
            self._known, self._windows = found.signature, found.windows
            self._changed.notify_all()
        return found.text

    def changed_by_others(self) -> bool:
        """Whether the file is another one than was read or written here; one that is gone does not count."""
        now = signature_of(self.path)
        with self._changed:
            return now is not None and now != self._known

    def write(self, text: str) -> None:
        """Let the thread write this; an older text that still waits is given up."""
        with self._changed:
            self._wanted = text
            if self._thread is None:
                _WRITERS[self.path] = self
                # A daemon: a disk that hangs must not keep the program from ending.
                self._thread = threading.Thread(target=self._write_on, name="notes", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def take_over(self) -> None:
        """Write the text that waits over what somebody else has written."""
        with self._changed:
            self._known, self.conflict = signature_of(self.path), False
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until all is in the file; False if that is not so in time, or cannot be."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted is None or self.conflict or bool(self.problem), seconds)
            return self._wanted is None

    def _write_on(self) -> None:
        while True:
            with self._changed:
                if self._wanted is None:
                    self._thread = None
                    _WRITERS.pop(self.path, None)
                    self._changed.notify_all()
                    return
                text = self._wanted
                if self.conflict:
                    self._changed.wait()
                    continue
            problem, known = "", self._known
            try:
                if (now := signature_of(self.path)) is not None and now != known:
                    with self._changed:
                        self.conflict = True
                        self._changed.notify_all()
                    continue
                data = text.replace("\n", "\r\n") if self._windows else text
                write_atomically(self.path, data.encode(errors="replace"), mode=0o600)
                known = signature_of(self.path)
            except OSError as error:
                problem = inert_line(error.strerror or str(error))
            with self._changed:
                self.problem = problem
                if not problem:
                    self._known = known
                    if self._wanted == text:
                        self._wanted = None
                self._changed.notify_all()
                if problem:
                    self._changed.wait(RETRY_INTERVAL)


_WRITERS: dict[Path, Notes] = {}
"""Those that have something to write, so that it outlives the screen."""


def notes_of(path: Path) -> Notes:
    """The notes under that path; those that could not be written yet, if there are any."""
    return _WRITERS.get(path) or Notes(path)


def unsaved_notes() -> list[tuple[Path, str, str]]:
    """For the end of the program: path, text and reason of all notes that could not be written."""
    waiting = [(path, notes.unsaved, notes.problem) for path, notes in list(_WRITERS.items())]
    return [(path, text, problem) for path, text, problem in waiting if text is not None]


def signature_of(path: Path) -> Signature | None:
    """What tells one writing of a file from another; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_notes(path: Path) -> Found:
    """The notes there are, empty if there are none yet. Raises UserError for a file that is not to be edited here."""
    name = inert_line(path.name)
    signature = signature_of(path)
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise UserError(f"{name} is a link. Put the file itself there, to see and edit it here.")
        data = read_limited(path, 4 * LONGEST)
    except FileNotFoundError:
        return Found("", None)
    except OSError as error:
        raise UserError(f"{name} cannot be shown: {inert_line(error.strerror or str(error))}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text (byte {error.start:,}): it is not edited here.") from None
    windows = "\r\n" in text
    text = text.replace("\r\n", "\n")
    if len(text) > LONGEST:
        raise UserError(f"{name} has {len(text):,} characters, more than {LONGEST:,}: edit it with an editor.")
    if inert(text, tabs=True) != text:
        raise UserError(f"{name} has control characters in it, which no terminal should get: edit it with an editor.")
    return Found(text, signature, windows)
