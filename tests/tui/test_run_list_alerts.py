"""What the list of runs tells of runs that other processes train: their ends and stalls, each once."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from minigpt.journal import JournalWriter, Row
from minigpt.run_list import RunList
from minigpt.rundir import RunDirectory
from minigpt.stalls import SHORTEST_STALL
from tests.recorded import recorded_run
from tui.run.alerts import STALL_GRACE, Alert, Alerts
from tui.run.following import Following
from tui.run_list_alerts import RunListAlerts


def append(run: RunDirectory, *events: Row) -> None:
    journal = JournalWriter(run.events_file)
    for event in events:
        journal.append({"time": 1_795_000_500.0, "step": 1810, "attempt": 2, **event})
    journal.close()


class Watching:
    """A list that is looked at every two seconds."""

    def __init__(self) -> None:
        self.list = RunList()
        self.told_stalls: dict[Path, float] = {}
        self.alerts = RunListAlerts(self.told_stalls)
        self.now = 1_795_000_600.0
        self.own: Path | None = None
        self.just_left: set[Path] = set()

    def look(self, seconds: float = 2.0) -> list[Alert]:
        found: list[Alert] = []
        end = self.now + seconds
        while self.now < end:
            self.now += 2.0
            found += self.alerts.take(self.list.read(), self.now, own=self.own, just_left=self.just_left)
            self.just_left = set()
        return found

    def kinds(self, seconds: float = 2.0) -> list[str]:
        return [alert.kind for alert in self.look(seconds)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("MINIGPT_RUNS_DIR", str(tmp_path))
    return recorded_run(tmp_path, ended="", steps=1800)


def test_how_a_run_ends_is_told_once_and_nothing_of_its_history(run: RunDirectory) -> None:
    """Guards a night's run that ends unheard, a shower of alerts at the first look, and one end told twice."""
    watching = Watching()
    assert watching.kinds(10) == [], "it had crashed before"
    with run.locked():
        append(run, {"event": "notice", "kind": "stall", "message": "history"}, {"event": "went_on"})
        assert watching.kinds(4) == []
        append(run, {"event": "saved"}, {"event": "notice", "kind": "spike", "message": "its dashboard tells it"})
        append(run, {"event": "finished", "reason": "steps"})
        (finished,) = watching.look()
        assert finished.run == run.name and finished.step == 1810 and finished.kind == "finished"
        assert "step 1,810" in finished.message and "Best validation loss" in finished.message
        assert watching.kinds(4) == []
    assert watching.kinds(4) == [], "it has been told"
    for event in ("stopped", "failed", ""):
        with run.locked():
            append(run, {"event": "started", "resumed_from": 1800})
            assert watching.kinds(4) == []
            if event:
                append(run, {"event": event, "message": "the disk is full\x1b[2J", "step": 1820})
        (told,) = watching.look(6)
        assert told.kind == (event or "crashed") and told.from_viewer is (not event)
        assert "\x1b" not in told.message
    assert "The process that trained it is gone. It had come to step 1,8" in told.message
    append(run, {"event": "crashed", "message": "it says so itself"})
    assert watching.kinds(4) == []


def test_killed_and_taken_up_again_between_two_looks(run: RunDirectory) -> None:
    """Guards the crash that only the log tells, and a second alert for it by the lock that was free."""
    watching = Watching()
    with run.locked():
        assert watching.kinds(4) == []
        append(run, {"event": "crashed", "message": "it ended without a word"}, {"event": "started", "attempt": 3})
        (crashed,) = watching.look(4)
        assert (crashed.kind, crashed.message, crashed.from_viewer) == ("crashed", "it ended without a word", False)
    assert watching.kinds(4) == ["crashed"], "the next attempt's end is another one"


def test_a_run_that_somebody_only_holds_does_not_end(run: RunDirectory) -> None:
    """Renaming takes the lock too: a finished run seemed to finish again."""
    append(run, {"event": "finished"})
    watching = Watching()
    assert watching.kinds() == []
    with run.locked():
        assert watching.kinds(4) == []
    assert watching.kinds(4) == []


def test_what_another_screen_tells_is_not_told_here(run: RunDirectory) -> None:
    """The run's own dashboard has told its end, or the app itself of the run that it trains."""
    watching = Watching()
    with run.locked():
        assert watching.kinds() == []
        append(run, {"event": "stopped"})
    watching.just_left = {run.path}
    assert watching.kinds(4) == []
    with run.locked():
        append(run, {"event": "started", "attempt": 3})
        watching.own = run.path
        assert watching.kinds() == []
        append(run, {"event": "stopped"})
    watching.own = None
    assert watching.kinds(4) == []


def test_a_run_that_ends_just_after_its_dashboard_was_left(run: RunDirectory) -> None:
    """For one look nobody watched it: its end was told by none."""
    watching = Watching()
    with run.locked():
        assert watching.kinds() == []
        append(run, {"event": "notice", "kind": "stall", "message": "its dashboard has told that"})
        watching.just_left = {run.path}
        assert watching.kinds() == []
        append(run, {"event": "finished"})
    assert watching.kinds(6) == ["finished"]


def test_a_stall_that_was_told_on_another_screen(run: RunDirectory) -> None:
    """One hang was told three times: by the list, by the dashboard, and by the list again."""
    watching = Watching()
    with run.locked():
        assert watching.kinds(300) == ["stall"]
        following, dashboard = Following(run), Alerts(watching.told_stalls)
        for _ in range(100):
            watching.now += 1.0
            assert dashboard.take(following, following.poll()[1], watching.now) == []
        watching.just_left = {run.path}
        assert watching.kinds(300) == []
        append(run, {"event": "went_on"})
        assert watching.kinds(300) == ["went_on", "stall"]


def test_a_stall_is_told_by_the_run_or_from_here(run: RunDirectory) -> None:
    """Guards a hang that nobody notices, one told twice, and false alarms from what takes long by nature."""
    limit = SHORTEST_STALL + STALL_GRACE
    watching = Watching()
    with run.locked():
        assert watching.kinds(limit) == []
        (stall,) = watching.look(300)
        assert (stall.kind, stall.from_viewer) == ("stall", True)
        assert "usually a row comes every 1.0 s" in stall.message
        append(run, {"event": "notice", "kind": "stall", "message": "it says so late"})
        assert watching.kinds(300) == []
        append(run, {"event": "went_on"})
        assert watching.kinds(limit) == ["went_on"]
        append(run, {"event": "notice", "kind": "stall", "message": "it says so in time"})
        (stall,) = watching.look(300)
        assert (stall.kind, stall.message, stall.from_viewer) == ("stall", "it says so in time", False)
        for quiet in ("evaluating", "paused", "handing_over"):
            append(run, {"event": quiet})
            assert watching.kinds(300) == [], quiet
        append(run, {"event": "started", "attempt": 3})
        assert watching.kinds(300) == [], "its first step is being compiled"
        metrics = JournalWriter(run.metrics_file)
        for step in range(1800, 1900, 10):
            metrics.append({"step": step, "attempt": 3, "elapsed": step * 0.1, "tokens_per_second": 9.0})
        metrics.close()
        assert watching.kinds(300) == ["stall"], "no event has come since it began, but rows have"


def test_runs_that_come_go_and_are_damaged(run: RunDirectory, tmp_path: Path) -> None:
    """Guards the list's thread: whatever lies there, and a file that is written anew tells only history."""
    watching = Watching()
    with ExitStack() as held:
        held.enter_context(run.locked())
        other = recorded_run(tmp_path / "elsewhere", ended="", steps=0)
        other.path.rename(tmp_path / "other")
        other = RunDirectory(tmp_path / "other")
        held.enter_context(other.locked())
        assert watching.kinds(4) == []
        content = run.events_file.read_bytes()
        run.events_file.write_bytes(b"")
        other.events_file.unlink()
        assert watching.kinds() == []
        run.events_file.write_bytes(content + b'{"event": ["finished"], "step": {}}\n[7]\nhalf a li')
        other.events_file.write_bytes(b'{"event": "finished"}\n')
        run.metrics_file.write_bytes(b"\x00" * 100_000)
        assert watching.kinds(200) == []
