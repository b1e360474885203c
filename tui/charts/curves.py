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
    Said,
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
    first = runs[0].following
    return Picture(
        title=f"{quantity.title} ({unit})" if unit else quantity.title,
        note=("follows" if view.follows else "stays") if view.is_zoomed else "",
        lines=tuple(lines),
        legend=tuple(legend),
        points=_points(runs, quantity, view.axis),
        # Lines from top to bottom say what happened to all that they cross: to one run, not to one of several.
        recoveries=_places(runs[0], view.axis, _resumptions(first)) if len(runs) == 1 else (),
        rollbacks=_places(runs[0], view.axis, _rollbacks(first)) if len(runs) == 1 else (),
        marks=_marks(runs, quantity, view.axis),
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


def _of_one_run(run: Traces, quantity: Quantity, view: ChartView) -> tuple[list[Line], list[tuple[Said, int]]]:
    bands, lines, legend = list[Line](), list[Line](), list[tuple[Said, int]]()
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
            named = f"{sign} {series.label}".rstrip()
            legend.append(((*(f"{named} {way}" for way in said[:3]), *(f"{sign} {way}" for way in said[2:])), role))
    return bands + lines, legend


def _of_several(
    runs: Sequence[Traces], quantity: Quantity, view: ChartView
) -> tuple[list[Line], list[tuple[Said, int]]]:
    lines, legend = list[Line](), list[tuple[Said, int]]()
    for number, run in enumerate(runs):
        sign = run_mark(number)
        for series in quantity.series:
            weight = weight_of(run, quantity, series, view)
            points = run.points(series.metric, view.axis, weight)
            validation = series.is_validation and len(quantity.series) > 1
            if weight:
                raw = run.points(series.metric, view.axis)
                # Bands over each other would tell nothing, but a spike of one step is to be seen.
                lines.insert(
                    0,
                    Line(
                        raw,
                        sign.role,
                        excursions=True,
                        ascii=RAW_IN_ASCII,
                        exponential=quantity.exponential,
                        broken=sign.role,
                    ),
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
                    broken=sign.role,
                )
            )
        if ways := said_of_run(run, number, quantity, view):
            legend.append((ways, sign.role))
    return lines, legend


def said_of_run(run: Traces, number: int, quantity: Quantity, view: ChartView) -> tuple[str, ...]:
    """What is said of one run among several: all its values at the cursor, or else one, its newest."""
    sign = run_mark(number)
    found = []
    for series in quantity.series:
        if said := _said(run, quantity, series, view):
            name = sign.point if series.is_validation else sign.name
            found.append(tuple(f"{name} {way}" for way in said))
    if not found:
        return ()
    if view.cursor is None:
        return found[-1][0].partition(" · ")[0], found[-1][-1]
    ways = list(zip(*found, strict=True))
    # Before the averages the evaluation goes, which is of another step mostly.
    return (*(" · ".join(way) for way in ways[:3]), " ".join(ways[3]), ways[2][0], ways[3][0], ways[4][0])


def _said(run: Traces, quantity: Quantity, series: Series, view: ChartView) -> tuple[str, ...]:
    """What the legend says of a series: its value at the cursor, or else its newest, and the average there.

    In five ways, each in fewer cells, the last without the average; without anything to say none.
    """
    weight = weight_of(run, quantity, series, view)
    place = view.cursor if view.cursor is not None else float("inf")
    reading = run.reading(series.metric, view.axis, place, weight)
    if reading is None:
        return ()
    value = _raised(reading.value, quantity)
    at = ""
    if view.cursor is not None and reading.step != round(run.step_at(view.axis, view.cursor)):
        # Not a part of its own, which could be left out: without it the value would be taken for the cursor's.
        at = f" at {reading.step:,}"
    full, brief, near = quantity.figure(value), quantity.brief(value), at.replace(" at ", "@")
    if reading.smoothed is None:
        return f"{full}{at}", f"{full}{at}", f"{full}{near}", f"{brief}{near}", f"{brief}{near}"
    average = _raised(reading.smoothed, quantity)
    smooth = quantity.figure(average)
    return (
        f"{full}{at} · {SOLID} EMA {smooth}",
        f"{full}{at} · {SOLID} {smooth}",
        f"{full} {SOLID}{smooth}{near}",
        f"{brief}{SOLID}{quantity.brief(average)}{near}",
        f"{brief}{near}",
    )


def _raised(value: float, quantity: Quantity) -> float:
    return perplexity(value) if quantity.exponential else value


# ── the marks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _places(run: Traces, axis: str, steps: Sequence[int]) -> tuple[float, ...]:
    return tuple(run.along(axis, np.array(steps, dtype=np.float64)).tolist())


def _resumptions(following: Following) -> list[int]:
    return [one.resumed_from for one in following.metrics.recoveries if one.attempt not in following.rollbacks]


def _rollbacks(following: Following) -> list[int]:
    return [one.resumed_from for one in following.metrics.recoveries if one.attempt in following.rollbacks]


def shown_alerts(following: Following) -> list[tuple[int, str]]:
    """The alerts that have no mark of their own: steps and kinds."""
    return [(step, kind) for step, kind in following.alerts if kind not in _SHOWN_ELSEWHERE]


def happened(following: Following) -> dict[str, list[int]]:
    """The steps at which something happened to a run, by its mark, the most important first."""
    return {
        ALERT: [step for step, _ in shown_alerts(following)],
        SPIKE: [step for step, _ in following.spikes],
        ROLLBACK: _rollbacks(following),
        RESUMED: _resumptions(following),
        RATE: following.rate_changes,
        CHECKPOINT: following.saved,
    }


def marks_at(runs: Sequence[Traces], axis: str, place: float, within: float) -> str:
    """What happened to which of several runs about a place: marks, each with the names of its runs."""
    names = dict.fromkeys(happened(runs[0].following), "")
    for number, run in enumerate(runs):
        for mark, steps in happened(run.following).items():
            if any(abs(one - place) < within for one in _places(run, axis, steps)):
                names[mark] += run_mark(number).name
    return " ".join(mark + of_runs for mark, of_runs in names.items() if of_runs)


def _marks(runs: Sequence[Traces], quantity: Quantity, axis: str) -> tuple[tuple[str, int, tuple[float, ...]], ...]:
    """What stands in the topmost row: of several runs all that happened, in the colour of each."""
    several = len(runs) > 1
    shown = [ALERT, *([ROLLBACK, RESUMED] if several else []), RATE, *([CHECKPOINT] if quantity.name == LOSS else [])]
    steps = [happened(run.following) for run in runs]
    return tuple(
        (
            mark,
            run_mark(number).role if several else PROBLEM if mark == ALERT else MARK,
            _places(run, axis, steps[number][mark]),
        )
        for mark in shown
        for number, run in enumerate(runs)
    )


def _points(
    runs: Sequence[Traces], quantity: Quantity, axis: str
) -> tuple[tuple[str, int, tuple[tuple[float, float], ...]], ...]:
    """What stands at a value: spikes, and the best evaluations."""
    spikes, best = [], []
    for number, run in enumerate(runs):
        roles = (run_mark(number).role,) * 2 if len(runs) > 1 else (PROBLEM, BEST)
        if quantity.name == LOSS:
            places = _places(run, axis, [step for step, _ in run.following.spikes])
            values = [value for _, value in run.following.spikes]
            spikes.append((SPIKE, roles[0], tuple(zip(places, values, strict=True))))
        found = run.following.metrics.best
        if found is not None and any(series.metric == "val_loss" for series in quantity.series):
            best.append((BEST_MARK, roles[1], ((run.place_of(axis, found[0]), _raised(found[1], quantity)),)))
    return (*spikes, *best)


def mark_legend(runs: Sequence[Traces], quantities_shown: Sequence[Quantity]) -> list[tuple[str, int]]:
    """What the marks in the charts mean, of those that are there; the most important first."""
    several = len(runs) > 1
    entries = list[tuple[str, int]]()
    series = {one.metric for quantity in quantities_shown for one in quantity.series}
    best = [one for run in runs if (one := run.following.metrics.best) is not None]
    if best and "val_loss" in series:
        told = "" if several else f" {figure(best[0][1])} · at step {best[0][0]:,}"
        entries.append((f"{BEST_MARK} best{told}", BEST))
    if broken := sum(run.undrawable(name) for run in runs for name in series):
        entries.append((f"{BROKEN} not finite" if several else f"{BROKEN} {broken:,} not finite", PROBLEM))
    there = {mark for run in runs for mark, steps in happened(run.following).items() if steps}
    has_loss = any(quantity.name == LOSS for quantity in quantities_shown)
    for mark, words, role in (
        (SPIKE, "spike", PROBLEM),
        (ROLLBACK, "went back", PROBLEM),
        (RESUMED, "resumed", LABEL),
        (ALERT, "alert", PROBLEM),
        (RATE, "learning rate", MARK),
        (CHECKPOINT, "saved", MARK),
    ):
        if mark in there and (has_loss or mark not in {SPIKE, CHECKPOINT}):
            entries.append((f"{mark} {words}", role))
    # The colours of several runs say whose a mark is, and not how bad.
    return [(text, LABEL) for text, _ in entries] if several else entries
