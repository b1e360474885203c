"""The options of `minigpt generate`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class GenerateOptions:
    """Let the model of a run continue a text, printed as it comes."""

    run: Annotated[str, tyro.conf.Positional]
    """Directory or name of the run."""
    prompt: Annotated[str, tyro.conf.arg(help_behavior_hint="(default: a newline)")] = "\n"
    """Text to continue."""
    max_new_tokens: int = 200
    """How many tokens to write."""
    temperature: float = 0.8
    """Below 1 for likelier text, above for wilder; 0 takes the likeliest token every time."""
    top_k: int = 40
    """Choose among this many likeliest tokens; 0 for all."""
    seed: int = 1
    """The same seed, checkpoint and settings give the same text."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the best there is."""
    checkpoint: str = "last"
    """last, best, or a step."""
