"""The curves of one or several runs as a picture: loss and perplexity, of training and validation."""

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window system is asked for, and nothing global is kept
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from minigpt.inert import inert_line
from minigpt.metrics import Metrics

# Okabe and Ito's colours, which the colour-blind can tell apart; the marker tells runs apart where there is no colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_VALIDATION: dict[str, Any] = {"linestyle": "-", "linewidth": 1.8, "markersize": 4.5}
_TRAINING: dict[str, Any] = {"linestyle": "--", "linewidth": 1.3, "markersize": 3.5, "markerfacecolor": "white"}
_BATCHES: dict[str, Any] = {"linestyle": "-", "linewidth": 0.7, "alpha": 0.35}

_LARGEST = 1e30  # what is larger is no loss or perplexity any more, and would leave the axes without limits


@dataclass(frozen=True)
class Curves:
    """One run to be drawn."""

    name: str
    metrics: Metrics


def has_curves(metrics: Metrics) -> bool:
    """Whether there is anything to draw."""
    return any(
        np.isfinite(_shown(metrics.series(name)[1], False)).any()
        for name in ("val_loss", "train_eval_loss", "train_loss")
    )


def draw(runs: list[Curves]) -> Figure:
    """Two panels, loss and perplexity by step. Values that are not finite are gaps; the best step is marked."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    loss, perplexity = figure.subplots(1, 2)
    for place, run in enumerate(runs):
        look = _look(place)
        # A run by itself has two colours; among several, one colour is one run.
        training = look if len(runs) > 1 else _look(1)
        _draw_run(loss, run.metrics, look, training, perplexity=False)
        _draw_run(perplexity, run.metrics, look, training, perplexity=True)
    _finish(loss, "loss", "nats per token")
    _finish(perplexity, "perplexity", "e to the loss (logarithmic)")
    perplexity.set_yscale("log")
    perplexity.yaxis.set_major_locator(LogLocator(subs=_subdivisions(perplexity)))
    perplexity.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.4g}" if value < 1e5 else f"{value:.0e}")
    )
    perplexity.yaxis.set_minor_formatter(NullFormatter())
    _legend(figure, runs)
    return figure


def picture(runs: list[Curves], kind: str) -> bytes:
    """The drawing as a file's content; `kind` is png, svg or pdf."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is drawn as boxes
        draw(runs).savefig(content, format=kind, dpi=150)
    return content.getvalue()


def _look(place: int) -> dict[str, Any]:
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _MARKERS[place % len(_MARKERS)]}


def _draw_run(
    axes: Axes, metrics: Metrics, look: dict[str, Any], training: dict[str, Any], *, perplexity: bool
) -> None:
    for name, own, style in (
        ("train_loss", training, _BATCHES),
        ("train_eval_loss", training, _TRAINING),
        ("val_loss", look, _VALIDATION),
    ):
        steps, values = metrics.series(name)
        # A line of hundreds of markers is a smear; a lone value between gaps is seen by its marker only.
        marker = own["marker"] if name != "train_loss" else "." if len(steps) < 3 else ""
        every = max(1, -(-len(steps) // 40))
        axes.plot(steps, _shown(values, perplexity), **{**own, **style, "marker": marker, "markevery": every})
    if metrics.best is not None:
        step, value = metrics.best
        height = float(_shown(np.array([value]), perplexity)[0])
        axes.plot([step], [height], **{**look, "marker": "*"}, markersize=13, markeredgecolor="black", zorder=5)


def _shown(values: NDArray[np.float64], perplexity: bool) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        shown = np.exp(values) if perplexity else values.copy()
    shown[~(np.abs(shown) < _LARGEST)] = np.nan  # nan included
    return shown


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_ylabel(unit)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _subdivisions(axes: Axes) -> tuple[float, ...]:
    # Over less than two decades the powers of ten alone would leave the axis without numbers.
    low, high = axes.get_ylim()
    return (1.0, 2.0, 5.0) if low <= 0 or high / low > 8 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


def _legend(figure: Figure, runs: list[Curves]) -> None:
    alone = len(runs) == 1
    nobody = {"color": "0.25", "marker": ""}
    validation, training = (_look(0), _look(1)) if alone else (nobody, nobody)
    best = "best step" + (_best(runs[0].metrics, ": ") if alone else "")
    entries = [
        (Line2D([], [], **validation, **_VALIDATION), "validation"),
        (Line2D([], [], **training, **_TRAINING), "training, evaluated likewise"),
        (Line2D([], [], **{**training, "marker": ""}, **_BATCHES), "training, batches as they came"),
        (Line2D([], [], **{**validation, "marker": "*"}, markersize=12, markeredgecolor="black", ls=""), best),
    ]
    if alone:
        figure.suptitle(inert_line(runs[0].name, 100), parse_math=False)
    else:
        for place, run in enumerate(runs):
            # A label that begins with an underscore would be left out.
            label = f"\N{ZERO WIDTH SPACE}{inert_line(run.name, 60)}{_best(run.metrics, ': best ')}"
            entries.insert(place, (Line2D([], [], **_look(place), **_VALIDATION), label))
    handles, labels = zip(*entries, strict=True)
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=4 if alone else 3, frameon=False, fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _best(metrics: Metrics, before: str) -> str:
    # Not beside the point itself, where several runs would write over each other.
    return "" if metrics.best is None else f"{before}{metrics.best[1]:,.4f} at step {metrics.best[0]:,}"
