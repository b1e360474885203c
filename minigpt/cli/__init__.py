"""`minigpt`: train, generate and list from the command line."""

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Literal

from minigpt import __version__
from minigpt.errors import UserError

USAGE = """\
usage: minigpt COMMAND ...

  minigpt train CONFIG [--section.key VALUE ...]   train a preset or a TOML file without a screen
  minigpt train --resume RUN                       go on with a run that was interrupted
  minigpt generate RUN --prompt TEXT [...]         let a run's model continue a text
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
            code[0] = _COMMANDS[command](arguments[1:])
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
    except KeyboardInterrupt:
        code[0] = 130


# ── train ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_TRAIN_USAGE = """\
usage: minigpt train CONFIG [--section.key VALUE ...]
       minigpt train --resume RUN

CONFIG is a preset's name (`minigpt presets` lists them) or a TOML file; options overrule what it says.
RUN is the directory of a run or its name (`minigpt runs` lists them).
The first Ctrl+C saves a checkpoint and ends, the second ends at once.
"""


def _train(arguments: list[str]) -> int:
    from minigpt.inert import inert_line

    if not arguments or {"-h", "--help"} & set(arguments):
        from minigpt.options import options_help

        print(_TRAIN_USAGE + "\n" + options_help(), end="")
        return 0 if arguments else 2
    resume = _take_resume(arguments)
    if resume is None and arguments[0].startswith("-"):
        raise UserError(
            f"{inert_line(arguments[0])}: the preset or TOML file comes first: minigpt train CONFIG [--option ...]"
        )
    from minigpt.headless import run_headless
    from minigpt.session import TrainingSession

    if resume is not None:
        from minigpt.rundir import RunDirectory

        if arguments:
            raise UserError(
                f"{inert_line(arguments[0])}: --resume goes on with the run's own configuration and takes no options"
            )
        return run_headless(TrainingSession(resume=RunDirectory.open(resume)))
    from minigpt.configfile import load_config
    from minigpt.options import parse_overrides
    from minigpt.presets import find_target

    config = load_config(arguments[0], parse_overrides(arguments[1:]))
    return run_headless(TrainingSession(config=config, preset=find_target(arguments[0]).stem))


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


# ── generate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _generate(arguments: list[str]) -> int:
    import tyro

    from minigpt.generate_options import GenerateOptions

    options = tyro.cli(GenerateOptions, args=arguments, prog="minigpt generate")
    problems = [
        f"--{name.replace('_', '-')} {getattr(options, name)}: must be {what}"
        for name, what, valid in (
            ("max_new_tokens", "between 1 and 1000000", 1 <= options.max_new_tokens <= 10**6),
            ("temperature", "between 0 and 10", 0 <= options.temperature <= 10),
            ("top_k", "0 or more", options.top_k >= 0),
            ("seed", "between 0 and 2⁶³-1", 0 <= options.seed < 2**63),
        )
        if not valid
    ]
    if problems:
        raise UserError("\n  ".join(problems))
    from minigpt.rundir import RunDirectory

    run = RunDirectory.open(options.run)
    checkpoint = run.checkpoint(options.checkpoint)
    from minigpt.checkpoint import load_for_generation
    from minigpt.config import DeviceConfig
    from minigpt.device import choose_device
    from minigpt.generate import generate
    from minigpt.prompt import typed_prompt
    from minigpt.sampling import Sampling

    device = choose_device(DeviceConfig.model_validate({"type": options.device}))
    model, tokenizer = load_for_generation(run, checkpoint, device.type)
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_k, options.seed)
    prompt = typed_prompt(options.prompt)
    pieces = generate(model, tokenizer, prompt, sampling)
    first = next(pieces, "")  # an unusable prompt is refused before anything is printed
    for text in _printable(chain([prompt, first], pieces)):
        sys.stdout.write(text)
        sys.stdout.flush()
    print()
    return 0


def _printable(pieces: Iterable[str]) -> Iterator[str]:
    from minigpt.inert import inert

    # A carriage return waits for what comes next: a line feed makes a mere end of line of the two.
    held = ""
    for piece in pieces:
        text = held + piece
        held = "\r" if text.endswith("\r") else ""
        yield inert(text.removesuffix("\r"), tabs=True)
    yield inert(held)


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _runs(arguments: list[str]) -> int:
    _no_arguments("runs", arguments)
    from minigpt.inert import inert_line
    from minigpt.paths import runs_dir
    from minigpt.run_list import RunList, age, now

    rows = [
        (
            inert_line(run.run.name),
            str(run.state),
            "–" if run.step is None else f"{run.step:,}",
            "–" if run.train_loss is None else f"{run.train_loss:.4f}",
            "–" if run.val_loss is None else f"{run.val_loss:.4f}",
            "–" if run.best is None else f"{run.best[1]:.4f} at {run.best[0]:,}",
            age(now() - run.written),
        )
        for run in RunList().read()
    ]
    if not rows:
        print(f"no runs in {inert_line(str(runs_dir()))}; start one with: minigpt-tui quickstart")
        return 0
    _print_table(
        ("name", "state", "step", "train loss", "val loss", "best val loss", "age"),
        rows,
        right={2, 3, 4, 5, 6},
        wraps=0,
    )
    return 0


def _presets(arguments: list[str]) -> int:
    _no_arguments("presets", arguments)
    from minigpt.configfile import load_config
    from minigpt.corpus import vocab_size_of
    from minigpt.model import count_parameters
    from minigpt.presets import list_presets

    rows = []
    for preset in list_presets():
        config = load_config(preset.path)
        try:
            parameters = f"{count_parameters(config.model, vocab_size_of(config)):,}"
        except UserError:
            parameters = "no corpus"  # such as a damaged file: training says what is wrong with it
        rows.append((preset.name, parameters, config.data.corpus, f"{config.train.max_steps:,}", preset.about))
    _print_table(("name", "parameters", "corpus", "steps", "what it is for"), rows, right={1, 3}, wraps=4)
    return 0


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: set[int], wraps: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(head):
        # Where it is narrow, one column is folded: nothing is cut that somebody may have to type.
        side: Literal["left", "right"] = "right" if index in right else "left"
        table.add_column(title, justify=side, no_wrap=index != wraps, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    # A file has no width: whole lines there, for grep and awk.
    Console(width=None if sys.stdout.isatty() else 240).print(table)


def _no_arguments(command: str, arguments: list[str]) -> None:
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        raise SystemExit(0)
    if arguments:
        from minigpt.inert import inert_line

        raise UserError(f"{inert_line(arguments[0])}: `minigpt {command}` takes no arguments")


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "generate": _generate,
    "runs": _runs,
    "presets": _presets,
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
