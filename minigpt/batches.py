"""Batches and evaluation windows, cut from the token ids of one split."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minigpt.errors import UserError


class Split:
    """The training or validation part of a corpus as token ids."""

    def __init__(self, ids: NDArray[np.integer], name: str, block_size: int) -> None:
        # One context and the token after it: what a single training example takes.
        if len(ids) < block_size + 1:
            raise UserError(
                f"the corpus is too short: its {name} split has {len(ids):,} tokens, and a context of "
                f"block_size = {block_size} needs {block_size + 1:,}. Take more text, a smaller --model.block-size"
                + (" or a larger --data.val-fraction." if name == "validation" else ".")
            )
        self.ids = ids
        self.name = name
        self.block_size = block_size

    def __len__(self) -> int:
        return len(self.ids)

    def random_batch(self, batch_size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """The batch of one step: ids and targets, both (batch_size, block_size), at random places.

        It depends on seed and step alone: the generator is counter-based (Philox; Salmon et al. 2011), so that a
        resumed run needs no sampler position, and nothing else that draws random numbers can shift it.
        """
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
        starts = generator.integers(0, len(self.ids) - self.block_size, size=batch_size)
        windows = self.ids[starts[:, None] + np.arange(self.block_size + 1)].astype(np.int64)  # (B, T + 1)
        batch = torch.from_numpy(windows)
        return batch[:, :-1].contiguous(), batch[:, 1:].contiguous()

    def windows(self, tokens: int | None = None) -> list[NDArray[np.integer]]:
        """Fixed windows of block_size + 1 ids, each beginning with the last id of the one before.

        Without `tokens`, all of the split: every id but the first is predicted once, the short last window included.
        Otherwise as many whole windows as make up that many tokens, spread evenly over the split.
        """
        starts = np.arange(0, len(self.ids) - 1, self.block_size)
        if tokens is not None:
            whole = (len(self.ids) - 1) // self.block_size
            wanted = max(1, min(whole, -(-tokens // self.block_size)))
            starts = np.arange(wanted) * whole // wanted * self.block_size
        return [self.ids[start : start + self.block_size + 1] for start in starts]


def split_ids(ids: NDArray[np.integer], val_fraction: float, block_size: int) -> tuple[Split, Split]:
    """Cut a corpus into its training part and, at its end, its validation part.

    Raises UserError if either is too short for one context.
    """
    boundary = len(ids) - int(len(ids) * val_fraction)
    return Split(ids[:boundary], "training", block_size), Split(ids[boundary:], "validation", block_size)
