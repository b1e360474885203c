"""A run as a training leaves it behind, written by the engine's own writers: what the screen's tests look at."""

import math
from pathlib import Path

import numpy as np

from minigpt.files import write_atomically
from minigpt.journal import JournalWriter, Row
from minigpt.rundir import RunDirectory

NAME = "2026-11-20-quickstart-brave-otter"
MAX_STEPS = 2000
BEGAN = 1_795_000_000.0

_SAMPLE = """MARLOW:
The tide is out, and yet the boats are in;
What hand has drawn the water from the wall?

ISOLDE:
No hand, good sir. The moon has called it home,
And we who cannot swim must learn to wait.
"""


def recorded_run(directory: Path, *, ended: str = "finished", steps: int = MAX_STEPS) -> RunDirectory:
    """Make a run under `directory` that came to `steps`; it crashed at step 1,230 once and was resumed from 1,000.

    `ended` is its last event: "finished", "stopped", "failed", "paused", or "" for a run that was killed or still
    goes on. It is live for a viewer while its lock is held.
    """
    run = RunDirectory(directory / NAME)
    for path in (run.checkpoints_dir, run.commands_dir, run.chat_dir):
        path.mkdir(parents=True)
    write_atomically(run.config_file, f'[run]\nname = "{NAME}"\n\n[train]\nmax_steps = {MAX_STEPS}\n')
    metrics, events, samples = (JournalWriter(path) for path in (run.metrics_file, run.events_file, run.samples_file))
    attempts = [(1, None, min(steps, 1230))] + ([(2, 1000, steps)] if steps > 1230 else [])
    for attempt, resumed_from, reached in attempts:
        events.append(_event("started", resumed_from or 0, attempt, resumed_from=resumed_from, **_description()))
        first = 0 if resumed_from is None else resumed_from + 10
        for step in range(first, reached + 1, 10):
            metrics.append(_row(step, attempt, resumed_from if step == first else None))
            if step % 250 == 0:
                _evaluated(run, events, samples, step, attempt)
    if ended:
        values = {"failed": {"message": "the disk is full"}, "finished": {"reason": "steps"}}.get(ended, {})
        events.append(_event(ended, steps, attempts[-1][0], **values))
    for journal in (metrics, events, samples):
        journal.close()
    return run


def losses_at(step: int) -> tuple[float, float]:
    """Training and validation loss of the recorded run at a step: falling, then apart."""
    noise = float(np.random.default_rng(step).normal(0, 0.04))
    train = 1.05 + 3.1 * math.exp(-step / 260)
    return train + noise, train + 0.05 + step * 1.2e-4 + max(0, step - 1200) * 1.5e-4


def _description() -> Row:
    return {
        "parameters": 824_320,
        "vocab_size": 62,
        "corpus": "the-play",
        "corpus_characters": 68_412,
        "train_tokens": 61_571,
        "val_tokens": 6_841,
        "device": "cpu",
        "device_name": "x86_64",
        "precision": "float32",
        "compiled": False,
        "threads": 2,
        "max_steps": MAX_STEPS,
        "max_minutes": 0.0,
        "steps_per_epoch": 30,
        "tokenizer": "char",
        "corpus_bytes": 68_500,
        "pid": 2**22 + 1,  # no process has it
    }


def _event(event: str, step: int, attempt: int, **values: object) -> Row:
    return {"event": event, "time": BEGAN + step * 0.1, "step": step, "attempt": attempt, **values}


def _row(step: int, attempt: int, resumed_from: int | None) -> Row:
    train_loss, val_loss = losses_at(step)
    tokens = step * 32 * 64
    row: Row = {"step": step, "attempt": attempt, "tokens": tokens, "epoch": tokens / 61_571, "elapsed": step * 0.1}
    if resumed_from is not None:
        row["resumed_from"] = resumed_from
    if step:
        row |= {"train_loss": train_loss, "learning_rate": 1e-3, "grad_norm": 0.8, "tokens_per_second": 20_480.0}
    row["memory_rss"] = 412 << 20
    if step % 250 == 0:
        row |= _evaluation("train_eval", train_loss - 0.02) | _evaluation("val", val_loss)
    return row


def _evaluation(split: str, loss: float) -> Row:
    bits = loss / math.log(2)
    values = {"loss": loss, "perplexity": math.exp(loss), "accuracy": math.exp(-0.4 * loss), "bpc": bits, "bpb": bits}
    return {f"{split}_{name}": value for name, value in values.items()}


def _evaluated(run: RunDirectory, events: JournalWriter, samples: JournalWriter, step: int, attempt: int) -> None:
    val_loss = losses_at(step)[1]
    best = step <= 1000
    events.append(_event("evaluated", step, attempt, val_loss=val_loss, best=best))
    if not step:
        return
    settings = {"prompt": "\n", "temperature": 0.8, "top_k": 40, "top_p": 1.0, "seed": 1}
    text = _SAMPLE if step >= 1000 else "MARL:\nThe tome is the wot, and ther the wall\nOf hand the sill"
    samples.append({"step": step, "attempt": attempt, "time": BEGAN + step * 0.1, "text": text, **settings})
    events.append(_event("sampled", step, attempt))
    checkpoint = run.checkpoints_dir / f"step-{step:08d}"
    checkpoint.mkdir(exist_ok=True)
    write_atomically(checkpoint / "checkpoint.json", f'{{"step": {step}, "val_loss": {val_loss}}}')
    if best:
        write_atomically(run.best_file, f'{{"step": {step}, "val_loss": {val_loss}}}')
    events.append(_event("saved", step, attempt, checkpoint=checkpoint.name, best=best))
