"""How a text is to be continued, for those who ask as well as for the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how many of them."""

    max_new_tokens: int = 200
    temperature: float = 0.8
    """0 takes the likeliest token every time."""
    top_k: int = 40
    """0 for all."""
    seed: int = 1
