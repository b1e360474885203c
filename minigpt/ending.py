"""The end of a training on a disk that may be full: nothing is left to do but to write, to wait and to obey."""

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from minigpt.errors import UserError
from minigpt.inbox import Inbox
from minigpt.run_log import RunLog
from minigpt.saving import RETRY_INTERVAL, Saver, reason_of

_TRIES = 3  # of who is asked for the end, and must not keep somebody waiting for it


class Ending:
    """Writes the last of a training, again and again while that fails; `obey` does meanwhile what is asked for."""

    def __init__(self, inbox: Inbox, saver: Saver, log: RunLog, obey: Callable[[], None]) -> None:
        self._inbox = inbox
        self._saver = saver
        self._log = log
        self._obey = obey

    def save(self, begin: Callable[[], int]) -> None:
        """Save until it is done; `begin` begins to, and tells of which step. Raises UserError if somebody waits."""
        tries = 0
        while True:
            step = begin()
            if self._saver.finish():
                return
            tries += 1
            if self._inbox.stop.is_set() and tries >= _TRIES:
                reason = reason_of(self._saver.error) if self._saver.error else ""
                raise UserError(f"step {step:,} could not be saved: {reason}; {self._saver.kept()}")
            self._wait_for_room()

    def tell(self, step: int, event: str, **values: Any) -> None:
        """Say how it ended. This waits for room too: without these words the run would seem to have crashed."""
        self._log.event(step, event, **values)
        tries = 0
        while (error := self._log.error) is not None and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            self._saver.look()
            tries += 1
            if self._inbox.stop.is_set() and tries >= _TRIES:
                return
            self._wait_for_room()
            with suppress(OSError):
                self._log.flush()

    def _wait_for_room(self) -> None:
        if self._inbox.stop.is_set():
            time.sleep(1)
            return
        again_at = time.monotonic() + RETRY_INTERVAL / 3
        while time.monotonic() < again_at and not self._inbox.wait():
            self._obey()
