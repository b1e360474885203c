"""The options of `minigpt generate`."""

from typing import Literal

from pydantic import Field

from minigpt.config import Section


class GenerateOptions(Section):
    """How a text is continued, and by which model."""

    prompt: str = "\n"
    r"""Text to continue, in which \n is a line break; empty for a random token to begin with."""
    max_new_tokens: int = Field(default=200, ge=1, le=10**6)
    """How many tokens to write."""
    temperature: float = Field(default=0.8, ge=0, le=10)
    """Below 1 for likelier text, above for wilder; 0 takes the likeliest token every time."""
    top_k: int = Field(default=200, ge=0)
    """Choose among this many likeliest tokens; 0 for all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Choose among the likeliest tokens that together have this probability; 1 for all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Choose among tokens at least this many times as likely as the likeliest one; 0 for all."""
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    """Above 1, tokens that the text has already become less likely."""
    stop: str = ""
    r"""End before this string, in which \n is a line break."""
    num_samples: int = Field(default=1, ge=1, le=10**6)
    """How many texts to write. Each has its own seed, the first --seed and each one more, to have it again alone."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """The same seed, checkpoint and settings give the same text."""
    unknown: Literal["refuse", "replace", "drop"] = "refuse"
    """What becomes of characters in the prompt that the model has never seen."""
    checkpoint: str = "last"
    """last, best, a step, or the path of a checkpoint's directory."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the best there is."""
