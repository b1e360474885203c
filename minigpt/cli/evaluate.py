"""`minigpt evaluate`."""

import os
import sys
import time
from typing import Any, Literal

from pydantic import Field

from minigpt.config import Section
from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.paths import expand_home
from minigpt.rundir import RunDirectory

_USAGE = """\
usage: minigpt evaluate RUN [--split val|train|FILE] [--checkpoint last|best|STEP|PATH] [--option VALUE ...]

Measures how well the model of a run predicts a text: negative log-likelihood (NLL), perplexity, bits per character
and per byte, next-token accuracy. Every token but the first is predicted once, in windows of the model's context.
The result is kept in the run's evaluations/, the newest one in evaluation_metrics.json.

"""


class EvaluateOptions(Section):
    """What is evaluated, and where."""

    split: str = Field(default="val", min_length=1)
    """A split of the run's corpus, val or train, or a text file; ./val for a file of that name."""
    checkpoint: str = ""
    """last, best, a step, or the path of a checkpoint's directory; if not given, best, or last if there is no best."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the best there is."""
    unknown: Literal["refuse", "replace", "drop"] = "refuse"
    """What becomes of characters in FILE that the model has never seen."""
    output: str = ""
    """A file to write evaluation_metrics.json to besides."""


def evaluate_run(arguments: list[str]) -> int:
    from minigpt.cli.arguments import help_of, parse, wants_help

    if not arguments or wants_help(arguments):
        print(_USAGE + help_of(EvaluateOptions), end="")
        return 0 if arguments else 2
    names, options = parse(EvaluateOptions, arguments)
    if len(names) > 1:
        raise UserError(f"{inert_line(names[1])}: one run at a time; a text file is given by --split FILE")
    metrics, run = _evaluate(names[0] if names else None, options)
    for name, value in _table(metrics):
        print(f"{name:<20}{value}")
    _keep(run, metrics, options.output)
    return 0


def _evaluate(name: str | None, options: EvaluateOptions) -> tuple[dict[str, Any], RunDirectory]:
    from minigpt.cli.opening import named_device, named_run, open_model, saying_how_to_go_on
    from minigpt.device import configure_threads
    from minigpt.evaluations import evaluate_file, evaluate_split, metrics_of

    file = None if options.split in {"val", "train"} else expand_home(options.split)
    if file is not None and not os.path.lexists(file):
        raise UserError(f"--split {inert_line(options.split)}: neither val nor train, nor is there such a file")
    run = named_run(name, options.checkpoint, "minigpt evaluate RUN")
    trained = run.config().device
    # As in training, to the last bit: precision and threads are the run's own where the device is.
    same = options.device in {"auto", trained.type} and named_device(options.device).type == trained.type
    device = named_device(options.device, trained.precision if same else "auto")
    configure_threads(trained)
    checkpoint, model, tokenizer = open_model(run, options.checkpoint or _best_or_last(run), device.type)
    progress = _Progress()
    try:
        if file is None:
            split: Literal["val", "train"] = "val" if options.split == "val" else "train"
            result = evaluate_split(run, checkpoint, model, tokenizer, split=split, device=device, progress=progress)
        else:
            with saying_how_to_go_on():
                result = evaluate_file(file, model, tokenizer, device, unknown=options.unknown, progress=progress)
    finally:
        progress.clear()
    return metrics_of(run, checkpoint, result, device), run


def _best_or_last(run: RunDirectory) -> str:
    try:
        run.checkpoint("best")
    except UserError:
        return "last"
    return "best"


def _table(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    def shown(name: str, form: str) -> str:
        return "none" if metrics[name] is None else format(metrics[name], form)

    text = inert_line(metrics["corpus"])
    return [
        ("run", inert_line(metrics["run"])),
        ("checkpoint", inert_line(metrics["checkpoint"])),
        ("text", text if metrics["split"] == "file" else f"{text}, {metrics['split']} split"),
        *([("", metrics["altered"])] if metrics["altered"] else []),
        ("NLL", f"{shown('nll', '.4f')} nats per token"),
        ("perplexity", shown("perplexity", ",.4f")),
        ("bits per character", shown("bits_per_character", ".4f")),
        ("bits per byte", shown("bits_per_byte", ".4f")),
        ("accuracy", shown("accuracy", ".2%")),
        ("tokens", shown("tokens", ",")),
        ("characters", shown("characters", ",")),
        ("seconds", f"{metrics['seconds']:.1f} on {metrics['device']}, {metrics['precision']}"),
    ]


def _keep(run: RunDirectory, metrics: dict[str, Any], output: str) -> None:
    from minigpt.evaluations import keep, write_metrics

    try:
        print(f"{'written to':<20}{inert_line(str(keep(run, metrics)))}")
    except OSError as error:  # somebody else's run can be evaluated all the same
        print(f"not kept in {inert_line(str(run.evaluations_dir))}: {error.strerror}", file=sys.stderr)
    if output:
        path = expand_home(output)
        try:
            if path.is_dir():
                path /= "evaluation_metrics.json"
            write_metrics(path, metrics)
        except OSError as error:
            raise UserError(f"{inert_line(output)}: cannot be written: {error.strerror}") from None
        print(f"{'written to':<20}{inert_line(str(path))}")


class _Progress:
    """What is being done, in a line on stderr, once it has taken a second."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + 1.0
        self._shown = False

    def __call__(self, words: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.1 if self._terminal else 10.0)
        self._shown = True
        print(
            f"\r{inert_line(words, 78)}\x1b[K" if self._terminal else words,
            end="" if self._terminal else "\n",
            file=sys.stderr,
        )
        sys.stderr.flush()

    def clear(self) -> None:
        """Leave nothing of it on a terminal."""
        if self._shown and self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
