"""The two pictures of the dashboard, made from what is known of a run: loss and perplexity."""

import numpy as np

from tui.following import Following
from tui.plot import BEST, LABEL, PROBLEM, RAW, ROLLBACK, SPIKE, TRAIN, VAL, Line, Picture
from tui.reduce import Floats, smooth

# From this many rows on the single values are a band; a smoothed line then shows where the band goes.
_SMOOTH_FROM = 40


def loss_picture(following: Following, logarithmic: bool) -> Picture:
    """Training and validation loss over the steps."""
    return _picture(following, "loss", logarithmic, perplexity=False)


def perplexity_picture(following: Following, logarithmic: bool) -> Picture:
    """exp of both losses: among how many equally likely tokens the model still hesitates."""
    return _picture(following, "perplexity", logarithmic, perplexity=True)


def _picture(following: Following, title: str, logarithmic: bool, *, perplexity: bool) -> Picture:
    steps, train = following.series("train_loss")
    val_steps, val = following.series("val_loss")
    best = following.metrics.best
    smoothed = smooth(train, max(2, train.size // 25)) if train.size >= _SMOOTH_FROM else None
    if perplexity:
        train, val = _exp(train), _exp(val)
        smoothed = None if smoothed is None else _exp(smoothed)
        best = None if best is None else (best[0], float(_exp(np.array([best[1]]))[0]))
    resumed = [one for one in following.metrics.recoveries if one.attempt not in following.rollbacks]
    spikes = () if perplexity else tuple(sorted(following.spikes))
    # In the order of drawing: a smooth line over the band of its single values, the line of the evaluations between.
    lines = [Line(val_steps, val, VAL, points="●"), Line(steps, train if smoothed is None else smoothed, TRAIN)]
    if smoothed is not None:
        lines.insert(0, Line(steps, train, RAW))
    return Picture(
        title=f"{title} (log)" if logarithmic else title,
        lines=tuple(lines),
        legend=_legend(train, val, best, following, perplexity=perplexity, logarithmic=logarithmic),
        best=best,
        recoveries=tuple(one.resumed_from for one in resumed),
        rollbacks=tuple(one.resumed_from for one in following.metrics.recoveries if one not in resumed),
        spikes=spikes,
        end=following.max_steps,
        logarithmic=logarithmic,
        waiting="waiting for the first loss" if following.is_live else "the run ended before its first loss",
    )


def _legend(
    train: Floats,
    val: Floats,
    best: tuple[int, float] | None,
    following: Following,
    *,
    perplexity: bool,
    logarithmic: bool,
) -> tuple[tuple[str, int], ...]:
    legend = []
    broken = train.size - int(np.isfinite(train).sum()) + val.size - int(np.isfinite(val).sum())
    if broken and not perplexity:
        legend.append((f"× NaN: {broken}", PROBLEM))
    if train.size:
        legend.append((f"⠤ train {figure(float(train[-1]))}", TRAIN))
    if val.size:
        legend.append((f"● val {figure(float(val[-1]))}", VAL))
    attempts = {recovery.attempt for recovery in following.metrics.recoveries}
    went_back = [(f"{ROLLBACK} went back", PROBLEM)] if attempts & following.rollbacks else []
    went_back += [("┊ resumed", LABEL)] if attempts - following.rollbacks else []
    others = [(f"{SPIKE} spike", PROBLEM)] if following.spikes and not perplexity else []
    if best is not None:
        # Which step it was stands in one of the charts, if there is room: in the other one the title needs it.
        place = "" if perplexity or logarithmic or others else f" at {best[0]:,}"
        others.append((f"★ best {figure(best[1])}{place}", BEST))
    # There is no room for all in each of the charts: one of the two names them.
    return (*legend, *went_back, *others) if perplexity else (*legend, *others, *went_back)


def figure(value: float) -> str:
    """A loss or perplexity in at most seven characters."""
    if not np.isfinite(value):
        return "–"
    if abs(value) < 100:
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) < 1e5 else f"{value:.1e}"


def _exp(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.exp(values)
