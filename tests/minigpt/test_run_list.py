"""The list of runs: right about abandoned attempts, quick with long runs, and steady over damaged files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt.journal import JournalTail, JournalWriter, Row
from minigpt.run_list import RunList, RunSummary, age
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
