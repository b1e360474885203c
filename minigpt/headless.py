"""Training without a screen: rich progress on a terminal, one plain line per row elsewhere.

Like the dashboard it reads the run directory, and the trainer neither knows nor waits for it.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from types import FrameType
from typing import Protocol

from minigpt.errors import UserError
from minigpt.inert import inert, inert_line
from minigpt.journal import JournalTail, Row, read_journal
from minigpt.metrics import Metrics
from minigpt.rundir import RunDirectory
from minigpt.session import TrainingSession

AGAIN_AFTER = 0.5  # seconds; timeout(1) and some schedulers send one request to stop as two signals

_REFRESH = 0.25  # seconds


class Display(Protocol):
    """Shows a training as it goes on."""

    def phase(self, words: str) -> None:
        """What is being done before the training begins."""

    def row(self, row: Row) -> None:
        """A row of metrics.jsonl."""

    def event(self, event: Row) -> None:
        """A row of events.jsonl."""

    def refresh(self) -> None:
        """Called some times a second."""

    def close(self) -> None:
        """Nothing more will come."""


class PlainDisplay:
    """A line per row with every metric, for logs and pipes."""

    def phase(self, words: str) -> None:
        print(f"# {words}", flush=True)

    def row(self, row: Row) -> None:
        print(" ".join(f"{inert_line(name)}={_plain(value)}" for name, value in row.items()), flush=True)

    def event(self, event: Row) -> None:
        values = (
            f"{inert_line(name)}={_plain(value)}" for name, value in event.items() if name not in {"event", "time"}
        )
        print(f"# {inert_line(str(event.get('event')))} {' '.join(values)}", flush=True)

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class ProgressDisplay:
    """A progress bar with the newest numbers, and a line per evaluation above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(highlight=False, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._console,
            # No thread of its own: on a terminal that goes away it would die with a traceback.
            auto_refresh=False,
        )
        self._task = self._progress.add_task("starting", total=None, numbers="")
        self._progress.start()

    def phase(self, words: str) -> None:
        self._progress.update(self._task, description=inert_line(words))

    def row(self, row: Row) -> None:
        numbers = []
        if isinstance(loss := row.get("train_loss"), float):
            numbers.append(f"loss {loss:.4f}")
        if isinstance(rate := row.get("tokens_per_second"), float):
            numbers.append(f"{rate:,.0f} tokens/s")
        self._progress.update(self._task, completed=row["step"], numbers=" · ".join(numbers))
        if isinstance(val_loss := row.get("val_loss"), float):
            train_loss = row.get("train_eval_loss")
            train = f"{train_loss:.4f}" if isinstance(train_loss, float) else "–"
            self._console.print(
                f"step {row['step']:>7,}   val loss {val_loss:.4f}   train loss {train}   "
                f"val perplexity {row.get('val_perplexity') or float('nan'):.3f}"
            )

    def event(self, event: Row) -> None:
        match event.get("event"):
            case "started":
                self._progress.update(self._task, total=event.get("max_steps"), description="training")
                self._console.print(
                    f"{inert_line(str(event.get('corpus')))}: {event.get('corpus_characters', 0):,} characters, "
                    f"vocabulary {event.get('vocab_size', 0):,}; model: {event.get('parameters', 0):,} parameters; "
                    f"{inert_line(str(event.get('device')))}, {inert_line(str(event.get('precision')))}"
                )
                if event.get("resumed_from") is not None:
                    self._console.print(f"resumed from step {event['resumed_from']:,}")
            case "paused":
                self._progress.update(self._task, description="paused")
            case "continued":
                self._progress.update(self._task, description="training")
            case "notice" | "failed":
                self._console.print(inert_line(str(event.get("message"))))

    def refresh(self) -> None:
        self._progress.refresh()

    def close(self) -> None:
        self._progress.stop()


def run_headless(session: TrainingSession) -> int:
    """Train in a session to its end and return the exit code.

    The first Ctrl+C or SIGTERM saves and ends, the second ends at once. A terminal that goes away only ends the
    display: the training goes on.
    """
    display: Display | None = (
        ProgressDisplay() if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else PlainDisplay()
    )
    received: list[int] = []
    first_at = 0.0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        if received and number != signal.SIGHUP:
            if time.monotonic() - first_at < AGAIN_AFTER:
                return
            if isinstance(display, ProgressDisplay):
                _show_cursor()
            os._exit(128 + number)
        if number != signal.SIGHUP:
            received.append(number)
            first_at = time.monotonic()
            session.request_stop()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    session.start()
    follower = _Follower(session)
    told = False
    try:
        while True:
            alive = session.is_alive()
            try:
                if display and received and not told:
                    told = True
                    display.phase("stopping: saving a checkpoint (once more to end at once)")
                if display:
                    follower.show(display)
                    display.refresh()
            except OSError:
                # The terminal or the pipe is gone: train on in silence.
                _silence()
                if display:
                    with contextlib.suppress(OSError):
                        display.close()
                display = None
            if not alive:
                break
            session.join(_REFRESH)
    finally:
        try:
            if display:
                display.close()
        except OSError:
            _silence()
        for number, handler in previous.items():
            signal.signal(number, handler)
    return _report(session, received, curves=isinstance(display, ProgressDisplay))


class _Follower:
    """Hands what is new in a session and its run directory to a display."""

    def __init__(self, session: TrainingSession) -> None:
        self._session = session
        self._phase = ""
        self._tails: tuple[JournalTail, JournalTail] | None = None

    def show(self, display: Display) -> None:
        session = self._session
        if self._tails is None and session.run_directory is not None:
            # A resumed run's earlier attempts were shown when they happened.
            self._tails = (
                JournalTail(session.run_directory.events_file, session.offsets["events"]),
                JournalTail(session.run_directory.metrics_file, session.offsets["metrics"]),
            )
        if session.phase != self._phase and not session.stop_requested:
            self._phase = session.phase
            if self._phase not in {"training", "ended"}:
                display.phase(self._phase)
        if self._tails is not None:
            events, metrics = (tail.poll() for tail in self._tails)
            entries = [*((entry, display.event) for entry in events), *((entry, display.row) for entry in metrics)]
            entries = [(entry, shown) for entry, shown in entries if isinstance(entry.get("step"), int)]
            for entry, shown in sorted(entries, key=lambda pair: _place_in_log(pair[0])):
                shown(entry)


def _place_in_log(entry: Row) -> tuple[int, int]:
    # Two files in the order in which things happened: by step, and there the row before what followed from it.
    return entry["step"], 1 if "event" not in entry else 0 if entry["event"] == "started" else 2


def _report(session: TrainingSession, received: list[int], *, curves: bool) -> int:
    run = session.run_directory
    if isinstance(session.error, UserError):
        raise session.error
    code = 0 if session.error is None else 1
    if received and session.error is None and session.outcome == "stopped":
        code = 128 + received[0]
    try:
        for line in closing_words(session):
            print(line, file=sys.stderr if session.error else sys.stdout)
        if session.outcome == "finished" and run is not None:
            if curves:
                _print_curves(run)
            _print_sample(run)
        sys.stdout.flush()
    except OSError:
        _silence()
    return code


def closing_words(session: TrainingSession) -> list[str]:
    """What a person reads when a training of this process has ended: how, where the run lies, how to go on."""
    run = session.run_directory
    reason = inert_line(str(session.error) or type(session.error).__name__, 300)
    if run is None:
        return ["nothing was trained" if session.error is None else f"nothing was trained: {reason}"]
    shown = inert_line(str(run.path))
    if session.error is not None:
        kept = run.checkpoints()
        saved = f"the last checkpoint is that of step {kept[-1].step:,}" if kept else "no checkpoint had been saved"
        return [
            f"the training failed: {reason}",
            f"{saved}; details are in {shown}/console.log",
            *([f"go on with it:  minigpt train --resume {shown}"] if kept else []),
        ]
    if session.outcome == "stopped":
        return [f"stopped and saved: {shown}", f"go on with it:  minigpt train --resume {shown}"]
    return [f"finished: {shown}", f'let it write:  minigpt generate {shown} --prompt "..."']


def _print_curves(run: RunDirectory) -> None:
    import numpy as np
    import plotext

    metrics = Metrics(run.metrics_file).read_all()
    plotext.clear_figure()
    plotext.theme("clear")  # no colours: the lines differ by their markers
    plotext.plot_size(min(100, shutil.get_terminal_size().columns), 16)
    plotext.title("loss")
    plotext.xlabel("step")
    drawn = False
    for name, marker in (("train_loss", "braille"), ("val_loss", "o")):
        steps, values = metrics.series(name)
        finite = np.isfinite(values)  # plotext raises on inf
        if finite.any():
            draw = plotext.plot if name == "train_loss" else plotext.scatter
            draw(steps[finite].tolist(), values[finite].tolist(), marker=marker, label=name)
            drawn = True
    if drawn:
        print(f"\n{plotext.build()}")


def _print_sample(run: RunDirectory) -> None:
    samples = read_journal(run.samples_file)
    if samples:
        row = samples[-1]
        print(f"\nits last sample, at step {row.get('step')}:\n")
        print(inert(str(row.get("prompt", "")) + str(row.get("text", ""))))


def _silence() -> None:
    # What Python still has in its buffers for a terminal that is gone must not raise at exit. Errors may go elsewhere,
    # into a file or past a pipe to the terminal, and are still wanted there.
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        if os.path.sameopenfile(1, 2):
            os.dup2(null, 2)
    os.dup2(null, 1)
    os.close(null)


def _show_cursor() -> None:
    # Past rich, which may be in the middle of a write; and never waiting for a terminal that has stalled.
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [1], [], 0)[1]:
            os.write(1, b"\x1b[?25h\r\n")


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = inert_line(str(value), 400)
    return json.dumps(text, ensure_ascii=False) if " " in text else text
