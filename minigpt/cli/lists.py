"""`minigpt runs` and `minigpt presets`."""

import sys
from collections.abc import Sequence
from typing import Literal

from minigpt.errors import UserError

_LEAST_TO_WRAP = 40  # columns for the text that is wrapped


def runs(arguments: list[str]) -> int:
    _no_arguments("runs", arguments)
    from minigpt.inert import inert_line
    from minigpt.paths import runs_dir
    from minigpt.run_list import RunList, age, now, size_in_words

    rows = [
        (
            inert_line(run.run.name),
            str(run.state),
            "–" if run.step is None else f"{run.step:,}",
            f"{run.max_steps:,}" if run.max_steps else "–",
            "–" if run.train_loss is None else _loss(run.train_loss),
            "–" if run.val_loss is None else _loss(run.val_loss),
            "–" if run.best is None else f"{_loss(run.best[1])} at {run.best[0]:,}",
            age(now() - run.written),
            "–" if run.size is None else size_in_words(run.size),
        )
        for run in RunList().read()
    ]
    if not rows:
        print(f"no runs in {inert_line(str(runs_dir()))}; start one with: minigpt-tui quickstart")
        return 0
    print_table(
        ("name", "state", "step", "of", "train loss", "val loss", "best val loss", "age", "size"),
        rows,
        right={2, 3, 4, 5, 6, 7, 8},
        wraps=0,
        spare=(3, 4, 5, 8, 7, 6),
    )
    return 0


def _loss(loss: float) -> str:
    return f"{loss:.4f}" if abs(loss) < 1e6 else f"{loss:.3g}"


def presets(arguments: list[str]) -> int:
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
        rows.append((preset.name, parameters, config.data.corpus, config.train.length, preset.about))
    print_table(("name", "parameters", "corpus", "length", "what it is for"), rows, right={1, 3}, wraps=4, spare=(2, 1))
    return 0


def print_table(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: set[int], wraps: int, spare: Sequence[int] = ()
) -> None:
    """Print a table. Where it is narrow the columns in `spare` are left out, in that order, and one is wrapped."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A file has no width: whole lines there, for grep and awk.
    console = Console(width=None if sys.stdout.isatty() else 240)
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    widths[wraps] = min(widths[wraps], _LEAST_TO_WRAP)
    shown = list(range(len(head)))
    for index in spare:
        if sum(widths[kept] + 3 for kept in shown) > console.width:
            shown.remove(index)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index in shown:
        side: Literal["left", "right"] = "right" if index in right else "left"
        # Nothing is cut that somebody may have to type.
        table.add_column(head[index], justify=side, no_wrap=index != wraps, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[index]) for index in shown))
    console.print(table)


def _no_arguments(command: str, arguments: list[str]) -> None:
    if arguments in (["-h"], ["--help"]):
        from minigpt.cli import USAGE

        print(USAGE, end="")
        raise SystemExit(0)
    if arguments:
        from minigpt.inert import inert_line

        raise UserError(f"{inert_line(arguments[0])}: `minigpt {command}` takes no arguments")
