"""Loss spikes: a training loss that leaps out of what it was just before."""

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

_WINDOW = 30  # rows of metrics
_LEAST = 10
_DEVIATIONS = 6.0
_LEAST_RISE = 0.05  # of the loss: a run that has settled has hardly any deviation


class Spikes:
    """Takes the training loss row by row; one that is high for many rows is told once.

    `losses` are the last ones before, those of a hundred rows for the same answers as if it had taken all of them.
    """

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._in_spike = False
        for loss in losses:
            self.take(loss)

    def take(self, loss: float) -> bool:
        """Whether a spike begins with this row: 6 standard deviations above the median of the rows before.

        The deviation is estimated by the median absolute one (times 1.4826), which an earlier spike does not widen.
        """
        if not math.isfinite(loss):
            return False
        middle = median(self._losses) if self._losses else 0.0
        deviation = 1.4826 * median(abs(each - middle) for each in self._losses) if self._losses else 0.0
        is_high = loss > middle + max(_DEVIATIONS * deviation, _LEAST_RISE * middle)
        begins = is_high and not self._in_spike and len(self._losses) >= _LEAST
        self._in_spike = is_high
        self._losses.append(loss)
        return begins
