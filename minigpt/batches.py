"""Batches and evaluation windows, cut from the token ids of one split."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minigpt.errors import UserError
from minigpt.windows import windows_of


class Split:
    """The training or validation part of a corpus as token ids."""

    def __init__(self, ids: NDArray[np.integer], name: str, block_size: int) -> None:
        # One context and the token after it: what a single training example takes.
        if len(ids) < block_size + 1:
            raise UserError(
                f"the corpus is too short: its {name} split has {len(ids):,} tokens, and a context of "
                f"block_size = {block_size} needs {block_size + 1:,}. "
                + ("Take more text, a larger --data.val-fraction" if name == "validation" else "Take more text")
                + " or a smaller --model.block-size."
            )
        self.ids = ids
        self.name = name
        self.block_size = block_size

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self, tokens: int | None = None) -> list[NDArray[np.integer]]:
        """Fixed windows of block_size + 1 ids, each beginning with the last id of the one before.

        Without `tokens`, all of the split: every id but the first is predicted once, the short last window included.
        Otherwise as many whole windows as make up that many tokens, spread evenly over the split.
        """
        if tokens is None:
            return windows_of(self.ids, self.block_size)
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


class Batches:
    """The batches of a training: which part of a split is seen at which step.

    The batch of a step depends on seed and step alone: the generator is counter-based (Philox; Salmon et al. 2011), so
    that a resumed run needs no sampler position, and nothing else that draws random numbers can shift it.

    `order` is "random" for windows at random places, or "epochs" for sequences that do not overlap, each once per
    epoch in an order shuffled anew; the last batch of an epoch is then smaller if they don't come out even.
    """

    def __init__(self, split: Split, batch_size: int, order: Literal["random", "epochs"], seed: int) -> None:
        self.split = split
        self.batch_size = batch_size
        self.order = order
        self.seed = seed
        self.sequences = (len(split) - 1) // split.block_size
        """Non-overlapping sequences in an epoch."""
        self._shuffled: tuple[int, NDArray[np.int64]] | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many tokens are seen as the split has; a whole number for epochs."""
        if self.order == "epochs":
            return float(-(-self.sequences // self.batch_size))
        return len(self.split) / (self.batch_size * self.split.block_size)

    def tokens_at(self, step: int) -> int:
        """How many tokens the first `step` batches have."""
        if self.order == "random":
            return step * self.batch_size * self.split.block_size
        epochs, rest = divmod(step, int(self.steps_per_epoch))
        return (epochs * self.sequences + rest * self.batch_size) * self.split.block_size

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch that leads from `step` to `step` + 1: ids and targets, both (B, T) with T = block_size."""
        if self.order == "random":
            generator = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, step]))
            starts = generator.integers(0, len(self.split) - self.split.block_size, size=self.batch_size)
        else:
            epoch, place = divmod(step, int(self.steps_per_epoch))
            first = place * self.batch_size
            starts = self._order_of(epoch)[first : first + self.batch_size] * self.split.block_size
        windows = self.split.ids[starts[:, None] + np.arange(self.split.block_size + 1)].astype(np.int64)  # (B, T + 1)
        batch = torch.from_numpy(windows)
        return batch[:, :-1].contiguous(), batch[:, 1:].contiguous()

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 1, epoch]))
            self._shuffled = epoch, generator.permutation(self.sequences)
        return self._shuffled[1]
