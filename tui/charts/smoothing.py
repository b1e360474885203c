"""The exponential moving average of a growing series, a block of values at a time instead of one after the other."""

import math

import numpy as np

from tui.charts.reduce import Floats

WEIGHTS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""What the keys go through. 0 is no smoothing; 0.99 averages about the last 100 rows."""

_LARGEST = 1e150
_SMALLEST = 0.01  # of weights: below, nothing would be smoothed
_SHRINKS_TO = 1e-60  # over a block; a power of the weight must stay far from what a float can hold


class MovingAverage:
    """Averages finite values: each counts `weight` times as much as the one after it.

    The bias of the first values, before which there is nothing, is corrected: the first average is the first value.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._sum = 0.0
        self._count = 0

    def extend(self, values: Floats) -> Floats:
        """The averages at these values, which follow those of the calls before."""
        weight = self.weight
        if not _SMALLEST <= weight < 1 or not values.size:
            return values
        size = max(1, min(values.size, int(math.log(_SHRINKS_TO) / math.log(weight))))
        padded = np.zeros(-(-values.size // size) * size)
        np.clip(values, -_LARGEST, _LARGEST, out=padded[: values.size])
        blocks = padded.reshape(-1, size)
        fading = weight ** np.arange(1.0, size + 1)
        blocks /= fading
        sums = np.cumsum(blocks, axis=1)
        sums *= fading * (1 - weight)
        # What came before its neighbour has faded below what a float can tell when a whole block has passed.
        carried = np.concatenate(([self._sum], sums[:-1, -1]))
        carried[1:2] += fading[-1] * self._sum
        sums += np.multiply.outer(carried, fading)
        averages = sums.ravel()[: values.size]
        self._sum = float(averages[-1])
        first = self._count
        self._count += values.size
        # After so many values the correction is one part in 10^17.
        biased = min(values.size, max(0, int(-40 / math.log(weight)) - first))
        averages[:biased] /= -np.expm1(math.log(weight) * np.arange(first + 1.0, first + 1 + biased))
        return averages
