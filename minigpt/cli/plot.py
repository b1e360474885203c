"""`minigpt plot`."""

from pathlib import Path

from pydantic import Field

from minigpt.config import Section
from minigpt.errors import UserError
from minigpt.files import write_atomically
from minigpt.inert import inert_line
from minigpt.metrics import Metrics
from minigpt.paths import expand_home
from minigpt.rundir import RunDirectory

_USAGE = """\
usage: minigpt plot RUN... [-o FILE]

Draws the loss and the perplexity of one or several runs, of training and validation, as a picture.

"""

# How a file of each kind begins.
_KINDS = {".png": (b"\x89PNG",), ".svg": (b"<?xml", b"<svg"), ".pdf": (b"%PDF",)}


class PlotOptions(Section):
    """Where the picture goes."""

    output: str = Field(default="training_metrics.png", min_length=1)
    """The picture's file: .png, .svg or .pdf."""


def plot_runs(arguments: list[str]) -> int:
    from minigpt.cli.arguments import help_of, parse, wants_help

    if not arguments or wants_help(arguments):
        print(_USAGE + help_of(PlotOptions), end="")
        return 0 if arguments else 2
    names, options = parse(PlotOptions, arguments)
    if not names:
        raise UserError("which run? minigpt plot RUN...; `minigpt runs` lists the runs")
    path = expand_home(options.output)
    _check(path)
    try:
        from minigpt.figure import Curves, has_curves, picture
    except ImportError:
        raise UserError("minigpt plot needs matplotlib: pip install 'minigpt-tui[plot]'") from None
    curves = [Curves(name, Metrics(run.metrics_file).read_all()) for name, run in _named(names).items()]
    for run in curves:
        if not has_curves(run.metrics):
            raise UserError(f"{inert_line(run.name)}: has no losses to draw yet")
    content = picture(curves, path.suffix[1:].lower())
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{inert_line(str(path))}: cannot be written: {error.strerror}") from None
    print(f"written to {inert_line(str(path))}")
    return 0


def _named(given: list[str]) -> dict[str, RunDirectory]:
    # By its own name, or as it was typed where two have the same one; a run given twice is drawn once.
    runs = {run.path.resolve(): (text, run) for text in given for run in [RunDirectory.open(text)]}
    names = [run.name for _, run in runs.values()]
    return {run.name if names.count(run.name) == 1 else text: run for text, run in runs.values()}


def _check(path: Path) -> None:
    # A slip such as `-o corpus.svg` must not cost a file that is no picture.
    shown = inert_line(str(path))
    signatures = _KINDS.get(path.suffix.lower())
    if signatures is None:
        raise UserError(f"{shown}: the name must end in {', '.join(_KINDS)}, which says what kind of picture it is")
    try:
        if path.is_dir():
            raise UserError(f"{shown}: is a directory")
        if path.exists():
            with path.open("rb") as file:
                begins = file.read(8)
            if begins and not begins.startswith(signatures):
                raise UserError(f"{shown}: exists and is no such picture; choose another name with -o")
    except OSError as error:
        raise UserError(f"{shown}: cannot be written: {error.strerror}") from None
