"""The event log: events in words, whatever their file holds, and this viewer's own alerts."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.inert import inert_line
from minigpt.journal import JournalWriter, Row
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled, until
from tui.run.alerts import Alert
from tui.run.event_words import step_of, told, when
from tui.widgets.event_log import EventLogPane
from tui.widgets.lines import Lines


@pytest.fixture(autouse=True)
def in_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are those of the place: here always the same one."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def append(run: RunDirectory, *events: Row) -> None:
    journal = JournalWriter(run.events_file)
    for event in events:
        journal.append({"time": 1_795_000_500.0, "step": 2000, "attempt": 2, **event})
    journal.close()


def texts(app: PaneApp) -> list[str]:
    return [line.text for line in app.pane.query_one(Lines).lines]


def eventful_run(tmp_path: Path) -> RunDirectory:
    run = recorded_run(tmp_path, ended="", steps=1500)
    message = (
        "overfitting: the validation loss was lowest at step 1,000 (1.2862), and only the training loss has fallen "
        "since. The best checkpoint is kept."
    )
    append(run, {"event": "notice", "kind": "overfitting", "message": message, "step": 1500})
    append(run, {"event": "paused", "step": 1510}, {"event": "continued", "step": 1510})
    changed = {"train.max_steps": [1500, 2000]}
    append(run, {"event": "started", "step": 1500, "resumed_from": 1500, "device": "cpu", "changed": changed})
    append(run, {"event": "failed", "step": 1520, "message": "the disk is full"})
    return run


@pytest.mark.parametrize(("size", "keys"), [((80, 24), ["slash", *"best"]), ((120, 36), [])], ids=["80x24", "120x36"])
def test_picture(snap_compare, tmp_path, size, keys):
    run = eventful_run(tmp_path)
    assert snap_compare(PaneApp(lambda: EventLogPane(run)), terminal_size=size, press=keys)


def test_the_words_of_each_kind() -> None:
    """Guards what each event says: why it ended, what was changed, which one was the best."""
    said = {
        " ".join((told(event).name, told(event).words)).strip()
        for event in (
            {"event": "started", "preset": "quickstart", "device": "cuda", "precision": "bf16"},
            {"event": "started", "resumed_from": 1000, "changed": {"train.learning_rate": [0.1, 0.01]}},
            {"event": "evaluated", "val_loss": 1.5, "train_eval_loss": 1.25, "best": True},
            {"event": "saved", "checkpoint": "step-00000250", "command": "c1"},
            {"event": "finished", "reason": "patience"},
            {"event": "recovered", "message": "back to step 750"},
            {"event": "notice", "kind": "nonfinite", "message": "left out"},
            {"event": "handing_over"},
            {"event": "notice", "kind": "stall", "message": "no step for 60 s"},
            {"event": "went_on", "message": "after 90 s"},
            {"event": "crashed", "message": "it had come to step 40"},
            {"event": "of_a_later_version", "value": [1, 2]},
        )
    }
    assert said == {
        "started cuda bf16 · from preset quickstart",
        "resumed from step 1,000 · changed: train.learning_rate 0.1 → 0.01",
        "evaluated val loss 1.5000, train loss 1.2500 ★ best",
        "saved asked for, step-00000250",
        "finished no better validation loss any more",
        "went back back to step 750",
        "not finite left out",
        "handing over another process goes on",
        "stalled no step for 60 s",
        "goes on after 90 s",
        "crashed it had come to step 40",
        'of_a_later_vers… {"value": [1, 2]}',
    }


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)
NAMES = ["started", "evaluated", "saved", "sampled", "finished", "failed", "notice", "paused", "recovered", "x"]
KEYS = [
    "time",
    "step",
    "kind",
    "message",
    "resumed_from",
    "changed",
    "val_loss",
    "best",
    "checkpoint",
    "reason",
    "device",
]


@given(st.sampled_from(NAMES) | JSON, st.dictionaries(st.sampled_from(KEYS), JSON | st.dictionaries(st.text(), JSON)))
def test_any_event_is_one_printable_line(name: object, values: Row) -> None:
    """Guards the pane against a damaged file, and the terminal against what a stranger's run has in it."""
    event = {**values, "event": name}
    what = told(event)
    line = f"{when(event)}{step_of(event)}{what.name}{what.words}"
    assert inert_line(line, 2200) == line
    assert len(when(event)) == 15 and len(step_of(event)) == 10


async def test_it_follows_filters_and_keeps_its_own_alerts(tmp_path: Path) -> None:
    """Guards events that come while it is shown, f, and the alert that no file tells."""
    run = eventful_run(tmp_path)
    app = PaneApp(lambda: EventLogPane(run))
    async with app.run_test(size=(100, 20)) as pilot:
        await settled(pilot)
        pane, before = app.pane, len(texts(app))
        assert f"events · {before} " in str(pane.border_title)
        stall = Alert("stall", "stalled", "Nothing\x1b for 2:00.", "warning", "a-run", 1520, 1_795_000_700.0, True)
        pane.add_alert(stall)
        pane.add_alert(Alert("spike", "loss spike", "its file tells it", "warning", "a-run", 1, 1.0))
        append(run, {"event": "stopped"})
        pane.look()
        assert [line.split()[4:6] for line in texts(app)[before:]] == [["▲", "stalled"], ["stopped"]]
        assert "Nothing␛ for 2:00. (seen by this viewer)" in texts(app)[before]
        lines = pane.query_one(Lines)
        assert lines.scroll_y == lines.max_scroll_y
        await pilot.press("f")
        important = texts(app)
        await pilot.press("f")
        alerts = texts(app)
        assert before + 2 > len(important) > len(alerts) and not any(" saved " in line for line in important)
        assert [line.split()[4] for line in alerts] == ["overfitting", "paused", "failed", "▲", "stopped"]
        assert "alerts: 5 of" in str(pane.border_title)
        append(run, {"event": "saved"}, {"event": "notice", "kind": "spike", "message": "leapt"})
        pane.look()
        assert len(texts(app)) == 6
        await pilot.press("f")
        assert len(texts(app)) == before + 4
        run.events_file.write_text("")  # written anew
        pane.look()
        assert texts(app) == []
        pane.add_alert(stall)
        assert len(texts(app)) == 1
        append(run, {"event": "notice", "kind": "stall", "message": "the run says so itself"})
        pane.look()
        (line,) = texts(app)
        assert "the run says so itself" in line, "one stall stood there twice"
        for hour, end in enumerate(("went_on", "started")):
            pane.add_alert(replace(stall, time=stall.time + 3600 * hour))
            append(run, {"event": end}, {"event": "notice", "kind": "stall", "message": "hours later"})
            pane.look()
            assert "(seen by this viewer)" in texts(app)[-3], "the word for one stall went with the next"


async def test_a_run_without_events_and_rubbish(tmp_path: Path) -> None:
    """Guards an empty pane, and files that are none."""
    run = recorded_run(tmp_path, ended="", steps=0)
    for content in (None, b"", b"\x00" * 5_000_000, b"[1]\n7\n{\n", b'{"event": {"a": []}}\n'):
        run.events_file.unlink(missing_ok=True)
        if content is not None:
            run.events_file.write_bytes(content)
        app = PaneApp(lambda: EventLogPane(run))
        async with app.run_test(size=(80, 10)) as pilot:
            await settled(pilot)
            assert len(texts(app)) == (1 if content and b"event" in content else 0)
    run.events_file.unlink()
    os.mkfifo(run.events_file)
    app = PaneApp(lambda: EventLogPane(run))
    async with app.run_test(size=(80, 10)) as pilot:
        await settled(pilot)
        assert texts(app) == []


async def test_many_events_are_read_in_bites(tmp_path: Path) -> None:
    """Guards the event loop: no bite of a hundred thousand events may take long, and the last ones are in view."""
    run = recorded_run(tmp_path, ended="", steps=0)
    event = '{"event": "saved", "time": 1795000000.0, "step": %d, "attempt": 1, "checkpoint": "step-00000001"}\n'
    run.events_file.write_text("".join(event % step for step in range(30_000)))
    app = PaneApp(lambda: EventLogPane(run))
    async with app.run_test(size=(80, 24)) as pilot:
        assert len(texts(app)) < 10_000
        await until(pilot, lambda: len(texts(app)) == 30_000)
        await settled(pilot)
        lines = app.pane.query_one(Lines)
        assert "29,999" in lines.render_line(lines.size.height - 1).text
