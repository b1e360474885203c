"""What happened to a run while its user was away, from what is remembered whenever its dashboard is left."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from minigpt.files import read_json, write_atomically
from minigpt.journal import Row, count_in, number_in, text_in
from minigpt.run_list import age
from minigpt.rundir import RunDirectory, RunState
from tui.figures import loss_figure
from tui.run.following import Following

SHORTEST = 60.0  # seconds; who comes back sooner remembers
_MOST_RUNS = 300
_LARGEST_FILE = 4 << 20  # bytes
_NOTICES = {
    "spike": ("loss spike", "loss spikes"),
    "nonfinite": ("loss that was no finite number", "losses that were no finite numbers"),
    "memory": ("shortage of memory", "shortages of memory"),
    "disk": ("trouble with the disk", "troubles with the disk"),
    "stall": ("stall", "stalls"),
}


@dataclass(frozen=True)
class Seen:
    """A run as it was when its user looked last."""

    time: float
    """Seconds since the epoch."""
    step: int
    events: int
    """How many rows events.jsonl had."""
    best: tuple[int, float] | None
    """Step and value of the lowest validation loss."""


def seen_file() -> Path:
    """Where it is kept, by the platform's custom (`~/.local/state/minigpt-tui/seen.json` on Linux)."""
    from platformdirs import user_state_path

    return user_state_path("minigpt-tui") / "seen.json"


def remember(following: Following, now: float) -> None:
    """Keep what the screen has shown of a run. Without a place to write to it is forgotten."""
    path = seen_file()
    runs = _read(path)
    row: Row = {"time": now, "step": following.step, "events": following.events_read}
    if following.metrics.best is not None:
        row["best_step"], row["best_loss"] = following.metrics.best
    runs[str(following.run.path)] = row
    newest = sorted(runs.items(), key=lambda item: number_in(item[1], "time") or 0.0)[-_MOST_RUNS:]
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"runs": dict(newest)}) + "\n")


def last_seen(run: RunDirectory) -> Seen | None:
    """How a run was when it was looked at last; None if it never was."""
    row = _read(seen_file()).get(str(run.path), {})
    time, step, events = number_in(row, "time"), count_in(row, "step"), count_in(row, "events")
    if time is None or not isfinite(time) or step is None or events is None:
        return None
    best_step, best_loss = count_in(row, "best_step"), number_in(row, "best_loss")
    return Seen(time, step, events, None if best_step is None or best_loss is None else (best_step, best_loss))


def _read(path: Path) -> dict[str, Row]:
    runs = read_json(path, _LARGEST_FILE).get("runs")
    return {key: row for key, row in runs.items() if isinstance(row, dict)} if isinstance(runs, dict) else {}


def since_then(seen: Seen | None, following: Following, now: float) -> str:
    """What has happened to a run since, in one sentence; empty if that is nothing, or it was just now."""
    if seen is None or now - seen.time < SHORTEST or seen.events > following.events_read:  # more: it was another run
        return ""
    told = [row for number, row in following.remembered if number >= seen.events]
    if following.step == seen.step and not told:
        return ""
    progress = [f"step {seen.step:,} → {following.step:,}"] if following.step != seen.step else []
    if following.state is RunState.PAUSED or (told and not following.is_live):
        progress.append(following.state.value)
    parts = [", ".join(progress), _best(seen.best, following.metrics.best), ", ".join(_counts(seen, following, now))]
    happened = "; ".join(part for part in parts if part)
    return f"Since you looked {age(now - seen.time)} ago: {happened}." if happened else ""


def _best(before: tuple[int, float] | None, best: tuple[int, float] | None) -> str:
    if best is None:
        return ""
    if before == best:
        return f"best val loss still {loss_figure(best[1])} at {best[0]:,}"
    came_from = "" if before is None else f"{loss_figure(before[1])} → "
    return f"val loss {came_from}{loss_figure(best[1])} (best at {best[0]:,})"


def _counts(seen: Seen, following: Following, now: float) -> list[str]:
    counts: Counter[tuple[str, str]] = Counter()
    before = ""
    for number, row in following.remembered:
        event = text_in(row, "event")
        if number >= seen.events:
            if event == "recovered":
                counts["recovery", "recoveries"] += 1
            elif event == "started" and count_in(row, "resumed_from") is not None and before != "handing_over":
                counts["resumption", "resumptions"] += 1
            elif event == "notice" and (names := _NOTICES.get(text_in(row, "kind"))):
                counts[names] += 1
        before = event
    told = [f"{count:,} {one if count == 1 else many}" for (one, many), count in counts.items()]
    if (paused := _seconds_paused(seen, following, now)) >= 60:
        told.append(f"paused {age(paused)}")
    return told


def _seconds_paused(seen: Seen, following: Following, now: float) -> float:
    total, paused_at = 0.0, None
    for _, row in following.remembered:
        event, time = text_in(row, "event"), number_in(row, "time")
        if time is None or not isfinite(time) or event == "notice":
            continue
        if paused_at is not None and event != "paused":
            total += max(0.0, time - max(paused_at, seen.time))
            paused_at = None
        elif event == "paused":
            paused_at = time
    if paused_at is not None and following.state is RunState.PAUSED:
        total += max(0.0, now - max(paused_at, seen.time))
    return total
