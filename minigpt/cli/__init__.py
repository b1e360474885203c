"""`minigpt`: the command line. One module for each command; what they share is here."""

import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minigpt import __version__
from minigpt.errors import UserError

USAGE = """\
usage: minigpt COMMAND ...

  minigpt train CONFIG [--section.key VALUE ...]   train a preset or a TOML file without a screen
  minigpt train --resume RUN                       go on with a run that was interrupted
  minigpt train --detach CONFIG [...]              in a process that outlives the terminal; also with --resume
  minigpt generate RUN --prompt TEXT [...]         let a run's model continue a text
  minigpt evaluate RUN [--split val|train|FILE]    loss, perplexity, bits per character and byte, accuracy
  minigpt estimate CONFIG [--section.key VALUE]    parameters, memory and time, before anything is trained
  minigpt plot RUN... [-o FILE]                    loss and perplexity curves as a picture
  minigpt data [fetch NAME]                        the corpora and vocabularies known by name, and where they are
  minigpt runs                                     the runs: name, state, step, losses, age
  minigpt presets                                  the presets, with parameters and what each is for
  minigpt COMMAND --help                           all options of a command

With a screen: minigpt-tui
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for what the user can mend, 1 for a crash in training."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with user_errors("minigpt") as code:
        require_platform()
        command = arguments[0] if arguments else "--help"
        if command in {"-h", "--help", "help"}:
            print(USAGE, end="")
        elif command == "--version":
            print(f"minigpt-tui {__version__}")
        elif command in _COMMANDS:
            module, _, function = _COMMANDS[command].partition(":")
            code[0] = getattr(importlib.import_module(module), function)(arguments[1:])
        else:
            from minigpt.inert import inert_line

            raise UserError(f"{inert_line(command)}: no such command; there are {', '.join(_COMMANDS)}")
    return code[0]


def require_platform() -> None:
    """Raise UserError where there is no fcntl or termios: locks and terminals are built on them."""
    if importlib.util.find_spec("fcntl") is None or importlib.util.find_spec("termios") is None:
        raise UserError("needs Linux, macOS or, on Windows, WSL")


@contextmanager
def user_errors(program: str) -> Iterator[list[int]]:
    """Turn a UserError into one message on stderr and exit code 2, which the yielded list holds at its place 0."""
    code = [0]
    try:
        yield code
        sys.stdout.flush()
    except UserError as error:
        code[0] = 2
        with suppress(OSError):
            print(f"{program}: {error}", file=sys.stderr)
    except BrokenPipeError:
        # The reader of the pipe has seen enough; Python must not try to flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        # Standard output on a full disk, say; Python must not try again at exit.
        code[0] = 2
        with suppress(OSError):
            print(f"{program}: cannot write: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt:
        code[0] = 130


# Where each command is: what one of them imports should not hold up the others.
_COMMANDS = {
    "train": "minigpt.cli.train:train",
    "generate": "minigpt.cli.generate:generate_text",
    "evaluate": "minigpt.cli.evaluate:evaluate_run",
    "estimate": "minigpt.cli.estimate:estimate_config",
    "plot": "minigpt.cli.plot:plot_runs",
    "data": "minigpt.cli.data:data",
    "runs": "minigpt.cli.lists:runs",
    "presets": "minigpt.cli.lists:presets",
}


def prepare_output() -> None:
    """Make standard output one that can be printed to, whatever the process was started with."""
    if sys.stdout is None:  # closed by whoever started it
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not in UTF-8 shows a ? for what it has not


def entry_point() -> None:
    """The `minigpt` script."""
    prepare_output()
    raise SystemExit(main())
