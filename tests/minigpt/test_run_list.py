"""The list of runs: right about abandoned attempts, quick with long runs, and steady over damaged files."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt import run_list as run_list_module
from minigpt.journal import JournalTail, JournalWriter, Row
from minigpt.run_files import rename_run
from minigpt.run_list import RunList, RunSummary, age, size_in_words
from minigpt.rundir import RunDirectory, RunState
from tests.recorded import losses_at, recorded_run

BEST = min(((step, losses_at(step)[1]) for step in range(0, 2001, 250)), key=lambda pair: pair[1])


@pytest.fixture
def recorded(runs: Path) -> RunDirectory:
    return recorded_run(runs)


def append(path: Path, *rows: Row) -> None:
    journal = JournalWriter(path)
    for row in rows:
        journal.append(row)
    journal.close()


def only(run_list: RunList) -> RunSummary:
    (summary,) = run_list.read()
    return summary


def test_a_run_in_one_line(recorded: RunDirectory) -> None:
    summary = only(RunList())
    assert (summary.state, summary.step, summary.max_steps) == (RunState.FINISHED, 2000, 2000)
    assert (summary.train_loss, summary.val_loss) == losses_at(2000)
    assert summary.best == BEST


def test_steps_that_were_abandoned_do_not_count(recorded: RunDirectory) -> None:
    """The best of all attempts stood on the home screen, another number than on the chart of the same run."""
    run_list = RunList()
    with recorded.locked():
        append(recorded.metrics_file, {"step": 2010, "attempt": 2, "val_loss": 0.5, "train_loss": 0.5})
        assert only(run_list).best == (2010, 0.5)
        append(recorded.metrics_file, {"step": 2005, "attempt": 3, "resumed_from": 2000, "train_loss": 1.5})
        summary = only(run_list)
    assert summary.best == BEST
    assert (summary.step, summary.train_loss, summary.val_loss) == (2005, 1.5, losses_at(2000)[1])


def test_of_a_live_run_only_what_is_new_is_read(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds the whole events.jsonl of each live run was read again."""
    read: list[int] = []
    poll = JournalTail.poll

    def counting(tail: JournalTail, *arguments: Any) -> list[Row]:
        before = tail.offset
        rows = poll(tail, *arguments)
        read.append(tail.offset - before)
        return rows

    monkeypatch.setattr(JournalTail, "poll", counting)
    run_list = RunList()
    with recorded.locked():
        run_list.read()
        read.clear()
        run_list.read()
        assert not read
        append(recorded.events_file, {"event": "paused", "step": 2000, "attempt": 2})
        assert only(run_list).state is RunState.PAUSED
        assert sum(read) < 100
    assert only(run_list).state is RunState.CRASHED


def test_a_summary_of_damaged_files(recorded: RunDirectory) -> None:
    """Rubbish in a run directory took the home screen along."""
    run_list = RunList()
    run_list.read()
    recorded.metrics_file.write_bytes(b'{"step": 10}\nnot json\n[1]\n{"step": 2')
    assert only(run_list).step == 10
    recorded.metrics_file.write_bytes(b"\xff" * 100_000)
    recorded.events_file.write_bytes(b'{"event": ["x"], "val_loss": "low", "max_steps": null}\n')
    summary = only(run_list)
    assert (summary.step, summary.best, summary.max_steps, summary.state) == (None, None, None, RunState.CRASHED)


def test_a_list_needs_neither_torch_nor_numpy() -> None:
    """The home screen reads it behind its first frame, `minigpt runs` at once."""
    code = "import sys, minigpt.run_list; print({'torch', 'numpy', 'pydantic', 'textual'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "now"), (59.9, "now"), (60, "1 min"), (7199, "1 h"), (86400, "1 day"), (200_000, "2 days")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, told: str) -> None:
    assert age(seconds) == told


def test_a_long_list_comes_in_pieces(runs: Path) -> None:
    """Five hundred runs were read before the first was seen; now the live and the newest come first."""
    for number in range(6):
        rename_run(recorded_run(runs, steps=250), f"run-{number}")
        for path in (runs / f"run-{number}").glob("*.*"):
            os.utime(path, (1e9 + number, 1e9 + number))
    run_list = RunList()
    with RunDirectory(runs / "run-2").locked():
        read = [[run.run.name for run in run_list.read(0) if run.step is not None]]
        while run_list.behind:
            found = run_list.read(0)
            assert len(found) == 6 and found[0].run.name == "run-2"
            read.append([run.run.name for run in found if run.step is not None])
    assert read[:6] == [[f"run-{number}" for number in (2, 5, 4, 3, 1, 0)][:count] for count in range(1, 7)]
    assert [run.size is None for run in run_list.read()] == [False] * 6


def test_a_long_run_is_read_bite_by_bite(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million steps take ten seconds: until then the others are seen, and the next look goes on where it stopped."""
    monkeypatch.setattr(run_list_module, "_BITE", 20_000)
    recorded = recorded_run(runs)
    run_list = RunList()
    looks = 1
    while (summary := run_list.read(0)[0]).step is None:
        assert summary.state is None and run_list.behind
        looks += 1
    assert looks > 2 and summary.step == 2000 and summary.best == BEST
    assert only(RunList()).step == summary.step == recorded.checkpoints()[-1].step


def test_the_size_of_an_ended_run_is_taken_once(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds the directories of all runs would be walked through."""
    walked: list[str] = []

    def measured(run: RunDirectory) -> int:
        walked.append(run.name)
        return 100 + len(walked)

    monkeypatch.setattr(run_list_module, "size_on_disk", measured)
    run_list = RunList()
    assert [only(run_list).size for _ in range(3)] == [101] * 3
    with recorded.locked():
        for step in range(2010, 2100, 10):
            append(recorded.metrics_file, {"step": step, "attempt": 2})
            assert only(run_list).size == 101, "of a live run seldom"
    (recorded.checkpoints_dir / "step-00002090").mkdir()
    assert only(run_list).size == 102


def test_the_curve_of_a_run(recorded: RunDirectory) -> None:
    """Means of equal stretches; where a loss was no finite number, its stretch has none either."""
    run_list = RunList(curve=8)
    curve = only(run_list).curve
    assert len(curve) == 8 and list(curve[:5]) == sorted(curve, reverse=True)[:5]
    assert curve[-1] == pytest.approx(sum(losses_at(step)[0] for step in range(1760, 2001, 10)) / 25)
    append(recorded.metrics_file, {"step": 2010, "attempt": 2, "train_loss": None})
    assert [math.isfinite(value) for value in only(run_list).curve] == [True] * 7 + [False]
    append(recorded.metrics_file, {"step": 2**61, "attempt": 2, "train_loss": 1e308})
    assert len(only(run_list).curve) == 2, "what is between has no value"
    assert only(RunList()).curve == ()


def test_a_long_run_is_read_once(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is kept beside it for the next start of the program, if that may write."""
    monkeypatch.setattr(run_list_module, "_LONG", 1000)
    only(RunList())
    files = sorted(recorded.path.rglob("*"))
    keeping = RunList()
    keeping.keep_caches = True
    first = only(keeping)
    assert sorted(recorded.path.rglob("*")) != files
    read: list[int] = []
    poll = JournalTail.poll
    monkeypatch.setattr(
        JournalTail,
        "poll",
        lambda tail, *limit: read.append(tail.offset) or poll(tail, *limit),  # type: ignore[func-returns-value]
    )
    again = only(RunList())
    assert (again.step, again.best, again.train_loss) == (first.step, first.best, first.train_loss)
    assert recorded.metrics_file.stat().st_size in read


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0 KiB"), (1, "1 KiB"), (812 << 10, "812 KiB"), (13 << 20, "13.0 MiB"), (3 << 30, "3.0 GiB")]
)
def test_a_size_is_told_in_its_largest_unit(size: int, told: str) -> None:
    assert size_in_words(size) == told
