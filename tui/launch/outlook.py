"""What a training will take, for somebody who is still putting it together: parameters, memory, an epoch, the time.

Free of Textual. It imports torch, and so is itself imported after the first frame, in a thread.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from minigpt.batches import Batches, Split
from minigpt.config import Config
from minigpt.corpus import KNOWN_CORPORA, Corpus, Survey, load_corpus
from minigpt.device import Device, choose_device
from minigpt.errors import UserError
from minigpt.estimate import MemoryEstimate, estimate_memory, fitting_accumulation
from minigpt.known_files import Progress, read_known
from minigpt.model import count_parameters
from minigpt.split_sizes import SplitSizes
from tui.figures import short_count

if TYPE_CHECKING:
    from tui.launch.step_meter import Measured

_MOST_CORPORA = 4
_GIB = 1 << 30


@dataclass(frozen=True)
class Outlook:
    """What is known of a training before it begins."""

    config: Config
    vocab_size: int | None = None
    """None while the corpus would have to be read first, or cannot be."""
    parameters: int | None = None
    device: Device | None = None
    memory: MemoryEstimate | None = None
    capacity: int = 0
    """Bytes of memory that the device has."""
    pieces: int | None = None
    """Where it doesn't fit: the gradient accumulation steps with which it would."""
    sizes: SplitSizes | None = None
    missing: str = ""
    """The corpus or vocabulary that has to be downloaded before an epoch can be told."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why it could not begin, by the setting where that is to be mended."""

    @property
    def fits(self) -> bool:
        return self.memory is not None and self.memory.needed <= self.capacity


class Outlooks:
    """Works out outlooks, and remembers the texts that it has read for them."""

    def __init__(self) -> None:
        self._corpora: dict[str, tuple[Corpus, Survey]] = {}
        self._samples: dict[tuple[str, str, int], tuple[int, int]] = {}
        """Tokens and bytes of the beginning of a corpus, by corpus, tokenizer and vocabulary."""

    def look(self, config: Config, progress: Progress = lambda _: None) -> Outlook:
        """The outlook of a valid configuration. A large corpus is read once, and `progress` is told how that goes.

        Nothing is downloaded. What `progress` raises is passed on, so that it can end the work.
        """
        problems: dict[str, str] = {}
        device = _device(config, problems)
        vocab_size, sizes, missing = None, None, ""
        try:
            vocab_size = self._vocab_size(config, progress)
            sizes, missing = self._sizes(config, progress)
        except UserError as error:
            problems["data.corpus"] = str(error)
        if vocab_size is None:
            return Outlook(config, device=device, problems=problems)
        outlook = Outlook(
            config,
            vocab_size,
            count_parameters(config.model, vocab_size),
            device,
            sizes=sizes,
            missing=missing,
            problems=problems,
        )
        return outlook if device is None else _with_memory(outlook, device, vocab_size)

    def _read(self, name: str, progress: Progress) -> tuple[Corpus, Survey]:
        if name not in self._corpora:
            corpus = load_corpus(name, progress)
            self._corpora[name] = corpus, corpus.survey(progress)
            while len(self._corpora) > _MOST_CORPORA:
                del self._corpora[next(iter(self._corpora))]
        return self._corpora[name]

    def _vocab_size(self, config: Config, progress: Progress) -> int:
        data = config.data
        if data.tokenizer != "char":
            fixed = {"byte": 256, "bpe": data.bpe_vocab_size}.get(data.tokenizer)
            return read_known("vocabularies.toml")["gpt2"].vocab_size if fixed is None else fixed
        known = KNOWN_CORPORA.get(data.corpus)
        if known and known.vocab_size and not known.is_here():
            return known.vocab_size
        return len(self._read(data.corpus, progress)[1].alphabet)

    def _sizes(self, config: Config, progress: Progress) -> tuple[SplitSizes | None, str]:
        # As minigpt.split_sizes does it, but without reading the text again for each digit that is typed.
        data, kind = config.data, config.data.tokenizer
        if data.corpus in KNOWN_CORPORA and not KNOWN_CORPORA[data.corpus].is_here():
            return None, data.corpus
        if kind == "gpt2" and not read_known("vocabularies.toml")["gpt2"].is_here():
            return None, "gpt2"
        corpus, survey = self._read(data.corpus, progress)
        tokens = survey.characters if kind == "char" else survey.bytes
        if kind in {"bpe", "gpt2"}:
            progress("counting tokens")
            in_sample, size = self._sample(config, corpus)
            tokens = tokens * in_sample // size
        val = int(tokens * data.val_fraction)
        # Splits of so many ids, all of them the same one in memory: only their lengths are asked for.
        train = Split(np.broadcast_to(np.uint8(0), tokens - val), "training", config.model.block_size)
        Split(np.broadcast_to(np.uint8(0), val), "validation", config.model.block_size)
        batches = Batches(train, config.train.batch_size, data.batches, config.train.seed)
        return SplitSizes(tokens - val, val, batches.steps_per_epoch, exact=kind in {"char", "byte"}), ""

    def _sample(self, config: Config, corpus: Corpus) -> tuple[int, int]:
        from minigpt.bpe import load_gpt2, train_bpe

        data = config.data
        key = (data.corpus, data.tokenizer, data.bpe_vocab_size if data.tokenizer == "bpe" else 0)
        if key not in self._samples:
            sample = next(corpus.pieces())
            learned = data.tokenizer == "bpe"
            tokenizer = train_bpe([sample], len(sample), data.bpe_vocab_size) if learned else load_gpt2()
            self._samples[key] = len(tokenizer.encode(sample)), len(sample.encode("utf-8"))
        return self._samples[key]


def _device(config: Config, problems: dict[str, str]) -> Device | None:
    try:
        return choose_device(config.device)
    except UserError as error:
        setting, _, words = str(error).partition(": ")
        problems["device.precision" if "precision" in setting else "device.type"] = words or setting
        return None


def _capacity(device: Device) -> int:
    if device.type == "cuda":
        import torch

        # Not mem_get_info: for that CUDA takes half a GiB of the device, which a training elsewhere may need.
        return int(torch.cuda.get_device_properties().total_memory)
    import psutil

    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


def _with_memory(outlook: Outlook, device: Device, vocab_size: int) -> Outlook:
    config, capacity = outlook.config, _capacity(device)
    memory = estimate_memory(config, vocab_size, device.type, device.precision)
    pieces, problems = None, dict(outlook.problems)
    if memory.needed > capacity:
        pieces = fitting_accumulation(config, vocab_size, device.type, device.precision, capacity)
        if pieces is None:
            problems["model.n_embd"] = f"{_too_large(memory, capacity)}: take a smaller model or context"
        elif device.type == "cpu":  # a GPU that is full makes the pieces smaller by itself
            words = f"{_too_large(memory, capacity)}: {pieces} would do"
            problems["train.gradient_accumulation_steps"] = words
    return Outlook(
        config,
        vocab_size,
        outlook.parameters,
        device,
        memory,
        capacity,
        pieces,
        outlook.sizes,
        outlook.missing,
        problems,
    )


def _too_large(memory: MemoryEstimate, capacity: int) -> str:
    return f"needs {_gib(memory.needed)} GiB of memory, and there are {_gib(capacity)}"


# ── the time ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Duration:
    """How long a training takes; None for what depends on a corpus that is not here."""

    steps: float | None
    seconds: float | None
    evaluations: int | None
    evaluating: float | None
    """Seconds of all evaluations together."""


def duration_of(outlook: Outlook, step: float) -> Duration:
    """The time of a training whose steps take so many seconds."""
    train, sizes = outlook.config.train, outlook.sizes
    limits = [float(train.max_steps)] if train.max_steps else []
    if train.max_minutes:
        limits.append(train.max_minutes * 60 / step)
    if train.max_epochs:
        if sizes is None:
            return Duration(None, None, None, None)
        limits.append(train.max_epochs * sizes.steps_per_epoch)
    steps = max(1.0, min(limits))
    if sizes is None:
        return Duration(steps, steps * step, None, None)
    # Without the way back a token takes about a third.
    tokens = train.batch_size * outlook.config.model.block_size
    one = (sizes.val + min(train.train_eval_tokens, sizes.train)) / tokens * step / 3
    times = int(steps / (train.eval_interval or sizes.steps_per_epoch)) + 1
    return Duration(steps, steps * step, times, one * times)


# ── in words ──────────────────────────────────────────────────────────────────────────────────────────────────────


def in_words(outlook: Outlook, measured: "Measured | str") -> list[tuple[str, str]]:
    """The outlook as names and values. `measured` is a step's time, or why there is none."""
    parts: list[tuple[str, Callable[[Outlook], str]]] = [
        ("parameters", _parameters),
        ("memory", _memory),
        ("epoch", _epoch),
    ]
    return [*((name, words) for name, part in parts if (words := part(outlook))), ("time", _time(outlook, measured))]


def in_short(outlook: Outlook, measured: "Measured | str") -> list[str]:
    """The outlook in two lines, for a small screen."""
    parts = []
    if outlook.parameters is not None:
        parts.append(f"{short_count(outlook.parameters)} parameters")
    if outlook.memory is not None:
        parts.append(
            f"{_gib(outlook.memory.needed)} of {_gib(outlook.capacity)} GiB{'' if outlook.fits else ', TOO LARGE'}"
        )
    if outlook.sizes is not None:
        parts.append(f"{_about(outlook.sizes)}{short_count(outlook.sizes.train)} tokens an epoch")
    return [" · ".join(parts), _time(outlook, measured)]


def _parameters(outlook: Outlook) -> str:
    if outlook.parameters is None or outlook.vocab_size is None:
        return ""
    at_most = "at most " if outlook.config.data.tokenizer == "bpe" else ""
    return f"{outlook.parameters:,} · {at_most}{outlook.vocab_size:,} tokens in the vocabulary"


def _memory(outlook: Outlook) -> str:
    memory, device = outlook.memory, outlook.device
    if memory is None or device is None:
        return ""
    words = f"{_gib(memory.needed)} of {_gib(outlook.capacity)} GiB on {device.type}, {device.precision}"
    if outlook.fits:
        return f"{words}: fits"
    way_out = f"in {outlook.pieces} pieces a batch would" if outlook.pieces else "not even one sequence does"
    return f"{words}: does not fit; {way_out}"


def _epoch(outlook: Outlook) -> str:
    sizes = outlook.sizes
    if sizes is None:
        return f"known once {outlook.missing} is downloaded" if outlook.missing else ""
    train, context = outlook.config.train, outlook.config.model.block_size
    return (
        f"{_about(sizes)}{sizes.train:,} tokens, {sizes.steps_per_epoch:,.1f} steps of "
        f"{train.batch_size * context:,} tokens"
    )


def _time(outlook: Outlook, measured: "Measured | str") -> str:
    if isinstance(measured, str):
        return f"{outlook.config.train.length}; {measured}"
    step = f"{measured.seconds * 1000:,.0f} ms" if measured.seconds < 1 else f"{measured.seconds:,.1f} s"
    took = duration_of(outlook, measured.seconds)
    if took.steps is None or took.seconds is None:
        return f"a step takes {step}; how many there are, is known once {outlook.missing} is downloaded"
    seconds = took.seconds + (took.evaluating or 0)
    if minutes := outlook.config.train.max_minutes:
        seconds = min(seconds, 60 * minutes)
    words = f"about {_span(seconds)}: {took.steps:,.0f} steps of {step}"
    if took.evaluations and took.evaluating is not None:
        words += f", {took.evaluations:,} evaluations in {_span(took.evaluating)}"
    return words + (", measured without torch.compile" if outlook.config.device.compile else "")


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 72 * 60 else f"{minutes / 1440:,.1f} days"


def _about(sizes: SplitSizes) -> str:
    return "" if sizes.exact else "about "


def _gib(size: int) -> str:
    return f"{size / _GIB:,.1f}"
