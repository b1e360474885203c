"""What the charts show of one run, or of several over each other: made from their series, for `plot` to draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.metrics import perplexity
from tui.charts.grid import (
    ALERT,
    BEST,
    BEST_MARK,
    BROKEN,
    CHECKPOINT,
    FIRST_RUN,
    HATCHED,
    LABEL,
    MARK,
    PROBLEM,
    RATE,
    RAW,
    RAW_IN_ASCII,
    RESUMED,
    ROLLBACK,
    RUNS,
    SOLID,
    SPIKE,
    TRAIN,
    VAL,
)
from tui.charts.plot import Line, Picture
from tui.charts.quantities import LOSS, PERPLEXITY, Quantity, Series, figure
from tui.charts.traces import SMOOTHED_FROM, STEP, Traces
from tui.charts.view import ChartView, Extent
from tui.run.following import Following

_RUN_MARKS = "●■◆○□"
_RUN_NAMES = "123456789abcdefghijklmnopqrstuvwxyz"
# What happened beside the values, of which the charts show where; a loss that is not finite is there as ×.
_SHOWN_ELSEWHERE = frozenset({"spike", "nonfinite"})


@dataclass(frozen=True)
class RunMark:
    """How a run among several is told from the others, with colours and without."""

    role: int
    name: str
    """Stands on its lines."""
    point: str
    """Stands on each of its evaluations."""


def run_mark(number: int) -> RunMark:
    """That of the first run (0) and of those after it."""
    return RunMark(
        FIRST_RUN + number % RUNS, _RUN_NAMES[number % len(_RUN_NAMES)], _RUN_MARKS[number % len(_RUN_MARKS)]
    )


def picture_of(
    runs: Sequence[Traces], quantity: Quantity, view: ChartView, extent: Extent | None, *, is_current: bool = False
) -> Picture:
    """One chart; `extent` tells what the whole x axis is, None: from the lines themselves."""
    lines, legend = _of_one_run(runs[0], quantity, view) if len(runs) == 1 else _of_several(runs, quantity, view)
    logarithmic = quantity.name in view.logarithmic
    largest = [float(line.points.values.max()) for line in lines if quantity.in_bytes and line.points.values.size]
    unit, size = quantity.unit_for(max(largest, default=0.0))
    words = [f"{quantity.title} ({unit})" if unit else quantity.title]
    words += ["log"] if logarithmic else []
    first = runs[0].following
    return Picture(
        title=" · ".join(words),
        note=("follows" if view.follows else "stays") if view.is_zoomed else "",
        lines=tuple(lines),
        legend=tuple(legend),
        best=_best(runs, quantity, view.axis),
        recoveries=_places(runs, view.axis, _resumptions(runs[0].following)),
        rollbacks=_places(runs, view.axis, _rollbacks(runs[0].following)),
        spikes=_spikes(runs, view.axis) if quantity.name == LOSS else (),
        marks=(
            (ALERT, PROBLEM, _places(runs, view.axis, [step for step, _ in shown_alerts(first)])),
            (RATE, MARK, _places(runs, view.axis, first.rate_changes)),
            (CHECKPOINT, MARK, _places(runs, view.axis, first.saved) if quantity.name == LOSS else ()),
        ),
        end=first.max_steps if view.axis == STEP else 0,
        bounds=None if extent is None else view.bounds(extent),
        axis=view.axis,
        cursor=view.cursor,
        logarithmic=logarithmic,
        unit=size,
        is_current=is_current,
        waiting=_waiting(quantity, first),
    )


def _waiting(quantity: Quantity, following: Following) -> str:
    what = "loss" if quantity.name in {LOSS, PERPLEXITY} else "value"
    return f"waiting for the first {what}" if following.is_live else f"the run ended before its first {what}"


# ── the lines ─────────────────────────────────────────────────────────────────────────────────────────────────────


def weight_of(run: Traces, quantity: Quantity, series: Series, view: ChartView) -> float:
    """How much a series is smoothed; 0 for one that is not."""
    noisy = quantity.smoothed and series is quantity.series[0] and not series.is_validation
    return view.smoothing if noisy and run.size(series.metric) >= SMOOTHED_FROM else 0.0


def _of_one_run(run: Traces, quantity: Quantity, view: ChartView) -> tuple[list[Line], list[tuple[str, int]]]:
    bands, lines, legend = list[Line](), list[Line](), list[tuple[str, int]]()
    for series in quantity.series:
        weight = weight_of(run, quantity, series, view)
        points = run.points(series.metric, view.axis)
        role = VAL if series.is_validation else TRAIN
        if series.is_validation:
            # Below the line of the training: it has marks besides.
            lines.insert(0, Line(points, VAL, mark="●", ascii="-", exponential=quantity.exponential))
        elif weight:
            bands.append(Line(points, RAW, band=True, ascii=RAW_IN_ASCII, exponential=quantity.exponential))
            smoothed = run.points(series.metric, view.axis, weight)
            lines.append(Line(smoothed, TRAIN, exponential=quantity.exponential))
        else:
            lines.append(Line(points, TRAIN, exponential=quantity.exponential))
        if said := _said(run, quantity, series, view):
            sign = "●" if series.is_validation else HATCHED if weight else SOLID
            said[0] = " ".join(word for word in (sign, series.label, said[0]) if word)
            legend.append((" · ".join(said), role))
    return bands + lines, legend


def _of_several(
    runs: Sequence[Traces], quantity: Quantity, view: ChartView
) -> tuple[list[Line], list[tuple[str, int]]]:
    lines, legend = list[Line](), list[tuple[str, int]]()
    for number, run in enumerate(runs):
        sign = run_mark(number)
        said = list[str]()
        for series in quantity.series:
            weight = weight_of(run, quantity, series, view)
            points = run.points(series.metric, view.axis, weight)
            validation = series.is_validation and len(quantity.series) > 1
            if weight:
                raw = run.points(series.metric, view.axis)
                # Bands over each other would tell nothing, but a spike of one step is to be seen.
                lines.insert(
                    0, Line(raw, sign.role, excursions=True, ascii=RAW_IN_ASCII, exponential=quantity.exponential)
                )
            lines.append(
                Line(
                    points,
                    sign.role,
                    mark=sign.point if series.is_validation else "",
                    name=sign.name,
                    dashed=validation,
                    ascii="-" if series.is_validation else "*",
                    exponential=quantity.exponential,
                )
            )
            if values := _said(run, quantity, series, view):
                said.insert(0, f"{sign.point if series.is_validation else sign.name} {values[0]}")
        # Side by side there is room for one value of each, if not for the sake of the cursor.
        legend.append((" · ".join(said if view.cursor is not None else said[:1]), sign.role))
    return lines, legend


def _said(run: Traces, quantity: Quantity, series: Series, view: ChartView) -> list[str]:
    """What the legend says of a series: its value at the cursor, or else its newest, and the average there."""
    weight = weight_of(run, quantity, series, view)
    place = view.cursor if view.cursor is not None else float("inf")
    reading = run.reading(series.metric, view.axis, place, weight)
    if reading is None:
        return []
    said = [quantity.figure(_raised(reading.value, quantity))]
    if view.cursor is not None and reading.step != round(run.step_at(view.axis, view.cursor)):
        # Not a part of its own, which could be left out: without it the value would be taken for the cursor's.
        said[0] += f" at {reading.step:,}"
    if reading.smoothed is not None:
        said.append(f"{SOLID} EMA {quantity.figure(_raised(reading.smoothed, quantity))}")
    return said


def _raised(value: float, quantity: Quantity) -> float:
    return perplexity(value) if quantity.exponential else value


# ── the marks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _places(runs: Sequence[Traces], axis: str, steps: Sequence[int]) -> tuple[float, ...]:
    """Where steps of the only run lie; over each other the marks of several would tell nothing."""
    if len(runs) > 1 or not steps:
        return ()
    return tuple(runs[0].along(axis, np.array(steps, dtype=np.float64)).tolist())


def _resumptions(following: Following) -> list[int]:
    return [one.resumed_from for one in following.metrics.recoveries if one.attempt not in following.rollbacks]


def _rollbacks(following: Following) -> list[int]:
    return [one.resumed_from for one in following.metrics.recoveries if one.attempt in following.rollbacks]


def _spikes(runs: Sequence[Traces], axis: str) -> tuple[tuple[float, float], ...]:
    spikes = runs[0].following.spikes
    places = _places(runs, axis, [step for step, _ in spikes])
    return tuple(zip(places, (value for _, value in spikes), strict=True)) if places else ()


def _best(runs: Sequence[Traces], quantity: Quantity, axis: str) -> tuple[tuple[float, float], ...]:
    if not any(series.metric == "val_loss" for series in quantity.series):
        return ()
    found = [(run, run.following.metrics.best) for run in runs]
    return tuple((run.place_of(axis, best[0]), _raised(best[1], quantity)) for run, best in found if best is not None)


def shown_alerts(following: Following) -> list[tuple[int, str]]:
    """The alerts that have no mark of their own: steps and kinds."""
    return [(step, kind) for step, kind in following.alerts if kind not in _SHOWN_ELSEWHERE]


def mark_legend(run: Traces, quantities_shown: Sequence[Quantity]) -> list[tuple[str, int]]:
    """What the marks in the charts of one run mean, of those that are there; the most important first."""
    following, entries = run.following, list[tuple[str, int]]()
    series = {one.metric for quantity in quantities_shown for one in quantity.series}
    best = following.metrics.best
    if best is not None and "val_loss" in series:
        entries.append((f"{BEST_MARK} best {figure(best[1])} · at {best[0]:,}", BEST))
    if broken := sum(run.undrawable(name) for name in series):
        entries.append((f"{BROKEN} {broken:,} not finite", PROBLEM))
    if following.spikes and any(quantity.name == LOSS for quantity in quantities_shown):
        entries.append((f"{SPIKE} spike", PROBLEM))
    if _rollbacks(following):
        entries.append((f"{ROLLBACK} went back", PROBLEM))
    if _resumptions(following):
        entries.append((f"{RESUMED} resumed", LABEL))
    if shown_alerts(following):
        entries.append((f"{ALERT} alert", PROBLEM))
    if following.rate_changes:
        entries.append((f"{RATE} learning rate", MARK))
    if following.saved and any(quantity.name == LOSS for quantity in quantities_shown):
        entries.append((f"{CHECKPOINT} saved", MARK))
    return entries
