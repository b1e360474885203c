"""How a training without a screen is shown: a line per row for logs and pipes, or a progress bar on a terminal."""

import json
from typing import Any, Protocol

from minigpt.inert import inert_line
from minigpt.journal import Row, count_in, text_in


class Display(Protocol):
    """Shows a training as it goes on."""

    def phase(self, words: str) -> None:
        """What is being done before the training begins."""

    def row(self, row: Row) -> None:
        """A row of metrics.jsonl."""

    def event(self, event: Row) -> None:
        """A row of events.jsonl."""

    def trouble(self, words: str) -> None:
        """What cannot be written from now on; empty when all can be written again."""

    def refresh(self) -> None:
        """Called some times a second."""

    def close(self) -> None:
        """Nothing more will come."""


_MOST_CHANGES = 20  # named in one line; there are hardly more that can change
_ALL_WRITTEN = "all of the run can be written again"


class PlainDisplay:
    """A line per row with every metric, for logs and pipes."""

    def phase(self, words: str) -> None:
        print(f"# {inert_line(words, 400)}", flush=True)

    def row(self, row: Row) -> None:
        print(" ".join(f"{inert_line(name)}={_plain(value)}" for name, value in row.items()), flush=True)

    def event(self, event: Row) -> None:
        values = (
            f"{inert_line(name)}={_plain(value)}" for name, value in event.items() if name not in {"event", "time"}
        )
        print(f"# {inert_line(str(event.get('event')))} {' '.join(values)}", flush=True)

    def trouble(self, words: str) -> None:
        print(f"# {inert_line(words, 400) or _ALL_WRITTEN}", flush=True)

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class ProgressDisplay:
    """A progress bar with the newest numbers, and a line per evaluation above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(highlight=False, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[reached]}", markup=False),
            TextColumn("{task.fields[numbers]}", markup=False),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._console,
            # No thread of its own: on a terminal that goes away it would die with a traceback.
            auto_refresh=False,
        )
        self._task = self._progress.add_task("starting", total=None, reached="", numbers="")
        self._steps = 0
        self._minutes = 0.0
        """How long the training is; either may be 0 for no such limit."""
        self._progress.start()

    def phase(self, words: str) -> None:
        self._progress.update(self._task, description=inert_line(words))

    def row(self, row: Row) -> None:
        numbers = []
        if isinstance(loss := row.get("train_loss"), float):
            numbers.append(f"loss {loss:.4f}")
        if isinstance(rate := row.get("tokens_per_second"), float):
            numbers.append(f"{rate:,.0f} tokens/s")
        self._show_progress(row["step"], row.get("elapsed"), " · ".join(numbers))
        if isinstance(val_loss := row.get("val_loss"), float):
            train_loss = row.get("train_eval_loss")
            train = f"{train_loss:.4f}" if isinstance(train_loss, float) else "–"
            self._console.print(
                # Within 80 columns: a line that wraps is read twice.
                f"step {row['step']:>7,}  val loss {val_loss:.4f}  train {train}  "
                f"perplexity {row.get('val_perplexity') or float('nan'):.5g}{_accuracy(row)}"
            )

    def _show_progress(self, step: int, elapsed: object, numbers: str) -> None:
        minutes = elapsed / 60 if isinstance(elapsed, int | float) else 0.0
        reached = f"{step:,}/{self._steps:,}" if self._steps else f"step {step:,}"
        by_steps = step / self._steps if self._steps else 0.0
        by_clock = minutes / self._minutes if self._minutes else 0.0
        if self._minutes:
            reached += f" · {minutes:,.0f}/{self._minutes:g} min"
        self._progress.update(self._task, completed=max(by_steps, by_clock), reached=reached, numbers=numbers)

    def event(self, event: Row) -> None:
        match event.get("event"):
            case "started":
                self._steps = _count(event.get("max_steps"))
                self._minutes = _count(event.get("max_minutes"))
                self._progress.update(self._task, total=1.0, description="training")
                self._console.print(
                    f"{inert_line(str(event.get('corpus')))}: {event.get('corpus_characters', 0):,} characters, "
                    f"vocabulary {event.get('vocab_size', 0):,}; model: {event.get('parameters', 0):,} parameters; "
                    f"{inert_line(str(event.get('device')))}, {inert_line(str(event.get('precision')))}"
                )
                if (resumed_from := count_in(event, "resumed_from")) is not None:
                    self._console.print(f"resumed from step {resumed_from:,}")
                if changed := changed_settings(event):
                    self._console.print(f"changed: {changed}")
            case "evaluating":
                self._describe("training", "evaluating")
            case "evaluated":
                self._describe("evaluating", "training")
            case "paused":
                self._progress.update(self._task, description="paused")
            case "continued":
                self._progress.update(self._task, description="training")
            case "handing_over":
                self._progress.update(self._task, description="handing over")
            case "notice" | "recovered" | "failed" | "crashed" | "went_on":
                self._console.print(inert_line(text_in(event, "message"), 400))

    def trouble(self, words: str) -> None:
        self._console.print(inert_line(words, 400) or _ALL_WRITTEN)

    def _describe(self, before: str, words: str) -> None:
        # Not over what matters more, such as that it is stopping.
        if self._progress.tasks[0].description == before:
            self._progress.update(self._task, description=words)

    def refresh(self) -> None:
        self._progress.refresh()

    def close(self) -> None:
        self._progress.stop()


def changed_settings(started: Row) -> str:
    """What a `started` event tells of settings that a resumption changed: `train.max_steps 2000 → 5000`, and so on."""
    changed = started.get("changed")
    told = []
    for key, values in list(changed.items())[:_MOST_CHANGES] if isinstance(changed, dict) else []:
        if (
            isinstance(values, list)
            and len(values) == 2
            and not any(isinstance(value, list | dict) for value in values)
        ):
            old, new = (inert_line(json.dumps(value, ensure_ascii=False), 40) for value in values)
            told.append(f"{inert_line(key, 60)} {old} → {new}")
    return ", ".join(told)


def _count(value: object) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _accuracy(row: Row) -> str:
    accuracy = row.get("val_accuracy")
    return f"  accuracy {100 * accuracy:.1f}%" if isinstance(accuracy, float) else ""


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = inert_line(str(value), 400)
    return json.dumps(text, ensure_ascii=False) if " " in text else text
