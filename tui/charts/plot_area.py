"""Where in a drawn chart things lie: the part inside its axes, and the scales that lead there and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui.charts.reduce import Floats, column_of
from tui.charts.scale import scaled


@dataclass(frozen=True)
class Area:
    """The part of the grid inside the axes, and the scales that lead there."""

    top: int
    left: int
    width: int
    height: int
    bounds: tuple[float, float]
    values: tuple[float, float]  # of the logarithms where the scale is logarithmic
    logarithmic: bool

    def heights(self, values: Floats) -> Floats:
        """Rows of dots from the top, four to a cell, not rounded and reaching beyond the area; nan stays nan."""
        places = scaled(values, self.logarithmic)
        low, high = self.values
        rows: Floats = (high - places) / (high - low) * (self.height * 4 - 1)
        return rows

    def dots(self, values: Floats) -> Floats:
        """Rows of dots inside the area."""
        return np.clip(np.rint(self.heights(values)), 0, self.height * 4 - 1)

    def columns(self, places: Floats) -> NDArray[np.int64]:
        """The columns of the grid of those places that lie between the bounds."""
        inside = places[(places >= self.bounds[0]) & (places <= self.bounds[1])]
        return self.left + column_of(inside, self.bounds, self.width * 2) // 2

    def column(self, place: float) -> int | None:
        """The column of the grid of one place."""
        columns = self.columns(np.array([place]))
        return int(columns[0]) if columns.size else None


@dataclass(frozen=True)
class PlotArea:
    """Where in a drawn chart the x axis lies: what a mouse needs."""

    left: int
    width: int
    bounds: tuple[float, float]

    def place(self, column: float) -> float:
        """The place under a column of the grid."""
        low, high = self.bounds
        # Two columns of dots to a cell; its middle lies between them.
        share = (2 * (column - self.left) + 0.5) / max(1, 2 * self.width - 1)
        return low + min(1.0, max(0.0, share)) * (high - low)
