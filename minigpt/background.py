"""`python -m minigpt.background`: a training that no terminal reaches. `minigpt.detaching` starts it.

Its arguments are the descriptor of the pipe on which it says how it begins, that of an inherited lock or `-`, and then
those of `minigpt train`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.signals import AGAIN_AFTER

if TYPE_CHECKING:
    from minigpt.rundir import RunDirectory
    from minigpt.session import TrainingSession

_LOOK_INTERVAL = 0.1  # seconds, until the first step


def main(arguments: Sequence[str]) -> int:
    """Train, and return the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    report = int(arguments[0])
    lock = None if arguments[1] == "-" else int(arguments[1])
    for descriptor in (report, *([] if lock is None else [lock])):
        os.set_inheritable(descriptor, False)  # a program that it starts must not keep the run alive
    reporter = _Reporter(report)
    from minigpt.cli.train import session_of

    try:
        return _train(session_of(list(arguments[2:]), lock), reporter)
    except UserError as error:
        print(f"minigpt: {error}", file=sys.stderr, flush=True)
        reporter.say(error=str(error), code=2)
        return 2


def _train(session: "TrainingSession", reporter: "_Reporter") -> int:
    from minigpt.epilogue import closing_words

    received: list[int] = []
    first_at = 0.0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        if not received:
            received.append(number)
            first_at = time.monotonic()
            session.request_stop()
        elif time.monotonic() - first_at >= AGAIN_AFTER:
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    session.start()
    has_log = False
    while session.is_alive():
        if session.run_directory is not None and not has_log:
            has_log = True
            with suppress(OSError):  # on a full disk it trains without
                _print_into_log(session.run_directory)
        reporter.look(session)
        session.join(_LOOK_INTERVAL if reporter.is_open or not has_log else 1.0)
    if isinstance(session.error, UserError):
        raise session.error
    words = "\n".join(closing_words(session))
    print(words, flush=True)
    if session.error is not None:
        reporter.say(error=words, code=1)
        return 1
    reporter.look(session)
    reporter.say(ended=words)
    return 128 + received[0] if received and session.outcome == "stopped" else 0


def _print_into_log(run: "RunDirectory") -> None:
    """Let all that is printed go into the run's console.log, after what was printed before there was one."""
    with run.console_file.open("ab", buffering=0) as log:
        log.write(os.pread(1, os.fstat(1).st_size, 0))
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)


class _Reporter:
    """Says how the training begins, up to its first step, to whoever waits for that."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._phase = ""
        self._run: RunDirectory | None = None
        self.is_open = True
        """Whether the first step is still to come."""

    def look(self, session: "TrainingSession") -> None:
        """Say what is new."""
        if not self.is_open:
            return
        steps = session.steps_done  # asked first: a step is trained in a run that is known
        if session.phase not in {self._phase, "ended"}:
            self._phase = session.phase
            self.say(phase=self._phase)
        if session.run_directory is not None and self._run is None:
            self._run = session.run_directory
            self.say(run=str(self._run.path))
        if steps:
            self.say(step=steps)
            self.is_open = False
            os.close(self._descriptor)

    def say(self, **report: str | int) -> None:
        """Say one thing, if anybody is waiting."""
        if self.is_open:
            with suppress(OSError):  # who waited is gone: the training is not for them alone
                os.write(self._descriptor, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
