"""`minigpt train`."""

import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from minigpt.errors import UserError

if TYPE_CHECKING:
    from minigpt.session import TrainingSession

_TRAIN_USAGE = """\
usage: minigpt train [--detach] CONFIG [--section.key VALUE ...]
       minigpt train --resume RUN [--section.key VALUE ...]

CONFIG is a preset's name (`minigpt presets` lists them) or a TOML file; options overrule what it says.
RUN is the directory of a run or its name (`minigpt runs` lists them). Options change its settings from here on, such as
--train.max-steps to make it longer; those of the model and the text, which a run must keep, are refused.
The first Ctrl+C saves a checkpoint and ends, the second ends at once.
With --detach, also with --resume, a process of its own trains, which outlives the terminal: the shell is back once
that has trained its first step, and Ctrl+C before that ends it. `minigpt-tui RUN` watches and steers it.
"""


def train(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        from minigpt.options import options_help

        print(_TRAIN_USAGE + "\n" + options_help(), end="")
        return 0 if arguments else 2
    if "--detach" in arguments:
        arguments.remove("--detach")
        return _train_detached(arguments)
    from minigpt.headless import run_headless

    return run_headless(session_of(arguments))


def session_of(arguments: list[str], lock_descriptor: int | None = None) -> "TrainingSession":
    """The training that the arguments of `minigpt train` mean. Raises UserError.

    `lock_descriptor` is the inherited lock on a run that is resumed.
    """
    resume = _take_resume(arguments)
    if not arguments and resume is None:
        raise UserError("--detach: which preset or TOML file? minigpt train --detach CONFIG [--option ...]")
    if resume is None and arguments[0].startswith("-"):
        from minigpt.options import misplaced_option

        raise UserError(misplaced_option(arguments[0], "minigpt train CONFIG", ("--resume", "--detach")))
    from minigpt.options import parse_overrides
    from minigpt.session import TrainingSession

    if resume is not None:
        from minigpt.rundir import RunDirectory

        changes = parse_overrides(arguments) if arguments else {}
        return TrainingSession(resume=RunDirectory.open(resume), changes=changes, lock_descriptor=lock_descriptor)
    from minigpt.configfile import load_config
    from minigpt.presets import find_target

    config = load_config(arguments[0], parse_overrides(arguments[1:]))
    return TrainingSession(config=config, preset=find_target(arguments[0]).stem)


def _train_detached(arguments: list[str]) -> int:
    from minigpt.detaching import Detached, start_detached

    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        begun = start_detached(arguments, stop, tell=_tell)
    finally:
        _tell("")
        for number, handler in previous.items():
            signal.signal(number, handler)
    if isinstance(begun, Detached):
        from minigpt.epilogue import detached_words

        print("\n".join(detached_words(begun.run, begun.pid)))
        return 0
    if begun.code == 2:
        raise UserError(begun.reason)
    print(begun.reason, file=sys.stderr)
    return begun.code


def _tell(words: str) -> None:
    """Say what is being done, in one line that changes, or in a log in a line of its own; nothing takes it away."""
    from minigpt.inert import inert_line

    with suppress(OSError):  # a terminal that is gone
        if sys.stderr.isatty():
            print("\r\x1b[K" + (f"{inert_line(words, 70)} ..." if words else ""), end="", file=sys.stderr, flush=True)
        elif words and ": " not in words:  # behind the colon is how far it has come
            print(f"{inert_line(words)} ...", file=sys.stderr, flush=True)


def _take_resume(arguments: list[str]) -> str | None:
    for index, argument in enumerate(arguments):
        option, has_value, value = argument.partition("=")
        if option == "--resume":
            if not has_value and index + 1 == len(arguments):
                raise UserError("--resume: needs the directory or the name of a run; `minigpt runs` lists them")
            resumed = value if has_value else arguments[index + 1]
            del arguments[index : index + (1 if has_value else 2)]
            return resumed
    return None
