"""`minigpt generate`."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.inert import inert, inert_line

if TYPE_CHECKING:
    from minigpt.cli.generate_options import GenerateOptions
    from minigpt.model import GPT
    from minigpt.tokenizer import Tokenizer

_USAGE = """\
usage: minigpt generate RUN [--prompt TEXT] [--option VALUE ...]
       minigpt generate --checkpoint PATH [--prompt TEXT] [--option VALUE ...]

Lets the model of a run continue a text, printed as it comes. RUN is the directory of a run or its name
(`minigpt runs` lists them). Ctrl+C ends the text.

"""


def generate_text(arguments: list[str]) -> int:
    from minigpt.cli.arguments import help_of, parse, wants_help
    from minigpt.cli.generate_options import GenerateOptions
    from minigpt.cli.opening import named_device, named_run, open_model

    if not arguments or wants_help(arguments):
        print(_USAGE + help_of(GenerateOptions), end="")
        return 0 if arguments else 2
    names, options = parse(GenerateOptions, arguments)
    if len(names) > 1:
        raise UserError(f"{inert_line(names[1])}: one run at a time; a text to continue is given by --prompt TEXT")
    if options.seed + options.num_samples > 2**63:
        raise UserError("--seed and --num-samples: the last sample's seed would exceed 2⁶³-1")
    run = named_run(names[0] if names else None, options.checkpoint, "minigpt generate RUN --prompt TEXT")
    _, model, tokenizer = open_model(run, options.checkpoint, named_device(options.device).type)
    try:
        _write_samples(model, tokenizer, options)
    except KeyboardInterrupt:
        print()  # the shell goes on in a line of its own
        raise
    return 0


def _write_samples(model: "GPT", tokenizer: "Tokenizer", options: "GenerateOptions") -> None:
    from minigpt.cli.opening import saying_how_to_go_on
    from minigpt.generate import generate, random_start
    from minigpt.prompt import typed_prompt
    from minigpt.sampling import Sampling
    from minigpt.tokenizer import known_text

    with saying_how_to_go_on():
        given = known_text(tokenizer, typed_prompt(options.prompt), options.unknown)
    for number in range(options.num_samples):
        sampling = Sampling(
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            stop=typed_prompt(options.stop),
            seed=options.seed + number,
        )
        prompt = given if options.prompt else random_start(tokenizer, sampling.seed)
        pieces = generate(model, tokenizer, prompt, sampling)
        first = next(pieces, "")  # an unusable prompt is refused before anything is printed
        if options.num_samples > 1:
            gap = "\n" if number else ""
            print(f"{gap}=== sample {number + 1} of {options.num_samples}, seed {sampling.seed} ===")
        for text in _printable(chain([prompt, first], pieces)):
            sys.stdout.write(text)
            sys.stdout.flush()
        print()


def _printable(pieces: Iterable[str]) -> Iterator[str]:
    # A carriage return waits for what comes next: a line feed makes a mere end of line of the two.
    # And what stood just before a piece tells how many marks its first letter has already.
    held = before = ""
    for piece in pieces:
        text = held + piece
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        yield inert(before + text, tabs=True)[len(inert(before, tabs=True)) :]
        before = (before + text)[-8:]
    yield inert(held)
