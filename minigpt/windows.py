"""The windows in which a text is evaluated, and how many of their tokens at once. Free of torch."""

import numpy as np
from numpy.typing import NDArray

BATCH_TOKENS = 8192
_LOGITS_AT_ONCE = 1 << 26  # 256 MiB in float32: the logits are what takes the memory where the vocabulary is large


def windows_of(ids: NDArray[np.integer], block_size: int) -> list[NDArray[np.integer]]:
    """Cut ids into windows of block_size + 1, each beginning with the last id of the one before.

    Every id but the first is predicted once; the last window may be shorter.
    """
    return [ids[start : start + block_size + 1] for start in range(0, len(ids) - 1, block_size)]


def windows_at_once(window_tokens: int, vocab_size: int, batch_tokens: int = BATCH_TOKENS) -> int:
    """How many windows that predict `window_tokens` each an evaluation hands to the model together."""
    return max(1, min(batch_tokens, _LOGITS_AT_ONCE // vocab_size) // window_tokens)
