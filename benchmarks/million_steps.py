"""How long a run of a million logged steps takes to open: to its first plot, and until all of it is read.

    python benchmarks/million_steps.py                 a million rows, each way three times
    python benchmarks/million_steps.py --rows 200000 --rounds 1

It makes such a run in a temporary directory (270 MB, and 80 MB for its cache). Each measurement is a process of its
own, whose event loop polls the run as the dashboard does, draws it, and ticks each millisecond: what a tick comes late
is what a key would wait for. The file is in the system's page cache, as after it was written.
"""

import argparse
import asyncio
import json
import math
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

POLL_INTERVAL = 0.01  # seconds, as the dashboard does while it reads
WAYS = {
    "first": "opened for the first time",
    "kept": "opened again, from its cache",
    "rows": "row by row with json.loads, in one go",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("WAY", "RUN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], Path(options.child[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "million")
        write_run(run, options.rows)
        size = (run / "metrics.jsonl").stat().st_size
        print(f"{options.rows:,} rows, {size / 1e6:.0f} MB; the median of {options.rounds}\n")
        titles = (
            ("first plot", 12),
            ("loaded", 10),
            ("longest hold", 14),
            ("all drawn", 13),
            ("memory", 10),
            ("reader", 10),
        )
        print(" " * 40 + "".join(f"{title:>{width}}" for title, width in titles))
        for way, words in WAYS.items():
            rounds = []
            for _ in range(options.rounds):
                if way == "first":
                    shutil.rmtree(run / "cache", ignore_errors=True)
                rounds.append(in_child(way, run))
            print(f"{words:40}" + row_of({key: median(each[key] for each in rounds) for key in rounds[0]}))
        kept = sum(path.stat().st_size for path in (run / "cache").iterdir())
        print(
            f"\nThe cache takes {kept / 1e6:.0f} MB. The memory is the most at any time, of this process and of the one"
        )
        print(f"that reads; {rounds[0]['before']:.0f} MiB of it are there before the run is opened.")


def row_of(result: dict[str, float]) -> str:
    hold = f"{1e3 * result['hold']:11.0f} ms" if result["hold"] else f"{'–':>14}"
    drawing = f"{1e3 * result['drawing']:10.0f} ms" if result["drawing"] else f"{'–':>13}"
    plots = f"{result['first']:10.2f} s{result['loaded']:8.2f} s{hold}{drawing}"
    return f"{plots}" + "".join(f"{result[key]:6.0f} MiB" for key in ("memory", "reader"))


def in_child(way: str, run: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", way, str(run)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    result: dict[str, float] = json.loads(said)
    return result


# ── one measurement ───────────────────────────────────────────────────────────────────────────────────────────────


def measure(way: str, path: Path) -> dict[str, float]:
    import textual.app  # noqa: F401 - what the program has loaded anyway

    from minigpt.rundir import RunDirectory
    from tui.charts.curves import picture_of
    from tui.charts.plot import draw
    from tui.charts.quantities import LOSS, quantities
    from tui.charts.traces import Traces
    from tui.charts.view import ChartView
    from tui.run.following import Following

    def plot(following: Following) -> None:
        loss = quantities(["train_loss", "val_loss"])[LOSS]
        draw(picture_of([Traces(following)], loss, ChartView(), None), 120, 18)

    result = {"before": memory(), "first": 0.0, "hold": 0.0}
    began = time.perf_counter()
    if way == "rows":
        read_row_by_row(path / "metrics.jsonl")
        result["first"] = result["loaded"] = time.perf_counter() - began
        return result | {"memory": memory(), "reader": 0.0, "drawing": 0.0}
    following = Following(RunDirectory(path), keep_cache=True)

    async def opening() -> None:
        ticking = asyncio.create_task(tick(result))
        while following.behind:
            grown, _ = following.poll()
            if grown and not result["first"] and following.is_preview:
                plot(following)
                result["first"] = time.perf_counter() - began
            await asyncio.sleep(POLL_INTERVAL)
        result["loaded"] = time.perf_counter() - began
        ticking.cancel()

    asyncio.run(opening())
    began = time.perf_counter()
    plot(following)
    result["drawing"] = time.perf_counter() - began
    result["first"] = result["first"] or result["loaded"] + result["drawing"]
    following.close()
    return result | {"memory": memory(), "reader": memory(resource.RUSAGE_CHILDREN)}


async def tick(result: dict[str, float]) -> None:
    before = time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        result["hold"] = max(result["hold"], now - before - 0.001)
        before = now


def memory(whose: int = resource.RUSAGE_SELF) -> float:
    """The most that this process has had in memory so far, or the largest that it started, in MiB."""
    return resource.getrusage(whose).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def read_row_by_row(path: Path) -> None:
    from minigpt.metrics import Metrics

    metrics = Metrics(path)
    with path.open("rb") as file:
        for line in file:
            metrics.take([json.loads(line)])


# ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def write_run(path: Path, rows: int) -> None:
    """A run as the trainer writes it, that crashed once on its way and was resumed."""
    path.mkdir()
    (path / "config.toml").write_text(f"[train]\nmax_steps = {rows}\n")
    dice = random.Random(1)
    crashed, resumed_from = rows * 6 // 10, rows * 59 // 100
    with (path / "metrics.jsonl").open("w") as file:
        for attempt, first, end in ((1, 0, crashed), (2, resumed_from + 1, rows)):
            for step in range(first, end):
                resumed = {"resumed_from": resumed_from} if attempt > 1 and step == first else {}
                file.write(
                    json.dumps({"step": step, "attempt": attempt, **resumed, **values_at(step, rows, dice)}) + "\n"
                )
    events: list[dict[str, Any]] = [
        {"event": "started", "attempt": 1, "step": 0, "max_steps": rows},
        {"event": "started", "attempt": 2, "step": resumed_from, "resumed_from": resumed_from, "max_steps": rows},
        {"event": "finished", "attempt": 2, "step": rows - 1, "reason": "steps"},
    ]
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def values_at(step: int, rows: int, dice: random.Random) -> dict[str, float]:
    loss = 1.05 + 3.1 * math.exp(-9 * step / rows)
    values: dict[str, float] = {"tokens": step * 8192, "epoch": step / 122.3}
    if step:
        values |= {"train_loss": loss + dice.gauss(0, 0.04), "learning_rate": 1e-3 * (1 - step / (rows + 1))}
        values |= {"grad_norm": dice.random()}
    values["elapsed"] = round(step * 0.0312, 3)
    if step:
        values["tokens_per_second"] = round(dice.gauss(250_000, 4000), 1)
    values["memory_rss"] = 412_000_000 + 4096 * dice.randrange(1000)
    if step % 100 == 0:
        for split in ("train_eval", "val"):
            told = loss + dice.gauss(0.05, 0.01)
            values |= {f"{split}_loss": told, f"{split}_perplexity": math.exp(told)}
            values |= {f"{split}_accuracy": math.exp(-0.4 * told), f"{split}_bpc": told / math.log(2)}
            values[f"{split}_bpb"] = told / math.log(2)
    return values


if __name__ == "__main__":
    main()
