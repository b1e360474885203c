"""What deserves an alert: each thing once, nothing from history, no swarm."""

import os
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minigpt.journal import JournalWriter, Row
from minigpt.rundir import RunDirectory
from minigpt.stalls import SHORTEST_STALL
from tests.recorded import recorded_run
from tui.run.alerts import NOTICES, QUIET, STALL_GRACE, Alert, Alerts
from tui.run.following import Following


def append(run: RunDirectory, *events: Row) -> None:
    journal = JournalWriter(run.events_file)
    for event in events:
        journal.append({"time": 1_795_000_500.0, "step": 1800, "attempt": 2, **event})
    journal.close()


def add_row(run: RunDirectory, step: int) -> None:
    metrics = JournalWriter(run.metrics_file)
    metrics.append({"step": step, "attempt": 2, "elapsed": step * 0.1, "train_loss": 1.5})
    metrics.close()


class Watching:
    """A viewer who looks once a second."""

    def __init__(self, run: RunDirectory, told_stalls: dict[Path, float] | None = None, since: int = 0) -> None:
        self.following = Following(run, since)
        self.alerts = Alerts({} if told_stalls is None else told_stalls)
        self.now = 1_795_000_600.0
        self.look()

    def look(self, seconds: int = 1) -> list[Alert]:
        found: list[Alert] = []
        for _ in range(seconds):
            self.now += 1.0
            found += self.alerts.take(self.following, self.following.poll()[1], self.now)
        return found

    def kinds(self, seconds: int = 1) -> list[str]:
        return [alert.kind for alert in self.look(seconds)]


NOTICE_EVENTS: list[Row] = [{"event": "notice", "kind": kind, "message": f"{kind}\x1b[2J happened"} for kind in NOTICES]


def test_a_run_that_is_over_tells_nothing_of_its_history(tmp_path: Path) -> None:
    """Guards a shower of alerts when last week's run is opened, whatever it went through."""
    run = recorded_run(tmp_path, ended="")
    append(run, *NOTICE_EVENTS, {"event": "recovered"}, {"event": "failed", "message": "the disk is full"})
    watching = Watching(run)
    assert watching.kinds(200) == []


def test_each_kind_is_told_with_its_words(tmp_path: Path) -> None:
    """Guards a kind without an alert, and text of a file that would steer the terminal."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    with run.locked():
        watching = Watching(run)
        append(run, *NOTICE_EVENTS, {"event": "recovered", "message": "back to step 1,000"})
        append(run, {"event": "notice", "kind": "compile", "message": "not compiled"}, {"event": "saved"})
        found = watching.look()
        assert [alert.kind for alert in found] == [*NOTICES, "recovered"]
        assert all("\x1b" not in alert.message and not alert.from_viewer for alert in found)
        assert found[0].step == 1800 and found[0].time == 1_795_000_500.0 and found[0].run == run.name
        append(run, {"event": "finished", "reason": "steps"})
        (finished,) = watching.look()
        assert (finished.kind, finished.severity) == ("finished", "information")
        assert "step 1,800" in finished.message and "Best validation loss" in finished.message


def test_failed_stopped_and_crashed_are_told_once(tmp_path: Path) -> None:
    """Guards a crash that nobody hears of, and one that is told as a failure and as a crash."""
    for ended in ("failed", "stopped", ""):
        run = recorded_run(tmp_path / (ended or "killed"), ended="", steps=1800)
        with run.locked():
            watching = Watching(run)
            if ended:
                append(run, {"event": ended, "message": "out of words"})
            kinds = watching.kinds()
        kinds += watching.kinds(5)
        assert kinds == [ended or "crashed"]
        with run.locked():
            append(run, {"event": "started", "attempt": 3, "resumed_from": 1750, "time": 1_795_000_900.0})
            assert watching.kinds() == []
        assert watching.kinds(3) == ["crashed"], "the next attempt's end is another one"


def test_the_end_of_a_training_in_this_process_is_not_told_of_another(tmp_path: Path) -> None:
    """It said that the process was gone, in the very process."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    with run.locked():
        append(run, {"event": "started", "attempt": 3, "pid": os.getpid(), "time": 1_795_000_900.0})
        watching = Watching(run)
        assert watching.kinds() == []
    (crashed,) = watching.look(3)
    assert "in this process" in crashed.message and "is gone" not in crashed.message


def test_a_run_that_dies_before_its_first_event_has_crashed(tmp_path: Path) -> None:
    """Torch takes seconds to load; killed meanwhile, a new run ended without an alert."""
    run = recorded_run(tmp_path, ended="", steps=0)
    run.events_file.unlink()
    run.metrics_file.unlink()
    with run.locked():
        watching = Watching(run)
        assert watching.following.starting and watching.kinds() == []
    assert watching.kinds(3) == ["crashed"]


def test_what_is_taken_up_again_here_is_known_to_have_crashed(tmp_path: Path) -> None:
    """Its new attempt says so first, to somebody who saw it crashed and resumed it. How that attempt ends is news."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    with run.locked():
        watching = Watching(run, since=run.events_file.stat().st_size)
        assert watching.following.starting
        append(run, {"event": "crashed", "attempt": 2, "message": "it ended without a word"})
        append(run, {"event": "started", "attempt": 3, "resumed_from": 1750, "time": 1_795_000_900.0})
        assert watching.kinds() == []
    assert watching.kinds(3) == ["crashed"]


def test_a_stall_is_told_once_until_it_goes_on(tmp_path: Path) -> None:
    """Guards a hang that nobody notices, and one that is told every second."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    with run.locked():
        watching = Watching(run)
        assert watching.kinds(int(SHORTEST_STALL)) == []
        (stall,) = watching.look(300)
        assert stall.kind == "stall" and stall.from_viewer and "usually a row comes every 1.0 s" in stall.message
        # A toast is gone after seconds: who comes later sees a run that trains.
        written = run.metrics_file.stat().st_mtime
        still = watching.alerts.words_while_stalled(watching.following, written + 250)
        assert still == "▲ stalled: nothing was logged for 4 min. The process is still there."
        add_row(run, 1810)
        assert watching.kinds(int(SHORTEST_STALL)) == []
        assert watching.alerts.words_while_stalled(watching.following, written + 350) == ""
        assert watching.kinds(60) == ["stall"]


def test_a_stall_is_told_once_by_all_who_watch(tmp_path: Path) -> None:
    """A stopped process was told of anew at each change of screen."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    told_stalls: dict[Path, float] = {}
    with run.locked():
        assert Watching(run, told_stalls).kinds(300) == ["stall"]
        watching = Watching(run, told_stalls)
        assert watching.kinds(300) == []
        append(run, {"event": "notice", "kind": "stall", "message": "the run says so late"})
        assert watching.kinds(300) == []
        append(run, {"event": "went_on"})
        assert watching.kinds(300) == ["went_on", "stall"], "the next one is another"
        assert Watching(run, told_stalls).kinds(300) == []


def test_what_the_run_says_itself_is_not_told_again(tmp_path: Path) -> None:
    """A run that can still write says that it stands still before its viewer does; what it says late was told already."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    stall = {"event": "notice", "kind": "stall", "message": "stands still"}
    with run.locked():
        watching = Watching(run)
        assert watching.kinds(int(SHORTEST_STALL)) == []
        append(run, stall)
        (told,) = watching.look(400)
        assert (told.kind, told.message, told.from_viewer) == ("stall", "stands still", False)
        append(run, {"event": "went_on", "message": "goes on"})
        assert [(alert.kind, alert.title) for alert in watching.look()] == [("went_on", "goes on")]
        assert watching.kinds(100) == ["stall"], "this time it could not write"
        append(run, {**stall, "time": 1_795_000_900.0})
        assert watching.kinds(100) == []
        assert Watching(run).kinds(200) == [], "it was said before this one came"
        append(run, {"event": "went_on", "time": 1_795_001_000.0})
        assert watching.kinds() == ["went_on"]
    assert watching.kinds(2) == ["crashed"]
    crashed = {"event": "crashed", "message": "it ended without a word", "time": 1_795_002_000.0}
    with run.locked():
        late = Watching(run)
        append(run, crashed, {"event": "started", "attempt": 3, "resumed_from": 1750, "time": 1_795_002_000.0})
        assert watching.kinds() == [], "the viewer has told it"
        assert late.kinds() == ["crashed"], "killed and taken up again between two looks"
        append(run, {"event": "failed", "attempt": 3, "message": "out of words"})
    assert watching.kinds() == ["failed"]
    opened = Watching(run)
    with run.locked():
        append(run, {**crashed, "time": 1_795_003_000.0})
        assert opened.kinds() == [], "it had been opened as one that had crashed"


def test_what_takes_long_by_nature_is_no_stall(tmp_path: Path) -> None:
    """Guards false alarms: an evaluation, a pause, the start with its compiling, and a laptop that slept."""
    quiet: list[list[Row]] = [
        [{"event": "evaluating"}],
        [{"event": "paused"}],
        [{"event": "handing_over"}],
        [{"event": "started", "attempt": 3, "resumed_from": 1750}],
    ]
    for number, events in enumerate(quiet):
        run = recorded_run(tmp_path / str(number), ended="", steps=1800)
        append(run, *events)
        with run.locked():
            assert Watching(run).kinds(400) == [], events
    run = recorded_run(tmp_path / "compiles", ended="", steps=0)
    with run.locked():
        assert Watching(run).kinds(400) == [], "it has been evaluated, and its first step is being compiled"
    run = recorded_run(tmp_path / "slept", ended="", steps=1800)
    with run.locked():
        watching = Watching(run)
        assert watching.kinds(30) == []
        watching.now += 40_000
        assert watching.kinds(10) == []
        watching.now -= 80_000  # a clock that was set back
        assert watching.kinds(10) == []


def test_a_slow_run_is_given_more_time(tmp_path: Path) -> None:
    """Guards an alarm at each row of a run whose rows come every half minute."""
    run = recorded_run(tmp_path, ended="", steps=0)
    metrics = JournalWriter(run.metrics_file)
    for step in range(1, 30):
        metrics.append({"step": step, "attempt": 1, "elapsed": 30.0 * step, "tokens_per_second": 9.0})
    metrics.close()
    with run.locked():
        watching = Watching(run)
        assert watching.kinds(300) == []
        assert watching.kinds(30 + int(STALL_GRACE) + 1) == ["stall"]


def test_a_swarm_is_told_once_a_minute_and_counted(tmp_path: Path) -> None:
    """Guards a bell that rings on and on, and an end that would be lost among a hundred spikes."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    with run.locked():
        watching = Watching(run)
        heard = []
        for number in range(int(QUIET) + 5):
            append(run, {"event": "notice", "kind": "spike", "step": 1800 + number, "message": "leapt"})
            heard += watching.look()
        assert [alert.kind for alert in heard] == ["spike", "spike"]
        assert f"{int(QUIET) - 1} more" in heard[1].message
        append(run, {"event": "stopped"})
        assert watching.kinds() == ["stopped"]


ROWS = st.fixed_dictionaries(
    {"event": st.sampled_from(["notice", "recovered", "failed", "stopped", "finished", "started", 7, None])},
    optional={
        "kind": st.sampled_from([*NOTICES, "compile", 3]),
        "time": st.one_of(st.floats(), st.integers(), st.text(max_size=3)),
        "step": st.one_of(st.integers(-5, 5), st.integers(), st.none(), st.text(max_size=3)),
        "attempt": st.one_of(st.integers(0, 3), st.booleans()),
        "message": st.one_of(st.text(max_size=20), st.none(), st.lists(st.integers(), max_size=2)),
    },
)


@given(st.lists(ROWS, max_size=12), st.lists(st.integers(0, 11), max_size=30))
def test_the_same_event_never_alerts_twice(rows: Sequence[Row], again: list[int]) -> None:
    """Guards events told again, as when their file is written anew: in any order, and whatever they hold."""
    following = Following(RunDirectory(Path("/nonexistent")))
    following.poll()
    alerts = Alerts({})
    now = 1e9
    alerts.take(following, [], now)
    for row in rows:
        now += 10 * QUIET
        alerts.take(following, [row], now)
    for index in again:
        now += 10 * QUIET
        repeated = rows[index : index + 3]
        assert alerts.take(following, [dict(row) for row in repeated], now) == []
