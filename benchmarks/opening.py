"""How long the program takes to open a run: from the shell to the first plot, and until nothing changes any more.

    python benchmarks/opening.py                      2,000 rows and a million, each three times
    python benchmarks/opening.py --rows 200000 --rounds 1

It makes such runs in a temporary directory (a million rows: 270 MB, and 80 MB for the cache) and opens them by
`minigpt-tui RUN` in a pseudo-terminal of 120x40. CPU time and memory are those of all its processes.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.million_steps import write_run
from benchmarks.over_ssh import Screen, program

ENDED = b"Finished."  # what the dashboard says of such a run once it is read
STILL = 2.0  # seconds without a change, after which all is there
FIGURES = ("first plot", "all there", "CPU time", "memory", "sent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "MINIGPT_RUNS_DIR": folder,
            "MINIGPT_SETTINGS": f"{folder}/settings.toml",
            "XDG_STATE_HOME": f"{folder}/state",
        }
        print(" " * 34 + "".join(f"{name:>14}" for name in FIGURES))
        for rows in options.rows:
            run = Path(folder, f"rows-{rows}")
            write_run(run, rows)
            opened: dict[str, list[list[float]]] = {"the first time": [], "again": []}
            for _ in range(options.rounds):
                for cache in run.glob("cache/*"):
                    cache.unlink()
                for words, results in opened.items():
                    results.append(open_run(run, variables))
                    print(f"{rows:>12,} rows, {words:16}" + row_of(results[-1]), flush=True)
            for words, results in opened.items():
                print(
                    f"{'median':>12}       {words:15}" + row_of([median(each) for each in zip(*results, strict=True)])
                )


def row_of(figures: list[float]) -> str:
    first, all_there, cpu, memory, sent = figures
    return f"{first:12.2f} s{all_there:12.2f} s{cpu:12.2f} s{memory / 2**20:10.0f} MiB{sent / 1000:11.1f} kB"


def open_run(run: Path, variables: dict[str, str]) -> list[float]:
    """The FIGURES, in seconds and bytes."""
    with Screen([program(), run], variables) as screen:  # type: ignore[list-item]
        used = Used(screen.process.pid)
        first = screen.wait_for(lambda: any(_is_plot(data) for _, data in screen.came)) - screen.began
        screen.wait_for(lambda: ENDED in screen.came[-1][1] or ENDED in screen.output())
        while time.monotonic() - screen.came[-1][0] < STILL:
            time.sleep(0.1)
        used.end()
        all_there = screen.came[-1][0] - screen.began
        return [first, all_there, used.cpu, used.memory, float(len(screen.output()))]


def _is_plot(data: bytes) -> bool:
    return any("⠀" < character <= "⣿" for character in data.decode(errors="ignore"))


class Used:
    """What a process and those that it started use, looked at 20 times a second."""

    def __init__(self, pid: int) -> None:
        self._program = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self.memory = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def cpu(self) -> float:
        return sum(self._cpu.values())

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            memory = 0
            try:
                processes = [self._program, *self._program.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    memory += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.memory = max(self.memory, memory)


if __name__ == "__main__":
    main()
