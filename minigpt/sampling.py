"""How a text is to be continued: the settings, and how they choose a token.

The functions take the logits of the next token, (V), and return logits again, those of excluded tokens -∞. `choose`
applies them in this order: repetition penalty, temperature, top-k, top-p, min-p. So the penalty works on what the
model said, and top-p and min-p see the probabilities as the temperature has made them.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt.errors import UserError

if TYPE_CHECKING:  # the first frame shows these settings: it must not wait for torch
    from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and how many of them."""

    max_new_tokens: int = 200
    temperature: float = 0.8
    """0 takes the likeliest token every time."""
    top_k: int = 40
    """0 for all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability (Holtzman et al. 2020); 1 for all."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the likeliest one (Nguyen et al. 2024); 0 for all."""
    repetition_penalty: float = 1.0
    """Above 1, what the text has already becomes less likely (Keskar et al. 2019)."""
    stop: str = ""
    """The text ends before this string; empty for none."""
    seed: int = 1


def choose(logits: "Tensor", sampling: Sampling, generator: "Generator", seen: "Tensor | None" = None) -> int:
    """Choose the next token from its logits (V), which are on the CPU; `seen` (V) marks the tokens of the text so far.

    Raises UserError if the logits are no finite numbers.
    """
    if not bool(logits.isfinite().all()):
        raise UserError(
            "the model's outputs are no finite numbers: its training has diverged; try an earlier checkpoint"
        )
    # In float64: neither an extreme temperature nor the sum over a large vocabulary is then a matter of rounding.
    logits = logits.double()
    if seen is not None and sampling.repetition_penalty != 1:
        logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = apply_temperature(logits, sampling.temperature)
    if 0 < sampling.top_k < len(logits):
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = keep_min_p(logits, sampling.min_p)
    return int(logits.softmax(0).multinomial(1, generator=generator))


def penalise_repetition(logits: "Tensor", seen: "Tensor", penalty: float) -> "Tensor":
    """Divide the logits of the tokens in `seen` (V, bool) by the penalty, or multiply them where they are negative.

    The rule of CTRL (Keskar et al. 2019), in the form that works for logits of either sign.
    """
    return logits.where(~seen, (logits / penalty).where(logits > 0, logits * penalty))


def apply_temperature(logits: "Tensor", temperature: float) -> "Tensor":
    """Divide by the temperature, which is above 0: probabilities p become p^(1 / temperature), normalised."""
    # Softmax takes no notice of what is subtracted, and the largest cannot overflow when it is 0.
    return (logits - logits.max()) / temperature


def keep_top_k(logits: "Tensor", k: int) -> "Tensor":
    """Keep the k likeliest tokens."""
    values, tokens = logits.topk(k)
    return logits.new_full(logits.shape, -math.inf).scatter(0, tokens, values)


def keep_top_p(logits: "Tensor", p: float) -> "Tensor":
    """Keep the fewest likeliest tokens that together have at least probability p (nucleus; Holtzman et al. 2020)."""
    ordered, tokens = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(0)
    before = probabilities.cumsum(0) - probabilities  # of all that are likelier: 0 for the first, which always stays
    return logits.scatter(0, tokens, ordered.masked_fill(before >= p, -math.inf))


def keep_min_p(logits: "Tensor", min_p: float) -> "Tensor":
    """Keep the tokens at least min_p times as likely as the likeliest one (Nguyen et al. 2024)."""
    return logits.masked_fill(logits < logits.max() + math.log(min_p), -math.inf)
