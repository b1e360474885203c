"""Which part of the x axis the charts of a pane show, and how: one immutable value that they share."""

from dataclasses import dataclass, replace
from math import ceil

from tui.charts.quantities import PERPLEXITY
from tui.charts.scale import last_step, nice
from tui.charts.smoothing import WEIGHTS
from tui.charts.traces import STEP


@dataclass(frozen=True)
class Extent:
    """How far the data reaches on an x axis that begins at 0."""

    newest: float
    end: float
    """Where the whole run will be over; 0 while unknown."""
    grain: float
    """About how far two neighbouring values lie from each other."""

    @property
    def whole(self) -> float:
        """Where the axis ends that shows the whole run."""
        return last_step(self.newest, self.end)


@dataclass(frozen=True)
class ChartView:
    """What the keys change; the charts are drawn by it. It begins as the whole run over its steps."""

    axis: str = STEP
    span: float | None = None
    """How much of the axis is shown; None: the whole run."""
    start: float | None = None
    """Where that begins; None: it follows the newest value."""
    smoothing: float = 0.8
    """How much a value counts against the one after it, in the smoothed line; 0 for none."""
    cursor: float | None = None
    """A place on the x axis; None without a cursor."""
    logarithmic: frozenset[str] = frozenset({PERPLEXITY})
    """The charts with a logarithmic scale. On a linear one the first perplexities leave no room for the rest."""

    @property
    def is_zoomed(self) -> bool:
        """Whether anything less than the whole run is shown."""
        return self.span is not None

    @property
    def follows(self) -> bool:
        """Whether the newest value stays in view as the run grows."""
        return self.start is None

    def bounds(self, extent: Extent) -> tuple[float, float]:
        """The ends of the x axis."""
        if self.span is None or self.span >= extent.whole:
            return 0.0, extent.whole
        if self.start is not None:
            return self.start, self.start + self.span
        # In jumps, so that the chart stays as it is for most new values: every cell sent costs.
        jump = nice(self.span / 10)
        start = max(0.0, min(ceil(extent.newest / jump) * jump, extent.whole) - self.span)
        return start, start + self.span

    def zoom(self, factor: float, extent: Extent, about: float | None = None) -> "ChartView":
        """Show `factor` times as much; what lies at `about` stays where it is, without it the right end does."""
        low, high = self.bounds(extent)
        span = max((high - low) * factor, min(4 * extent.grain, extent.whole))
        if span >= extent.whole:
            return replace(self, span=None, start=None)
        if about is None and self.follows:
            return replace(self, span=span)
        about = high if about is None else min(max(about, low), high)
        share = (about - low) / (high - low) if high > low else 0.5
        return replace(self, span=span, start=self._within(about - share * span, span, extent))

    def pan(self, by: float, extent: Extent) -> "ChartView":
        """Move along the axis by a share of what is shown; the newest is followed no longer."""
        if self.span is None:
            return self
        low, high = self.bounds(extent)
        return replace(self, start=self._within(low + by * (high - low), high - low, extent))

    @staticmethod
    def _within(start: float, span: float, extent: Extent) -> float:
        return max(0.0, min(start, extent.whole - span))

    def show_whole(self) -> "ChartView":
        """The whole run again."""
        return replace(self, span=None, start=None)

    def stay(self, extent: Extent) -> "ChartView":
        """Keep what is in view there, however the run grows."""
        low, high = self.bounds(extent)
        return replace(self, span=high - low, start=low)

    def toggle_log(self, name: str) -> "ChartView":
        """The other scale for one chart."""
        return replace(self, logarithmic=self.logarithmic ^ {name})

    def smooth(self, by: int) -> "ChartView":
        """The next stronger (1) or weaker (-1) smoothing."""
        if by > 0:
            weight = next((one for one in WEIGHTS if one > self.smoothing), WEIGHTS[-1])
        else:
            weight = next((one for one in reversed(WEIGHTS) if one < self.smoothing), WEIGHTS[0])
        return replace(self, smoothing=weight)
