"""Evaluating a run's model at a checkpoint: on a split of its corpus, on a file, on a pasted text.

evaluations/
  step-00000500-val.json        the newest result for each checkpoint and text
  evaluation_metrics.json       the newest of all
"""

import errno
import hashlib
import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minigpt import __version__
from minigpt.corpus import Corpus
from minigpt.dataset import CorpusChangedError, load_training_data
from minigpt.device import Device
from minigpt.errors import UserError
from minigpt.evaluate import Evaluation, evaluate
from minigpt.files import write_atomically
from minigpt.inert import inert_line
from minigpt.known_files import Progress
from minigpt.model import GPT
from minigpt.rundir import Checkpoint, RunDirectory
from minigpt.tokenizer import Tokenizer, known_text
from minigpt.windows import windows_of

Unknown = Literal["refuse", "replace", "drop"]


@dataclass(frozen=True)
class Result:
    """One evaluation, and of what it is one."""

    evaluation: Evaluation
    split: Literal["val", "train", "file"]
    corpus: str
    """Name of the corpus, or the file."""
    corpus_sha256: str
    """Of the whole text in UTF-8: of the corpus with both splits, or of the file."""
    seconds: float
    altered: str = ""
    """What became of how many characters that the model does not know, such as `3 unknown characters dropped`."""


def evaluate_split(
    run: RunDirectory,
    checkpoint: Checkpoint,
    model: GPT,
    tokenizer: Tokenizer,
    *,
    split: Literal["val", "train"],
    device: Device,
    progress: Progress = lambda _: None,
) -> Result:
    """Evaluate on all of a split of the corpus, each token but the first predicted once, as in training.

    `progress` is told in words what is done; what it raises ends it. Raises UserError if the corpus is not the one
    that the run was trained on.
    """
    began = time.perf_counter()
    config = run.config()
    try:
        data = load_training_data(config, tokenizer, progress, checkpoint.info().get("corpus_sha256"))
    except CorpusChangedError:
        raise UserError(
            f"{inert_line(config.data.corpus)}: has changed since {inert_line(run.name)} was trained on it, and its "
            f"{split} split with it. Bring the old text back, or evaluate on a text of its own: --split FILE"
        ) from None
    except UserError as error:
        raise UserError(f"the {split} split is cut from the run's corpus: {error}") from None
    windows = (data.val if split == "val" else data.train).windows()
    measured = evaluate(model, windows, tokenizer, device, progress=lambda share: progress(f"evaluating: {share:.0%}"))
    return Result(measured, split, data.corpus, data.corpus_sha256, time.perf_counter() - began)


def evaluate_file(
    path: Path,
    model: GPT,
    tokenizer: Tokenizer,
    device: Device,
    *,
    unknown: Unknown = "refuse",
    progress: Progress = lambda _: None,
) -> Result:
    """Evaluate on a text file. Raises UserError if it is not UTF-8, too short, or has characters that are unknown."""
    began = time.perf_counter()
    text = Corpus(path.name, (path,)).text
    try:
        measured = evaluate_text(model, tokenizer, text, device, unknown=unknown, progress=progress)
    except UserError as error:
        raise type(error)(f"{inert_line(str(path))}: {error}") from None
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    seconds = time.perf_counter() - began
    return Result(measured, "file", str(path), digest, seconds, what_was_altered(tokenizer, text, unknown))


def what_was_altered(tokenizer: Tokenizer, text: str, unknown: Unknown) -> str:
    """In words what `known_text` does to a text; empty if it leaves it as it is."""
    count = sum(map(text.count, tokenizer.unknown_characters(text)))
    if not count:
        return ""
    done = "replaced" if unknown == "replace" else "dropped"
    return f"{count:,} unknown character{'' if count == 1 else 's'} {done}"


def evaluate_text(
    model: GPT,
    tokenizer: Tokenizer,
    text: str,
    device: Device,
    *,
    unknown: Unknown = "refuse",
    progress: Progress = lambda _: None,
) -> Evaluation:
    """Evaluate on a text: every token but the first is predicted once, in windows of the model's context.

    Raises UserError if the text is too short, or has characters that the model does not know, unless `unknown` says
    to replace or to drop them.
    """
    ids = tokenizer.encode(known_text(tokenizer, text, unknown))
    if len(ids) < 2:
        count = "one token" if len(ids) else "no token"
        raise UserError(f"too short: {count}; the first one is not predicted, so at least two are needed")
    return evaluate(
        model,
        windows_of(ids, model.config.block_size),
        tokenizer,
        device,
        progress=lambda share: progress(f"evaluating: {share:.0%}"),
    )


# ── kept ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def metrics_of(run: RunDirectory, checkpoint: Checkpoint, result: Result, device: Device) -> dict[str, Any]:
    """What evaluation_metrics.json says: numbers that are not finite are null."""
    measured = result.evaluation
    values = {
        "run": run.name,
        "checkpoint": checkpoint.path.name,
        "step": checkpoint.step,
        "split": result.split,
        "corpus": result.corpus,
        "corpus_sha256": result.corpus_sha256,
        "altered": result.altered,
        "nll": measured.loss,
        "perplexity": measured.perplexity,
        "bits_per_character": measured.bits_per_character,
        "bits_per_byte": measured.bits_per_byte,
        "accuracy": measured.accuracy,
        "tokens": measured.tokens,
        "characters": measured.characters,
        "bytes": measured.bytes,
        "device": device.name if device.type != "cpu" else f"cpu ({device.name})",
        "precision": device.precision,
        "seconds": round(result.seconds, 3),
        "time": time.time(),
        "version": __version__,
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write one result as JSON. Raises OSError."""
    write_atomically(path, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")


def keep(run: RunDirectory, metrics: dict[str, Any]) -> Path:
    """Write a result into the run's evaluations/, over an older one of the same checkpoint and text.

    Returns the file that always has the newest result. Raises OSError.
    """
    split = metrics["split"]
    if split == "file":
        split = "file-" + re.sub(r"[^A-Za-z0-9._-]", "-", Path(metrics["corpus"]).name)[:80]
    if run.evaluations_dir.is_symlink():  # a stranger's run must not have files written elsewhere
        raise OSError(errno.ELOOP, "is a link", str(run.evaluations_dir))
    run.evaluations_dir.mkdir(mode=0o700, exist_ok=True)
    write_metrics(run.evaluations_dir / f"step-{metrics['step']:08d}-{split}.json", metrics)
    newest = run.evaluations_dir / "evaluation_metrics.json"
    write_metrics(newest, metrics)
    return newest
