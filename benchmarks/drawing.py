"""What the dashboard costs: a redraw of its charts, and the training beside it.

    python benchmarks/drawing.py charts                 CPU and bytes of one redraw, beside plotext's
    python benchmarks/drawing.py charts --rows 1000000  the same for a run that has logged so many rows already
    python benchmarks/drawing.py training --rounds 3    throughput, headless against dashboard, by redraw interval

Every measurement runs in a process and a pseudo-terminal of its own, whose output is read and counted.
"""

import argparse
import asyncio
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIZES = ((120, 36), (200, 60))
REDRAWS = 40
INTERVALS = ("headless", "paced", "1", "2", "4", "8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["charts", "training"])
    parser.add_argument("--rows", type=int, default=300, help="that are there before the first redraw")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", default="120x36", help="of the terminal beside the training")
    parser.add_argument("--modes", nargs="+", default=list(INTERVALS), help="headless, paced (the default) or seconds")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(options.child))
    elif options.what == "charts":
        measure_charts(options.rows)
    else:
        measure_training(options)


# ── the measuring side ────────────────────────────────────────────────────────────────────────────────────────────


def measure_charts(rows: int) -> None:
    print(f"{'':24}{'build':>10}{'all CPU':>10}{'sent':>12}   each for one redraw of both charts")
    for size in SIZES:
        for kind in ("own", "plotext"):
            result = in_terminal({"kind": kind, "size": size, "rows": rows}, size)
            sent = result["sent"] / REDRAWS
            build, cpu = result["build"] * 1e3, result["cpu"] * 1e3
            print(f"{size[0]}x{size[1]} {kind:16}{build:7.2f} ms{cpu:7.2f} ms{sent:8.0f} bytes")


def measure_training(options: argparse.Namespace) -> None:
    columns, rows = map(int, options.size.split("x"))
    speeds: dict[str, list[float]] = {mode: [] for mode in options.modes}
    print(f"{'mode':10}{'steps/s':>9}{'CPU s':>8}{'screen':>9}{'sent/s':>10}")
    for _ in range(options.rounds):
        for mode in options.modes:
            result = in_terminal({"kind": "training", "mode": mode, "steps": options.steps}, (columns, rows))
            speed, sent = result["steps_per_second"], result["sent"] / result["seconds"]
            speeds[mode].append(speed)
            print(f"{mode:10}{speed:9.2f}{result['cpu']:8.1f}{result['screen']:9.2%}{sent:10.0f}", flush=True)
    if "headless" in speeds:
        base = median(speeds["headless"])
        for mode, found in speeds.items():
            middle = median(found)
            rounds = ", ".join(f"{one:.2f}" for one in found)
            print(f"{mode:10} median {middle:7.2f} steps/s  lost {1 - middle / base:+.1%}  ({rounds})")


def in_terminal(task: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Run a child in a pseudo-terminal of that size; its result, with the number of bytes it sent."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        task = {**task, "answer": answer.name}
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_ANIMATIONS": "none"}
        process = subprocess.Popen(
            [sys.executable, __file__, "charts", "--child", json.dumps(task)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment,
            start_new_session=True,
        )
        os.close(follower)
        seen = bytearray()

        def drain() -> None:
            while True:
                try:
                    data = os.read(leader, 1 << 16)
                except OSError:
                    return
                if not data:
                    return
                seen.extend(data)

        reader = threading.Thread(target=drain)
        reader.start()
        process.wait()
        reader.join(2)
        os.close(leader)
        text = Path(answer.name).read_text()
    if not text:
        raise SystemExit(f"the measured process failed:\n{seen[-3000:].decode(errors='replace')}")
    result: dict[str, Any] = json.loads(text)
    # Between the two marks lies what the measured part sent.
    marked = seen.split(b"\x1b]7777;mark\x07")
    result["sent"] = len(marked[1]) if len(marked) > 2 else len(seen)
    return result


# ── the measured side ─────────────────────────────────────────────────────────────────────────────────────────────


def child(task: dict[str, Any]) -> None:
    result = train(task) if task["kind"] == "training" else redraw(task)
    Path(task["answer"]).write_text(json.dumps(result))


def redraw(task: dict[str, Any]) -> dict[str, float]:
    """Let both charts grow by a second of training, again and again."""
    import numpy as np
    from textual.app import App, ComposeResult
    from textual_plotext import PlotextPlot

    from minigpt.rundir import RunDirectory
    from tui.app import MiniGPTApp
    from tui.charts.reduce import Points, reduce_points
    from tui.run.following import Following
    from tui.widgets.charts import ChartsPane

    before = task["rows"]
    last = 10 * (before + 4 * REDRAWS)
    end = 10.0 * max(500, 5 * last // 40)
    steps = np.arange(10, last + 10, 10)
    noise = np.random.default_rng(1).normal(0, 0.05, steps.size)
    losses = 1.4 + 3 * np.exp(-steps / 800) + noise
    width, height = int(task["size"][0] * 0.58), (task["size"][1] - 3) // 2
    result: dict[str, float] = {}
    run = RunDirectory(Path(tempfile.mkdtemp(prefix="drawing-")))
    run.config_file.write_text(f"[train]\nmax_steps = {int(end)}\n")
    following = Following(run)

    def grow(first: int, number: int) -> None:
        """Let the file grow to that many rows, and take them in."""
        with run.metrics_file.open("a") as file:
            for index in range(first, number):
                val = f', "val_loss": {losses[index] + 0.1}' if index % 25 == 24 else ""
                file.write(f'{{"step": {steps[index]}, "attempt": 1, "train_loss": {losses[index]}{val}}}\n')
        following.poll()
        while following.behind:
            following.poll()

    class Bench(App[None]):
        CSS_PATH = MiniGPTApp.CSS_PATH
        CSS = (
            f"ChartsPane {{ width: {width}; height: {2 * height}; }}PlotextPlot {{ width: {width}; height: {height}; }}"
        )

        def compose(self) -> ComposeResult:
            if task["kind"] == "own":
                yield ChartsPane()
            else:
                yield from (PlotextPlot(), PlotextPlot())

        async def on_mount(self) -> None:
            self.set_timer(0.5, self.measure)

        async def measure(self) -> None:
            grow(0, before)
            self.draw(before)
            await asyncio.sleep(0.3)
            self.mark()
            builds, began = [], time.process_time()
            for index in range(REDRAWS):
                grow(before + 4 * index, before + 4 * index + 4)
                start = time.thread_time()
                self.draw(before + 4 * index + 4)
                builds.append(time.thread_time() - start)
                await asyncio.sleep(0.05)
            cpu = (time.process_time() - began) / REDRAWS
            self.mark()
            began = time.process_time()
            await asyncio.sleep(0.05 * REDRAWS)  # the event loop at rest, to be taken off
            result.update(build=median(builds), cpu=cpu - (time.process_time() - began) / REDRAWS)
            self.exit()

        def mark(self) -> None:
            assert self._driver is not None
            self._driver.write("\x1b]7777;mark\x07")

        def draw(self, number: int) -> None:
            for pane in self.query(ChartsPane):
                pane.show([following])
            for widget, values in zip(self.query(PlotextPlot), (losses, np.exp(losses)), strict=False):
                # The same reduction, or plotext would take ten times as long.
                columns = reduce_points(Points.of(steps[:number], values[:number]), (0.0, end), width * 2)
                taken = np.flatnonzero(np.isfinite(columns.low))
                places = np.repeat(taken * end / (width * 2 - 1), 2).tolist()
                heights = np.stack([columns.low[taken], columns.high[taken]], axis=1).ravel().tolist()
                evaluations = slice(24, number, max(25, number // 100))
                widget.plt.clear_data()
                widget.plt.plot(places, heights, marker="braille", label="train")
                widget.plt.plot(
                    steps[evaluations].tolist(), (values[evaluations] + 0.1).tolist(), marker="braille", label="val"
                )
                widget.refresh()

    Bench().run()
    return result


def train(task: dict[str, Any]) -> dict[str, float]:
    """The quickstart preset, shortened, without a screen or under the whole program."""
    from minigpt.metrics import Metrics
    from minigpt.rundir import list_runs

    os.environ["MINIGPT_RUNS_DIR"] = tempfile.mkdtemp(prefix="drawing-")
    steps = task["steps"]
    settings = {"train.max_steps": str(steps), "sample.interval": "100000", "train.eval_interval": "100000"}
    began_wall, screen = time.monotonic(), 0.0
    if task["mode"] == "headless":
        from minigpt.configfile import load_config
        from minigpt.session import TrainingSession

        session = TrainingSession(config=load_config("quickstart", settings), preset="quickstart")
        session.start()
        session.join()
    else:
        from tui import pace
        from tui.app import MiniGPTApp

        if task["mode"] != "paced":
            pace.SHORTEST = pace.LONGEST = float(task["mode"])
            pace.EAGER_FOR = 0.0
        flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
        app = MiniGPTApp("quickstart", flags)

        def leave() -> None:
            nonlocal screen
            deadline = time.monotonic() + 60
            while app.session is None and time.monotonic() < deadline:
                time.sleep(0.2)
            if app.session is not None:
                # The screen's share at rest: without the start, and without the end.
                while not (runs := list_runs()) or Metrics(runs[0].metrics_file).read_all().last.get("step", 0) < 100:
                    time.sleep(1)
                clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
                spent, since = time.clock_gettime(clock), time.monotonic()
                while app.session.is_alive():
                    screen = (time.clock_gettime(clock) - spent) / (time.monotonic() - since)
                    time.sleep(1)
            app.call_from_thread(app.exit)

        threading.Thread(target=leave, daemon=True).start()
        app.run()
    metrics = Metrics(list_runs()[0].metrics_file).read_all()
    row_steps, elapsed = metrics.series("elapsed")
    if row_steps[-1] != steps:
        raise SystemExit(f"the run came to step {row_steps[-1]} only")
    first = int((row_steps >= 100).argmax())
    times = os.times()
    return {
        # The first steps warm caches up, and the dashboard is being built beside them.
        "steps_per_second": float((row_steps[-1] - row_steps[first]) / (elapsed[-1] - elapsed[first])),
        "seconds": time.monotonic() - began_wall,
        "cpu": times.user + times.system,
        "screen": screen,
    }


if __name__ == "__main__":
    main()
