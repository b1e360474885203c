"""What is asked of a training while it goes on: the end, a successor, and the commands of viewers."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from minigpt.commands import Command, take_commands

POLL_INTERVAL = 0.05  # seconds between two looks into commands/


class Inbox:
    """Looks into commands/ and keeps what lies there until it is taken out.

    `stop` asks for the end and `detach` for a successor. Whoever runs the training sets them; a command to stop, the
    first one of which is `stop_command`, sets `stop` too.
    """

    def __init__(self, directory: Path, stop: threading.Event, detach: threading.Event) -> None:
        self.stop = stop
        self.detach = detach
        self.stop_command: Command | None = None
        self._directory = directory
        self._waiting: deque[Command] = deque()
        self._next_look = 0.0

    def look(self) -> None:
        """Collect what has come, unless the last look was a moment ago."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + POLL_INTERVAL
        for command in take_commands(self._directory):
            if command.name == "stop" and self.stop_command is None:
                self.stop_command = command
                self.stop.set()
            else:
                self._waiting.append(command)

    def take(self) -> Iterator[Command]:
        """Take out, one by one, what was collected; another command to stop is among it, for an answer."""
        while self._waiting:
            yield self._waiting.popleft()

    def wait(self) -> bool:
        """Wait for the time between two looks; whether the end is asked for, which cuts it short."""
        return self.stop.wait(POLL_INTERVAL)
