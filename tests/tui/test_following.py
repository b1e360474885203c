"""Following a run directory: what the screen knows of a run while it grows, crashes and goes on."""

import threading
import time

import pytest

from minigpt.journal import JournalTail, JournalWriter
from minigpt.metrics import Metrics, Recovery
from minigpt.rundir import RunDirectory, RunState
from tests.recorded import MAX_STEPS, recorded_run
from tests.tui.pictures import loss_picture, perplexity_picture
from tui.charts.plot import draw
from tui.pace import BUDGET, EAGER_FOR, LONGEST, SHORTEST, SHORTEST_EAGER, Pace
from tui.run.following import Following
from tui.run.metrics_feed import MetricsFeed
from tui.run.time_left import seconds_left


def test_a_run_that_ended(tmp_path):
    following = Following(recorded_run(tmp_path))
    following.poll()
    assert following.state is RunState.FINISHED
    assert (following.step, following.max_steps) == (MAX_STEPS, MAX_STEPS)
    assert following.latest("val_loss") == following.series("val_loss")[1][-1]
    assert seconds_left(following) == 0
    assert following.failure() == ""


@pytest.mark.parametrize("ended", ["", "failed"])
def test_a_run_that_is_gone_has_crashed(tmp_path, ended):
    following = Following(recorded_run(tmp_path, ended=ended, steps=500))
    following.poll()
    assert following.state is RunState.CRASHED
    assert following.failure() == ("the disk is full" if ended else "")


def test_the_step_is_the_newest_of_rows_and_events(tmp_path):
    """After a stop between two rows the top line and the last checkpoint named different steps."""
    run = recorded_run(tmp_path, ended="stopped", steps=1205)
    following = Following(run)
    following.poll()
    assert following.step == 1205


def test_a_number_that_is_none_is_no_answer(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=300)
    metrics = JournalWriter(run.metrics_file)
    metrics.append({"step": 310, "attempt": 1, "elapsed": float("inf"), "train_loss": None})
    metrics.close()
    following = Following(run)
    following.poll()
    assert following.latest("elapsed") is following.latest("train_loss") is seconds_left(following) is None


def test_time_left_comes_from_the_pace_of_the_last_rows(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    following = Following(run)
    with run.locked():
        following.poll()
    assert following.state is RunState.TRAINING
    assert seconds_left(following) == pytest.approx((MAX_STEPS - 1000) * 0.1)


def test_samples_of_abandoned_steps_are_replaced(tmp_path):
    """After a crash the same steps are sampled again: leafing must not come by text of weights that are gone."""
    run = recorded_run(tmp_path, ended="", steps=1500)
    following = Following(run)
    following.poll()
    steps = [(row["step"], row["attempt"]) for row in following.samples]
    assert steps == [(250, 1), (500, 1), (750, 1), (1000, 1), (1250, 2), (1500, 2)]
    samples = JournalWriter(run.samples_file)
    samples.append({"step": 1100, "attempt": 1, "text": "late", "prompt": "\n"})
    samples.close()
    following.poll()
    assert "late" not in [row["text"] for row in following.samples]


def test_a_directory_that_is_still_empty(tmp_path):
    """Between the making of the directory and its first event everything must have an answer."""
    path = tmp_path / "young"
    path.mkdir()
    (path / "config.toml").write_text("")
    following = Following(RunDirectory(path))
    following.poll()
    assert (following.step, following.max_steps, following.samples) == (0, 0, [])
    assert following.latest("train_loss") is seconds_left(following) is following.highest("memory_rss") is None


def test_rubbish_in_the_files_is_no_end_of_the_screen(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=300)
    for path in (run.events_file, run.samples_file, run.metrics_file):
        with path.open("ab") as file:
            file.write(
                b'\xff\xfe{"step": \n[1, 2]\n{"event": 7, "step": "x", "attempt": null, "text": 5}\n{"event": "started"}\n'
            )
    run.config_file.write_text("[[[")
    following = Following(run)
    following.poll()
    assert following.step == 300
    assert following.max_steps == 0


def test_new_rows_are_reported_once(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=300)
    following = Following(run)
    assert following.poll()[0]
    assert following.poll() == (False, [])
    before = following.series("train_loss")[0].size
    metrics = JournalWriter(run.metrics_file)
    metrics.append({"step": 310, "attempt": 1, "train_loss": 2.0})
    metrics.close()
    assert following.poll()[0]
    assert following.series("train_loss")[0].size == before + 1


def test_a_picture_that_is_still_held_does_not_stop_the_growth(tmp_path):
    """Series that shared memory with the reader raised BufferError when the next rows came, and ended the screen."""
    run = recorded_run(tmp_path, ended="", steps=300)
    following = Following(run)
    following.poll()
    held = following.series("train_loss"), following.series("val_loss")
    metrics = JournalWriter(run.metrics_file)
    for step in range(310, 5000, 10):
        metrics.append({"step": step, "attempt": 1, "train_loss": 2.0, "val_loss": 2.0})
    metrics.close()
    assert following.poll()[0]
    assert held[0][0].size == 30
    assert following.series("train_loss")[0].size == 30 + 469


def test_drawing_stays_within_its_share_of_a_core():
    """Charts that cost 30 ms were once drawn every second, and training lost a tenth of its speed."""
    pace = Pace()
    assert pace.is_due(100.0)
    pace.spent(0.03, 100.0)
    assert pace.interval(100.0) == SHORTEST_EAGER  # the first loss is to be seen at once
    later = 100.0 + EAGER_FOR
    assert pace.interval(later) == pytest.approx(0.03 / BUDGET)
    pace.spent(0.03, later)
    assert not pace.is_due(later + 9)
    assert pace.is_due(later + 10)
    assert Pace().interval(0) == SHORTEST_EAGER


def test_drawing_has_bounds():
    pace = Pace()
    pace.is_due(0.0)
    pace.spent(1e-6, 50.0)
    assert pace.interval(50.0) == SHORTEST
    pace.spent(10.0, 50.0)
    assert pace.interval(50.0) == LONGEST


def _limited_by_time(run, *, elapsed, minutes=10.0, max_steps=0):
    events, metrics = JournalWriter(run.events_file), JournalWriter(run.metrics_file)
    events.append({"event": "started", "step": 300, "attempt": 2, "max_steps": max_steps, "max_minutes": minutes})
    for step in (310, 320):
        metrics.append({"step": step, "attempt": 2, "train_loss": 2.0, "elapsed": elapsed - 320 + step})
    events.close()
    metrics.close()
    following = Following(run)
    following.poll()
    return following


def test_a_run_limited_by_time_follows_the_clock(tmp_path):
    """It has no number of steps: its share and what is left of it come from the training time."""
    following = _limited_by_time(recorded_run(tmp_path, ended="", steps=300), elapsed=150.0)
    assert following.max_steps == 0
    assert following.seconds_allowed == 600
    assert following.share == pytest.approx(0.25)
    assert seconds_left(following) == pytest.approx(450)


@pytest.mark.parametrize(("max_steps", "share", "left"), [(330, 320 / 330, 10.0), (100_000, 0.25, 450.0)])
def test_of_two_limits_the_first_counts(tmp_path, max_steps, share, left):
    following = _limited_by_time(recorded_run(tmp_path, ended="", steps=300), elapsed=150.0, max_steps=max_steps)
    assert following.share == pytest.approx(share)
    assert seconds_left(following) == pytest.approx(left, rel=0.01)


@pytest.mark.parametrize("minutes", [None, True, "ten", -1, 0, float("inf"), [1]])
def test_minutes_of_anything(tmp_path, minutes):
    """Guards against an event that somebody else wrote."""
    run = recorded_run(tmp_path, ended="", steps=300)
    following = Following(run)
    following.poll()
    following.started = {"max_minutes": minutes}
    assert following.seconds_allowed == 0


def test_overfitting_is_told_until_it_is_no_longer_so(tmp_path):
    """It was noticed, then a better step came; and what was noticed in steps that are done again counts no more."""
    run = recorded_run(tmp_path, ended="", steps=500)
    following = Following(run)
    following.poll()
    assert following.overfitting_since is None
    events, metrics = JournalWriter(run.events_file), JournalWriter(run.metrics_file)
    events.append({"event": "notice", "kind": "overfitting", "step": 900, "attempt": 1, "since": 500})
    following.poll()
    assert following.overfitting_since == 500
    metrics.append({"step": 1000, "attempt": 1, "val_loss": 0.5})
    following.poll()
    assert following.overfitting_since is None
    events.append({"event": "notice", "kind": "overfitting", "step": 1400, "attempt": 1, "since": 1000})
    following.poll()
    assert following.overfitting_since == 1000
    events.append({"event": "started", "step": 1200, "attempt": 2, "resumed_from": 1200})
    following.poll()
    assert following.overfitting_since is None
    events.close()
    metrics.close()


def test_a_model_that_could_not_be_compiled(tmp_path):
    """The reason counts for the attempt in which it was given."""
    run = recorded_run(tmp_path, ended="", steps=100)
    events = JournalWriter(run.events_file)
    events.append({"event": "notice", "kind": "compile", "step": 0, "attempt": 1, "message": "no compiler"})
    following = Following(run)
    following.poll()
    assert following.not_compiled == "no compiler"
    events.append({"event": "started", "step": 100, "attempt": 2, "resumed_from": 100})
    events.close()
    following.poll()
    assert following.not_compiled == ""


def _append(run, **event):
    journal = JournalWriter(run.events_file)
    journal.append({"time": 0.0, **event})
    journal.close()


def test_what_the_training_went_back_from_is_abandoned(tmp_path):
    """A run that diverges goes back within its process: its samples and spikes go as after a crash, its start stays."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    following = Following(run)
    for step in (400, 900):
        _append(run, event="notice", kind="spike", step=step, attempt=1, loss=2.0 + step / 1000)
    following.poll()
    assert following.spikes == [(400, 2.4), (900, 2.9)]
    message = "back to 750"
    with run.locked():
        _append(
            run,
            event="recovered",
            step=750,
            attempt=2,
            resumed_from=750,
            learning_rate_scale=0.25,
            recoveries=2,
            reason="diverged",
            message=message,
        )
        assert [event["event"] for event in following.poll()[1]] == ["recovered"]
        assert [row["step"] for row in following.samples] == [250, 500, 750]
        assert following.spikes == [(400, 2.4)]
        assert (following.step, following.latest("train_loss")) == (750, None)
        assert following.started["attempt"] == 1 and following.max_steps == MAX_STEPS
        assert following.learning_rate_scale == 0.25
        metrics = JournalWriter(run.metrics_file)
        metrics.append({"step": 760, "attempt": 2, "train_loss": None, "nonfinite_steps": 10, "resumed_from": 750})
        metrics.append({"step": 770, "attempt": 2, "train_loss": 1.3, "nonfinite_steps": 2})
        metrics.close()
        following.poll()
        assert (following.step, following.latest("train_loss")) == (770, 1.3)
        picture = loss_picture(following, logarithmic=False)
        assert (picture.rollbacks, picture.recoveries) == ((750,), ())
        assert [points for mark, _, points in picture.points if mark == "▲"] == [((400, 2.4),)]
        assert "↺ went back" in dict(picture.legend) and "▲ spike" in dict(picture.legend)
        assert "× 1 not finite" in dict(picture.legend)
        assert "┊ resumed" not in dict(picture.legend)


def test_handing_over_is_a_state_until_somebody_else_has_started(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=100)
    following = Following(run)
    with run.locked():
        _append(run, event="handing_over", step=100, attempt=1)
        following.poll()
        assert following.handing_over and following.state is RunState.TRAINING
        _append(run, event="started", step=100, attempt=2, resumed_from=100)
        following.poll()
        assert not following.handing_over


def test_files_that_were_written_anew_tell_nothing_twice(tmp_path):
    """The trainer puts a deleted directory back, with the old events in it: each of them had come as a message again."""
    run = recorded_run(tmp_path, ended="", steps=600)
    following = Following(run)
    following.poll()
    before = following.events_read, len(following.samples), following.started
    content = run.events_file.read_text(), run.samples_file.read_text()
    for path, text in zip((run.events_file, run.samples_file), content, strict=True):
        path.rename(path.with_suffix(".old"))  # a file of its own, not the same inode again
        path.write_text(text)
    _append(run, event="notice", kind="disk", step=600, attempt=1, message="made again")
    assert [event["event"] for event in following.poll()[1]] == ["notice"]
    assert (following.events_read - 1, len(following.samples), following.started) == before


@pytest.mark.parametrize("name", [["started"], {"event": 1}, None, 7, "recovered", "notice"])
def test_events_of_any_shape(tmp_path, name):
    """A list in the place of a name has no hash, and ended the screen."""
    run = recorded_run(tmp_path, ended="", steps=100)
    following = Following(run)
    for value in ("x", None, -1, 10**30, 1e400, [1], True):
        keys = ("step", "attempt", "resumed_from", "learning_rate_scale", "loss", "changed", "kind", "message", "time")
        _append(run, event=name, **dict.fromkeys(keys, value))
        _append(run, event=name, kind="spike", loss=value, step=50, attempt=value)
    following.poll()
    assert loss_picture(following, logarithmic=True)
    assert 0 < following.learning_rate_scale <= 1


def test_a_spike_stands_where_it_was_and_a_rollback_at_the_bottom(tmp_path):
    """No colour alone: each has a character of its own."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    following = Following(run)
    _append(run, event="notice", kind="spike", step=500, attempt=1, loss=4.0)
    _append(run, event="notice", kind="spike", step=600, attempt=1, loss=1e300)
    following.poll()
    rows = ["".join(map(chr, row)) for row in draw(loss_picture(following, logarithmic=False), 80, 20).codes.tolist()]
    assert sum(row.count("▲") for row in rows[1:]) == 2 and "▲" in rows[2]
    assert "▲" not in "".join(map(chr, draw(perplexity_picture(following, True), 80, 20).codes.ravel().tolist()))


# ── marks on the charts ───────────────────────────────────────────────────────────────────────────────────────────


def test_marks_of_steps_that_were_done_again_are_gone(tmp_path):
    """Checkpoints and notices of weights that nobody has any more stood on the charts."""
    run = recorded_run(tmp_path, ended="", steps=1500)
    following = Following(run)
    following.poll()
    assert following.saved == [250, 500, 750, 1000, 1250, 1500]
    for kind, step in (("nonfinite", 1210), ("disk", 1300), ("memory", 1450)):
        _append(run, event="notice", kind=kind, step=step, attempt=1 if step < 1230 else 2, message="")
    following.poll()
    assert following.alerts == [(1300, "disk"), (1450, "memory")]  # the first attempt went back to 1,000
    _append(run, event="started", step=1250, attempt=3, resumed_from=1250)
    _append(run, event="saved", step=1350, attempt=3)
    following.poll()
    assert following.saved == [250, 500, 750, 1000, 1250, 1350]
    assert following.alerts == []


def test_where_the_learning_rate_changed(tmp_path):
    """Lowered by a recovery, and changed by whoever resumed: the curve bends there for a reason."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    following = Following(run)
    following.poll()
    assert following.rate_changes == []
    _append(run, event="recovered", step=750, attempt=2, resumed_from=750, learning_rate_scale=0.5)
    _append(run, event="started", step=900, attempt=3, resumed_from=900, learning_rate_scale=0.5)
    changed = {"train.max_steps": [2000, 3000]}
    _append(run, event="started", step=950, attempt=4, resumed_from=950, learning_rate_scale=0.5, changed=changed)
    following.poll()
    assert following.rate_changes == [750]
    changed = {"train.learning_rate": [0.001, 0.0005]}
    _append(run, event="started", step=1000, attempt=5, resumed_from=1000, learning_rate_scale=0.5, changed=changed)
    following.poll()
    assert following.rate_changes == [750, 1000]
    # The configuration stays changed where the run goes back further.
    _append(run, event="started", step=960, attempt=6, resumed_from=960, learning_rate_scale=0.5)
    following.poll()
    assert following.rate_changes == [750, 960]


# ── long runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(feed):
    """Poll until everything is read; whether there was a preview meanwhile."""
    previewed = False
    end = time.monotonic() + 60
    while feed.poll(0)[1]:
        previewed |= feed.is_preview
        assert 0 <= feed.share_read <= 1
        assert time.monotonic() < end
    assert (feed.is_preview, feed.share_read) == (False, 1.0)
    return previewed


def _writes_over(feed):
    writing = feed._writing
    if writing is not None:
        writing.join(60)


def _bytes_read(monkeypatch):
    read = []
    poll = JournalTail.poll

    def counting(tail, *arguments):
        before = tail.offset
        rows = poll(tail, *arguments)
        read.append(tail.offset - before)
        return rows

    monkeypatch.setattr(JournalTail, "poll", counting)
    return read


def test_a_long_run_is_shown_before_it_is_read(tmp_path, monkeypatch):
    """A million rows take seconds: charts, keys and the share that is read must not wait for them."""
    run = recorded_run(tmp_path, ended="")
    going_on = threading.Event()
    read_cache = Metrics.read_cache
    monkeypatch.setattr(Metrics, "read_cache", lambda self: going_on.wait(60) and read_cache(self))
    feed = MetricsFeed(run.metrics_file, long_from=1000)
    while not feed.is_preview:
        assert feed.poll(0)[1]
    assert feed.metrics.last["step"] == MAX_STEPS
    assert feed.metrics.series("train_loss")[0].size > 50
    going_on.set()
    _read(feed)
    assert feed.metrics.series("train_loss")[0].size == MAX_STEPS // 10
    assert feed.metrics.recoveries == [Recovery(2, 1230, 1000)]
    assert not (run.path / "cache").exists()


def test_what_was_kept_is_not_read_again(tmp_path, monkeypatch):
    run = recorded_run(tmp_path, ended="")
    feed = MetricsFeed(run.metrics_file, keep_cache=True, long_from=1000)
    _read(feed)
    _writes_over(feed)
    assert (run.path / "cache").exists()
    read = _bytes_read(monkeypatch)
    again = MetricsFeed(run.metrics_file, keep_cache=True, long_from=1000)
    _read(again)
    assert sum(read) == 0
    for name in ("train_loss", "val_loss", "elapsed"):
        assert again.metrics.series(name)[1].tolist() == feed.metrics.series(name)[1].tolist()
    assert (again.metrics.best, again.metrics.last) == (feed.metrics.best, feed.metrics.last)


def test_what_a_run_has_grown_by_is_kept_now_and_then_and_in_the_end(tmp_path):
    run = recorded_run(tmp_path, ended="")
    cache = run.path / "cache" / "metrics.columns"
    journal = JournalWriter(run.metrics_file)
    feed = MetricsFeed(run.metrics_file, keep_cache=True, long_from=1000)
    _read(feed)
    _writes_over(feed)
    known = cache.stat().st_mtime_ns

    def grow(rows):
        last = feed.metrics.last["step"]
        for step in range(last + 1, last + 1 + rows):
            journal.append({"step": step, "attempt": 2, "train_loss": 1.0})
        _read(feed)
        _writes_over(feed)

    grow(20)
    assert cache.stat().st_mtime_ns == known  # not for every row
    grow(1000)
    assert (known := cache.stat().st_mtime_ns) != 0
    grow(100)
    feed.close()
    _writes_over(feed)
    journal.close()
    assert cache.stat().st_mtime_ns != known
    metrics = Metrics(run.metrics_file)
    assert metrics.read_cache() and metrics.offset == run.metrics_file.stat().st_size


def test_a_short_run_is_not_kept(tmp_path):
    """There is nothing to be gained, and a directory more in each run."""
    run = recorded_run(tmp_path)
    following = Following(run, keep_cache=True)
    following.poll()
    following.close()
    assert not following.behind
    assert not (run.path / "cache").exists()


def test_the_highest_is_looked_for_in_what_is_new(tmp_path):
    """The memory pane asks each second; and a recovery may take the highest away."""
    run = recorded_run(tmp_path, ended="", steps=300)
    journal = JournalWriter(run.metrics_file)
    following = Following(run)
    following.poll()
    assert following.highest("nothing") is None
    for step, value, highest in ((310, 5.0, 5.0), (320, None, 5.0), (330, 9.0, 9.0), (340, float("inf"), 9.0)):
        journal.append({"step": step, "attempt": 1, "spin": value})
        following.poll()
        assert following.highest("spin") == highest
    journal.append({"step": 320, "attempt": 2, "resumed_from": 315, "spin": 6.0})
    following.poll()
    assert following.highest("spin") == 6.0
    journal.close()


def test_long_files_of_events_and_samples_are_read_by_bites(tmp_path, monkeypatch):
    """All samples of a long run were read in one go, and the screen stood still."""
    run = recorded_run(tmp_path, ended="", steps=300)
    samples = JournalWriter(run.samples_file)
    for step in range(1000):
        samples.append({"step": 300 + step, "attempt": 1, "text": "x" * 5000})
    samples.close()
    monkeypatch.setattr("tui.run.following._POLL_TIME", 0.0)
    following = Following(run)
    polls = 0
    while following.behind:
        following.poll()
        polls += 1
    assert polls > 10
    assert len(following.samples) == 1001
