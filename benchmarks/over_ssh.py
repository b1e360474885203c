"""What the dashboard sends to the terminal, how fast keys answer, and how soon there is something to see.

    python benchmarks/over_ssh.py                    all of it: about eight minutes
    python benchmarks/over_ssh.py bytes keys         parts of it: bytes, keys, first-frame
    python benchmarks/over_ssh.py bytes --where      which kinds of control sequences the bytes are

The installed program trains the quickstart preset in a pseudo-terminal of 120x40 that answers as a terminal of today
does. Bytes are counted once the charts have settled into their pace; a key's answer is the first output after it.
"""

import argparse
import contextlib
import fcntl
import os
import platform
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

PARTS = ("bytes", "keys", "first-frame")
COLUMNS, ROWS = 120, 40
ENTER_SCREEN = b"\x1b[?1049h"
EMPTY_APP = "from textual.app import App; App().run()"
SETTLED_AFTER = 25.0  # seconds; before that the charts are drawn more often
AT_REST_AFTER = 8.0
SEED = 1


@dataclass(frozen=True)
class Result:
    """One line of the table: what was measured, and what it must not exceed."""

    what: str
    value: float
    unit: str
    limit: float

    def __str__(self) -> str:
        form = {"times": ".2f", "%": ".2f"}.get(self.unit, ".0f")
        value, limit = format(self.value, form), format(self.limit, form)
        holds = "holds" if self.value <= self.limit else "does not hold"
        return f"{self.what:52}{value:>8}{limit:>8}  {self.unit:8}{holds}"


# Each kind with the keys that are pressed in turn. Whatever the panes are: each of these changes the screen.
KEYS: dict[str, Sequence[str]] = {
    "pane": ("2", "3", "\x1b", "4", "5", "1"),
    "cursor": ("\x1b[D", "\x1b[C"),
    "log": ("l",),
    "help": ("?", "\x1b"),
}
FINDS_CHARTS = "1"  # from wherever it is, before the cursor is moved and the scale changed
BEFORE = {"cursor": ("\x1b[D",) * 8}  # away from the newest step, where a key to the right has nowhere to go

_SEQUENCES = (
    ("colours", re.compile(rb"\x1b\[[\d;:]*m")),
    ("cursor", re.compile(rb"\x1b\[\d*(?:;\d*)?[HABCDGd]")),
    ("frames", re.compile(rb"\x1b\[\?2026[hl]")),
    ("other", re.compile(rb"\x1b\[[?<>=]?[\d;]*\$?[a-zA-Z~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")),
)


class Screen:
    """A program in a pseudo-terminal: everything it sends, with the time at which it came."""

    def __init__(self, command: Sequence[str], variables: dict[str, str]) -> None:
        self.began = time.monotonic()
        self.master, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        # The last one would have what has changed since it was installed compiled anew at each start.
        dropped = ("COLUMNS", "LINES", "NO_COLOR", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        self.process = subprocess.Popen(
            command,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", **variables},
            start_new_session=True,
        )
        os.close(follower)
        self.came: list[tuple[float, bytes]] = []
        self._new = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            with self._new:
                self.came.append((time.monotonic(), data))
                self._new.notify_all()
            if b"\x1b[?2026$p" in data:  # asked whether frames may be bracketed
                os.write(self.master, b"\x1b[?2026;2$y")

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def output(self, since: float = 0.0, until: float = float("inf")) -> bytes:
        with self._new:
            return b"".join(data for at, data in self.came if since <= at < until)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120.0) -> float:
        """Wait until something holds, which is asked whenever output has come; when that was."""
        deadline = time.monotonic() + seconds
        with self._new:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    shown = b"".join(data for _, data in self.came)[-2000:].decode(errors="replace")
                    raise SystemExit(f"waited in vain; the program sent:\n{shown}")
                self._new.wait(min(left, 0.5))
            return self.came[-1][0] if self.came else time.monotonic()

    def wait_for_text(self, text: bytes) -> float:
        return self.wait_for(lambda: text in b"".join(data for _, data in self.came))

    def answer_to(self, key: str, seconds: float = 3.0) -> float | None:
        """Seconds from a key to the first output after it; None if there was none."""
        with self._new:
            seen = len(self.came)
            pressed = time.monotonic()
            self.press(key)
            self._new.wait_for(lambda: len(self.came) > seen, seconds)
            return self.came[seen][0] - pressed if len(self.came) > seen else None

    def screen_cpu(self) -> float:
        """Seconds of CPU that the thread of the screen has used so far."""
        threads = {thread.id: thread for thread in psutil.Process(self.process.pid).threads()}
        main = threads[self.process.pid]
        return main.user_time + main.system_time

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)  # or it would read from the next one's descriptor, which gets the same number
        os.close(self.master)


def program(name: str = "minigpt-tui") -> str:
    return str(Path(sys.executable).parent / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts to measure, all without any")
    parser.add_argument("--seconds", type=float, default=50.0, help="for which bytes are counted")
    parser.add_argument("--keys", type=int, default=120, help="how many are pressed")
    parser.add_argument("--rounds", type=int, default=9, help="starts of each of the two programs")
    parser.add_argument("--where", action="store_true", help="tell the bytes apart by kind")
    options = parser.parse_args()
    parts = options.parts or PARTS
    versions = ", ".join(f"{name} {version(name)}" for name in ("textual", "rich", "torch"))
    print(
        f"{_processor()}, {os.cpu_count()} cores; {platform.platform()}; Python {platform.python_version()}; {versions}"
    )
    print(f"terminal {COLUMNS}x{ROWS}; load before: {os.getloadavg()[0]:.2f}\n")
    with tempfile.TemporaryDirectory(prefix="over-ssh-") as folder:
        variables = {"MINIGPT_RUNS_DIR": f"{folder}/runs", "MINIGPT_SETTINGS": f"{folder}/settings.toml"}
        variables |= {"XDG_STATE_HOME": f"{folder}/state"}
        results: list[Result] = []
        if "first-frame" in parts:
            results += measure_first_frame(variables, options.rounds)
        if "bytes" in parts:
            results += measure_bytes(variables, options.seconds, where=options.where)
        if "keys" in parts:
            results += measure_keys(variables, options.keys)
    print(f"\n{'':52}measured   limit")
    print(*results, sep="\n")
    print(f"load after: {os.getloadavg()[0]:.2f}")


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# ── the first frame ───────────────────────────────────────────────────────────────────────────────────────────────


def measure_first_frame(variables: dict[str, str], rounds: int) -> list[Result]:
    commands = {"an empty Textual app": [sys.executable, "-c", EMPTY_APP], "minigpt-tui": [program()]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            with Screen(command, variables) as screen:
                took[name].append(_first_frame(screen) - screen.began)
    empty, own = (median(seconds[1:]) for seconds in took.values())  # without the first, which fills the disk's cache
    for name, seconds in took.items():
        each = ", ".join(f"{1e3 * one:.0f}" for one in sorted(seconds[1:]))
        print(f"first frame, {name:22}{1e3 * median(seconds[1:]):6.0f} ms   ({each})", flush=True)
    return [Result("first frame, against an empty Textual app", own / empty, "times", 1.3)]


def _first_frame(screen: Screen) -> float:
    """When the whole screen had been drawn once: every cell of it was sent."""

    def painted() -> bool:
        sent = b"".join(data for _, data in screen.came)
        _, entered, drawn = sent.partition(ENTER_SCREEN)
        return bool(entered) and len(drawn) >= COLUMNS * ROWS

    return screen.wait_for(painted)


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_bytes(variables: dict[str, str], seconds: float, *, where: bool) -> list[Result]:
    results = []
    for name, flags, limit in (("default", [], 2000), ("--low-bandwidth", ["--low-bandwidth"], 500)):
        with _training(variables, name.strip("-"), flags) as screen:
            results += _count(screen, f"training, {name}", limit, SETTLED_AFTER, seconds, where=where)
    watched = "over-ssh-watched"
    command = [program("minigpt"), "train", "quickstart", "--train.max-steps", "1000000", "--run.name", watched]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **variables}) as trainer:
        metrics = Path(variables["MINIGPT_RUNS_DIR"], watched, "metrics.jsonl")
        while not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.1)
        with Screen([program(), watched], variables) as screen:
            results += _count(screen, "watching another process", 2000, SETTLED_AFTER, seconds, where=where)
        trainer.kill()
    run = "over-ssh-finished"
    command = [program("minigpt"), "train", "quickstart", "--train.max-steps", "60", "--run.name", run]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **variables})
    with Screen([program(), run], variables) as screen:
        screen.wait_for_text(b"finished")
        results += _count(screen, "a finished run, at rest", 0, AT_REST_AFTER, seconds / 2, where=where)
    return results


@contextlib.contextmanager
def _training(variables: dict[str, str], name: str, flags: Sequence[str] = ()) -> Iterator[Screen]:
    command = [program(), *flags, "quickstart", "--train.max-steps", "1000000", "--run.name", f"over-ssh-{name}"]
    with Screen(command, variables) as screen:
        metrics = Path(variables["MINIGPT_RUNS_DIR"]) / f"over-ssh-{name}" / "metrics.jsonl"
        screen.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0)
        yield screen


def _count(screen: Screen, what: str, limit: float, after: float, seconds: float, *, where: bool) -> list[Result]:
    time.sleep(after)
    begin, cpu = time.monotonic(), screen.screen_cpu()
    time.sleep(seconds)
    end, used = time.monotonic(), screen.screen_cpu() - cpu
    sent = screen.output(begin, end)
    took = end - begin
    results = [Result(f"{what}: sent", len(sent) / took, "bytes/s", limit)]
    if not limit:  # while it trains, that thread also waits for the trainer's, and there is no limit
        results.append(Result(f"{what}: screen's thread, of a core", 100 * used / took, "%", 0.5))
    else:
        print(f"{what}: the screen's thread took {used / took:.2%} of a core", flush=True)
    if where:
        kinds = by_kind(sent)
        print("".join(f"{kind:>12} {count / took:.0f}" for kind, count in kinds.most_common()), flush=True)
    return results


def by_kind(sent: bytes) -> Counter[str]:
    """How many bytes are colours, moves of the cursor, brackets around frames, other sequences, text."""
    kinds: Counter[str] = Counter()
    for kind, pattern in _SEQUENCES:
        kinds[kind] = sum(map(len, pattern.findall(sent)))
        sent = pattern.sub(b"", sent)
    kinds["spaces"] = sent.count(b" ")
    kinds["text"] = len(sent) - kinds["spaces"]
    return kinds


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_keys(variables: dict[str, str], number: int) -> list[Result]:
    chance = random.Random(SEED)
    answers: dict[str, list[float]] = {kind: [] for kind in KEYS}
    silent: Counter[str] = Counter()
    with _training(variables, "keys") as screen:
        time.sleep(SETTLED_AFTER)
        for kind, keys in KEYS.items():
            for key in (FINDS_CHARTS, *BEFORE.get(kind, ())):
                screen.press(key)
                time.sleep(0.5)
            for index in range(max(1, number // len(KEYS))):
                took = screen.answer_to(keys[index % len(keys)])
                if took is None:
                    silent[kind] += 1
                else:
                    answers[kind].append(took)
                time.sleep(chance.uniform(0.2, 0.6))  # no rhythm that could fall in with the screen's own
    for kind, found in answers.items():
        if found:
            p50, p99 = _percentiles(found)
            print(f"keys while training, {kind:10} p50 {p50:5.0f} ms   p99 {p99:5.0f} ms   of {len(found)}")
    if silent:
        print(f"keys without an answer: {dict(silent)}")
    p50, p99 = _percentiles([took for found in answers.values() for took in found])
    what = "from a key to a changed screen while training"
    return [Result(f"{what}, p50", p50, "ms", 40), Result(f"{what}, p99", p99, "ms", 150)]


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th, in ms."""
    ordered = sorted(seconds)
    p50, p99 = (1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
    return p50, p99


if __name__ == "__main__":
    main()
