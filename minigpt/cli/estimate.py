"""`minigpt estimate`."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt.errors import UserError

if TYPE_CHECKING:
    from minigpt.config import Config
    from minigpt.device import Device
    from minigpt.estimate import MemoryEstimate
    from minigpt.split_sizes import SplitSizes
    from minigpt.step_time import StepTime

_USAGE = """\
usage: minigpt estimate CONFIG [--section.key VALUE ...] [--device-memory GB] [--no-measure]

What a training will take, before anything is trained: parameters, memory by what it is for, steps per epoch, and the
time, from a few steps on random text. Nothing is written and nothing is downloaded.

CONFIG is a preset's name (`minigpt presets` lists them) or a TOML file; options overrule what it says.

  --device-memory GB   a GPU to compare with, besides this machine (default: 8)
  --no-measure         no steps, and so no time; for scripts
"""


def estimate_config(arguments: list[str]) -> int:
    """Print the estimate of a preset or TOML file."""
    from minigpt.inert import inert_line

    if not arguments or {"-h", "--help"} & set(arguments):
        from minigpt.options import options_help

        print(_USAGE + "\n" + options_help(), end="")
        return 0 if arguments else 2
    rest, gigabytes, measure = _own_options(arguments)
    if not rest or rest[0].startswith("-"):
        raise UserError("the preset or TOML file comes first: minigpt estimate CONFIG [--option ...]")
    from minigpt.configfile import load_config
    from minigpt.corpus import vocab_size_of
    from minigpt.options import parse_overrides
    from minigpt.presets import find_target

    config = load_config(rest[0], parse_overrides(rest[1:]))
    vocab_size = vocab_size_of(config)
    here, why_not = _this_device(config)
    capacity = int(gigabytes * (1 << 30))
    gpu = _Place(f"{gigabytes:g} GB GPU", "cuda", _gpu_precision(config, here), capacity, capacity)
    from minigpt.model import count_parameters

    parameters = count_parameters(config.model, vocab_size)
    print(f"{inert_line(find_target(rest[0]).stem)}: {parameters:,} parameters")
    sizes = _print_plan(config, vocab_size, parameters)
    places = [*([_present_place(here)] if here else []), gpu]
    _print_memory(config, vocab_size, places)
    for place in places:
        _verdict(config, vocab_size, place)
    if here is None:
        print(f"\nNot on this machine: {why_not}")
    elif measure:
        _print_time(config, vocab_size, here, sizes, places[0])
    return 0


def _own_options(arguments: list[str]) -> tuple[list[str], float, bool]:
    from minigpt.inert import inert_line

    rest: list[str] = []
    gigabytes, measure = 8.0, True
    remaining = iter(arguments)
    for argument in remaining:
        option, has_value, value = argument.partition("=")
        match option.replace("_", "-"):
            case "--device-memory":
                value = value if has_value else next(remaining, "")
                try:
                    gigabytes = float(value)
                except ValueError:
                    gigabytes = math.nan
                if not 0 < gigabytes <= 1e6:
                    raise UserError(f"--device-memory {inert_line(value, 60)}: must be a number of GB, such as 8")
            case "--no-measure" if not has_value:
                measure = False
            case _:
                rest.append(argument)
    return rest, gigabytes, measure


# ── places ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Place:
    """Where a training might happen."""

    name: str
    device_type: str
    precision: str
    capacity: int
    """Bytes of memory, and how many are free now."""
    free: int


def _this_device(config: "Config") -> "tuple[Device | None, str]":
    from minigpt.device import choose_device

    try:
        return choose_device(config.device), ""
    except UserError as error:
        return None, str(error)


def _gpu_precision(config: "Config", here: "Device | None") -> str:
    if config.device.precision != "auto":
        return config.device.precision
    return here.precision if here and here.type == "cuda" else "bf16"


def _present_place(device: "Device") -> _Place:
    if device.type == "cuda":
        import torch

        free, capacity = torch.cuda.mem_get_info()
    else:
        import psutil

        memory = psutil.virtual_memory()
        free, capacity = memory.available, memory.total
    return _Place("this machine", device.type, device.precision, capacity, free)


def _estimate(config: "Config", vocab_size: int, place: _Place) -> "MemoryEstimate":
    from minigpt.estimate import estimate_memory

    return estimate_memory(config, vocab_size, place.device_type, place.precision)


# ── what is printed ───────────────────────────────────────────────────────────────────────────────────────────────


def _print_plan(config: "Config", vocab_size: int, parameters: int) -> "SplitSizes | None":
    from minigpt.inert import inert_line
    from minigpt.split_sizes import split_sizes

    train, model = config.train, config.model
    at_most = "at most " if config.data.tokenizer == "bpe" else ""
    batch = f"{train.batch_size:,} × {model.block_size:,} = {train.batch_size * model.block_size:,} tokens a step"
    if train.gradient_accumulation_steps > 1:
        micro_batch = math.ceil(train.batch_size / train.gradient_accumulation_steps)
        batch += f", in {train.gradient_accumulation_steps:,} pieces of {micro_batch:,}"
    sizes, missing = split_sizes(config)
    if sizes is None:
        epoch = f"unknown until {inert_line(missing)} is here (minigpt data fetch {inert_line(missing)})"
    else:
        about = "" if sizes.exact else "about "
        epoch = f"{about}{sizes.train:,} tokens, {about}{sizes.steps_per_epoch:,.1f} steps"
    # Two operations a weight forward and four back (Kaplan et al. 2020), and the attention weights; tables are free.
    tables = model.block_size * model.n_embd if model.positions == "learned" else 0
    tables += 0 if model.tie_weights else vocab_size * model.n_embd
    operations = 6 * (parameters - tables) + 12 * model.n_layer * model.n_embd * model.block_size
    _print_pairs(
        [
            ("vocabulary", f"{at_most}{vocab_size:,} tokens ({config.data.tokenizer})"),
            ("batch", batch),
            ("epoch", epoch),
            ("arithmetic", f"{operations / 1e6:,.1f} MFLOP to learn from one token"),
        ]
    )
    return sizes


def _print_memory(config: "Config", vocab_size: int, places: Sequence[_Place]) -> None:
    estimates = [_estimate(config, vocab_size, place) for place in places]

    def row(title: str, cells: Iterable[str]) -> None:
        print((f"{title:<40}" + "".join(f"{cell:>18}" for cell in cells)).rstrip())

    print()
    row("", (place.name for place in places))
    row("memory", (f"{place.device_type}, {place.precision}" for place in places))
    row("a step, at its peak", (_size(estimate.training.total) for estimate in estimates))
    row("  reached in the", (estimate.training.phase for estimate in estimates))
    for part in ("weights", "gradients", "optimizer", "average", "activations"):
        sizes = [getattr(estimate.training, part) for estimate in estimates]
        if part != "average" or any(sizes):
            row(f"  {'moving average' if part == 'average' else part}", map(_size, sizes))
    row("an evaluation, at its peak", (_size(estimate.evaluation.total) for estimate in estimates))
    if any(place.device_type == "cpu" for place in places):
        copies = (_size(estimate.checkpoint if estimate.device_type == "cpu" else 0) for estimate in estimates)
        row("+ a copy, while a checkpoint is written", copies)
    row("+ CUDA context, or Python and torch", (_size(estimate.own) for estimate in estimates))
    if any(place.device_type == "cuda" for place in places):
        row("+ holes of the CUDA allocator", (_size(estimate.margin) for estimate in estimates))
    row("= what training needs at its peak", (_size(estimate.needed) for estimate in estimates))
    row("generation, by itself", (_size(estimate.generation.total) for estimate in estimates))
    # Without this line somebody would miss the gradients.
    print("\nThe parts are those at the peak: gradients come as activations go.")


def _verdict(config: "Config", vocab_size: int, place: _Place) -> None:
    from minigpt.estimate import fitting_accumulation

    estimate = _estimate(config, vocab_size, place)
    article = "an" if place.name.startswith(("8", "11 ", "18 ")) else "a"
    what = "this machine's memory" if place.name == "this machine" else f"{article} {place.name}"
    fits = estimate.needed <= place.capacity
    own = ", CUDA context included" if place.device_type == "cuda" else ""
    needs = f"needs {_gib(estimate.needed)} of {_gib(place.capacity)} GiB{own}"
    print(f"fits {what}: {'yes' if fits else 'no'} ({needs})")
    if fits:
        return
    pieces = fitting_accumulation(config, vocab_size, place.device_type, place.precision, place.capacity)
    if pieces:
        print(f"  it would with --train.gradient-accumulation-steps {pieces}: the batch in smaller pieces")
    elif estimate.evaluation.total > estimate.training.total:
        print("  what is too large is an evaluation's logits, whatever the batch: take a smaller vocabulary")
    else:
        print("  not even one sequence at a time does: take a smaller --model.n-embd, --model.n-layer or context")


def _print_time(config: "Config", vocab_size: int, device: "Device", sizes: "SplitSizes | None", place: _Place) -> None:
    from minigpt.step_time import measure_step

    print(f"\ntime on this machine ({device.type}, {device.precision})")
    needed = _estimate(config, vocab_size, place).needed
    if needed > place.free:
        print(f"  not measured: needs {_gib(needed)} GiB of memory, and {_gib(place.free)} are free")
        return
    interactive = sys.stderr.isatty()

    def progress(words: str) -> None:
        if interactive:
            print(f"\r\x1b[K{words} …", end="", file=sys.stderr, flush=True)

    try:
        measured = measure_step(config, vocab_size, device, progress)
    except UserError as error:
        print(f"  not measured: {error}")
        return
    finally:
        if interactive:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    _print_pairs(_time_lines(config, measured, sizes))


def _time_lines(config: "Config", measured: "StepTime", sizes: "SplitSizes | None") -> list[tuple[str, str]]:
    train = config.train
    tokens = train.batch_size * config.model.block_size
    part = "" if measured.sequences == train.batch_size else f", scaled up from {measured.sequences:,} of its sequences"
    count = "one step" if measured.steps == 1 else f"{measured.steps} steps"
    seconds = f"{measured.seconds * 1000:,.0f} ms" if measured.seconds < 1 else f"{measured.seconds:,.1f} s"
    lines = [
        ("a step", f"{seconds}, {tokens / measured.seconds:,.0f} tokens/s (median of {count}{part})"),
    ]
    per_epoch = sizes.steps_per_epoch if sizes else None
    limits = {
        "max_steps": float(train.max_steps),
        "max_epochs": train.max_epochs * per_epoch if per_epoch else 0.0,
        "max_minutes": train.max_minutes * 60 / measured.seconds,
    }
    if train.max_epochs and not per_epoch:
        lines.append(("max_epochs", "unknown until the corpus is here"))
    given = {key: steps for key, steps in limits.items() if steps}
    if not given:
        return lines
    first, steps = min(given.items(), key=lambda item: item[1])
    epochs = f", {steps / per_epoch:,.1f} epochs" if per_epoch else ""
    lines.append(("training", f"{_duration(steps * measured.seconds)}: {steps:,.0f} steps{epochs} (by {first})"))
    if sizes:
        # Without the way back a token takes about a third.
        one = (sizes.val + min(train.train_eval_tokens, sizes.train)) / tokens * measured.seconds / 3
        interval = train.eval_interval or per_epoch or steps
        times = int(steps / interval) + 1
        lines.append(("evaluations", f"about {_duration(one * times)} more: {times:,} of about {_duration(one)}"))
    if config.device.compile:
        lines.append(("", "measured without torch.compile"))
    return lines


def _print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        print(f"  {name:<14}{value}".rstrip())


def _size(size: int) -> str:
    return f"{size / (1 << 30):,.2f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.1f} MiB"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):,.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 72:
        return f"{hours} h {minutes:02} min"
    return f"{hours / 24:,.1f} days"
