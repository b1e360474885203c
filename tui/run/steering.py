"""Commands that were left for a trainer and have no answer yet."""

from minigpt.commands import CommandName, send_command
from minigpt.journal import Row, count_in, text_in
from minigpt.rundir import RunDirectory

ANSWER_PATIENCE = 10.0  # seconds
_LONGEST_MESSAGE = 500  # characters

_ANSWERS = {
    "paused": "Paused.",
    "continued": "Training goes on.",
    "saved": "Saved a checkpoint at step {step:,}.",
    "sampled": "Wrote a sample at step {step:,}.",
    "stopped": "Saved and stopped at step {step:,}.",
}


class Steering:
    """Sends commands to whoever trains a run, each kind once until it is answered. Times are `time.monotonic`'s."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[CommandName, float]] = {}
        """Commands by their id, with the time at which the wait for an answer ends."""
        self._given_up: set[str] = set()
        """Those whose answer may still come: a slow disk takes its time."""

    def send(self, run: RunDirectory, command: CommandName, now: float) -> None:
        """Leave a command for the trainer. Raises OSError."""
        self._waiting[send_command(run.commands_dir, command)] = (command, now + ANSWER_PATIENCE)

    def is_waiting(self, *commands: CommandName) -> bool:
        """Whether one of these commands, or any if none is named, has no answer yet."""
        return any(not commands or name in commands for name, _ in self._waiting.values())

    def answer(self, event: Row) -> str | None:
        """What an event says to the command that it answers; None if it answers none of these."""
        command = event.get("command")
        if not isinstance(command, str) or command not in {*self._waiting, *self._given_up}:
            return None
        self._waiting.pop(command, None)
        self._given_up.discard(command)
        name = text_in(event, "event")[:_LONGEST_MESSAGE]
        if known := _ANSWERS.get(name):
            return known.format(step=count_in(event, "step") or 0)
        return text_in(event, "message")[:_LONGEST_MESSAGE] or name  # from a file: not to be taken for a format

    def give_up(self, now: float) -> int:
        """Wait no longer for what is overdue; how many commands that were."""
        overdue = [command for command, (_, end) in self._waiting.items() if now > end]
        for command in overdue:
            del self._waiting[command]
            self._given_up.add(command)
        return len(overdue)

    def forget(self) -> None:
        """Nobody is there any more who could answer."""
        self._waiting.clear()
        self._given_up.clear()
