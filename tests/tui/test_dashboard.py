"""The dashboard over a recorded run: live, in every size, ended in every way, steered and leafed through."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from textual import events
from textual.widgets import Static

from minigpt.errors import UserError
from minigpt.journal import JournalWriter
from minigpt.telemetry import HostReading, ProcessReading, Reading, Telemetry
from tests.recorded import MAX_STEPS, recorded_run
from tests.tui.panes import BareApp, until
from tui.app import MiniGPTApp
from tui.figures import duration, short_count
from tui.run.ended import last_words
from tui.screens.checkpoints import CheckpointScreen
from tui.screens.dashboard import DashboardScreen
from tui.screens.dialogs import ConfirmScreen
from tui.widgets.charts import ChartsPane
from tui.widgets.chat import ChatPane
from tui.widgets.evaluate import EvaluatePane
from tui.widgets.key_line import KeyLine
from tui.widgets.panes import PANES
from tui.widgets.row_table import RowTable
from tui.widgets.sample import SamplePane

GIB = 1 << 30
HOST = HostReading(used=int(5.2 * GIB), total=16 * GIB, cpu_percent=93.0, cores=2)


@pytest.fixture(autouse=True)
def steady_machine(monkeypatch):
    """The same readings every time: the pictures must not depend on the machine."""
    reading = Reading(HOST, ProcessReading(412 << 20, 187.0))
    monkeypatch.setattr(Telemetry, "read", lambda _: reading)


@contextlib.asynccontextmanager
async def dashboard(run=None, *, session=None, size=(120, 36)):
    app = BareApp()
    async with app.run_test(size=size) as pilot:
        screen = DashboardScreen(run, session)
        await app.push_screen(screen)
        await pilot.pause()
        if run is not None:  # on a slow machine even a short run is read in several bites
            await until(pilot, lambda: screen._following is not None and screen._bites is None)
        yield pilot, screen


def made_up_session(run, **attributes):
    """Stands for a training of this process."""
    usual = {"phase": "training", "error": None, "outcome": None, "offsets": {"events": 0}, "trouble": ""}
    return SimpleNamespace(run_directory=run, is_alive=lambda: True, **{**usual, **attributes})


def words_of(screen, selector):
    return str(screen.query_one(selector, Static).content)


def chart_text(screen):
    pane = screen.query_one(ChartsPane)
    return "\n".join(pane.render_line(y).text for y in range(pane.size.height))


def screen_text(app):
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


def toasts(app):
    return [notification.message for notification in app._notifications]


def commands_of(run):
    return [json.loads(path.read_text())["command"] for path in sorted(run.commands_dir.glob("*.json"))]


def answer_all(run, *events):
    """Do what the trainer does: take the commands and answer each by the next of these events."""
    journal = JournalWriter(run.events_file)
    paths = sorted(run.commands_dir.glob("*.json"))
    for path, event in zip(paths, events, strict=True):
        path.unlink()
        journal.append({"event": event, "time": 0.0, "step": 1000, "attempt": 1, "command": path.stem})
    journal.close()


# ── what it looks like ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        *((size, keys) for size in ((80, 24), (120, 36)) for keys in ([], ["t"], ["e"], ["o"])),
        ((80, 24), ["2"]),
        ((200, 60), []),
    ],
    ids=str,
)
def test_picture_while_training(snap_compare, tmp_path, size, keys):
    run = recorded_run(tmp_path, ended="", steps=1800)
    with run.locked():
        assert snap_compare(_app_with(run), terminal_size=size, press=keys)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
def test_picture_of_a_crashed_run(snap_compare, tmp_path, size):
    assert snap_compare(_app_with(recorded_run(tmp_path, ended="failed", steps=1800)), terminal_size=size)


def _app_with(run):
    class Opened(BareApp):
        def on_mount(self) -> None:
            self.open_run(run)

    return Opened()


WIDGETS = (
    *("ChartsPane", "SamplePane", "MemoryPane", "ChatPane", "EpochsPane", "EvaluatePane"),
    *("NotesPane", "ConfigurationPane", "EventLogPane", "ConsolePane"),
)
SIZES = [(40, 12), (80, 24), (110, 30), (130, 24), (170, 50), (300, 90)]


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_every_pane_can_be_reached_at_every_size(tmp_path, size):
    """A pane squeezed to nothing, or reaching out of the screen, is a pane that does not exist."""
    async with dashboard(recorded_run(tmp_path), size=size) as (pilot, screen):
        seen = set()
        for name in PANES:
            await screen.action_show_pane(name)
            await pilot.pause()
            for widget in screen.query(", ".join(WIDGETS)):
                if widget.size and widget.is_on_screen:
                    seen.add(type(widget).__name__)
                    assert widget.region.right <= size[0]
                    assert widget.region.bottom <= size[1] - 1
                    assert widget.size.width >= 30
                    assert widget.size.height >= 2
            assert screen.query_one("#progress").is_on_screen
            assert screen.query_one(KeyLine).is_on_screen
        assert seen == set(WIDGETS) - ({"MemoryPane"} if size[1] < 16 else set())
        await screen.action_show_pane("chat")
        await pilot.pause()
        assert screen.query_one(ChatPane).region.height >= 3


@pytest.mark.parametrize(("size", "single"), [((80, 24), True), ((120, 36), False)])
async def test_panes_take_turns_where_there_is_no_room(tmp_path, size, single):
    async with dashboard(recorded_run(tmp_path), size=size) as (pilot, screen):
        assert screen.query_one("#charts").is_on_screen
        assert screen.query_one(SamplePane).is_on_screen is not single
        await pilot.press("2")
        assert screen.query_one(SamplePane).is_on_screen
        assert screen.query_one("#charts").is_on_screen is not single
        assert screen.query_one(SamplePane).has_focus


async def test_a_click_on_a_tab_shows_its_pane(tmp_path):
    """The last of nine, too: they must fit into 80 columns."""
    async with dashboard(recorded_run(tmp_path), size=(80, 24)) as (pilot, screen):
        await pilot.click("#tabs", offset=(13, 0))
        assert screen.query_one(SamplePane).is_on_screen
        tabs = str(screen.query_one("#tabs").content)
        assert len(tabs) < 80
        await pilot.click("#tabs", offset=(tabs.index("console"), 0))
        await pilot.pause()
        assert screen.query_one("ConsolePane").is_on_screen


async def test_the_tabs_mark_the_pane_with_the_keys(tmp_path):
    """Side by side too, and wherever the focus came from; where there is no room for all names the marked one stays."""
    async with dashboard(recorded_run(tmp_path)) as (pilot, screen):
        tabs = screen.query_one("#tabs")
        for key, words in (("2", "[2 sample]"), ("c", "[3 chat]")):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in str(tabs.content))
        screen.query_one(SamplePane).focus()
        await until(pilot, lambda: "[2 sample]" in str(tabs.content))
        await pilot.resize_terminal(40, 16)
        await pilot.press("9")
        await until(pilot, lambda: "[9 console]" in str(tabs.content))
        assert len(str(tabs.content)) <= 40


@pytest.mark.parametrize("key", ["1", "2", "c", "t"])
async def test_a_pane_takes_the_whole_place_and_gives_it_back(tmp_path, key):
    """The one with the keys, whichever that is; Esc gives it back before it leads anywhere else."""
    async with dashboard(recorded_run(tmp_path)) as (pilot, screen):
        await pilot.press(key)
        pane = next(node for node in screen.focused.ancestors_with_self if type(node).__name__ in WIDGETS)
        before = pane.region.area
        await screen.action_maximise()
        await pilot.pause()
        others = [widget for widget in screen.query(", ".join(WIDGETS)) if widget is not pane and widget.is_on_screen]
        assert pane.is_on_screen and pane.region.area > before
        assert [type(widget).__name__ for widget in others] == (["MemoryPane"] if key == "2" else [])
        screen.set_focus(None)
        await pilot.press("escape")
        assert (
            pane.is_on_screen and screen.query_one(SamplePane).is_on_screen and screen.query_one(ChatPane).is_on_screen
        )
        assert pilot.app.screen is screen


async def test_the_sample_follows_the_cursor_of_the_charts(tmp_path):
    """Guards the wire between them: the cursor at a step shows what the model wrote then."""
    async with dashboard(recorded_run(tmp_path), size=(120, 36)) as (pilot, screen):
        pane = screen.query_one(SamplePane)
        screen.query_one(ChartsPane).post_message(ChartsPane.CursorMoved(1250))
        await until(pilot, lambda: "step 1,250" in str(pane.border_title))
        screen.query_one(ChartsPane).post_message(ChartsPane.CursorMoved(None))
        await until(pilot, lambda: "step 2,000" in str(pane.border_title))


async def test_the_memory_pane_is_told_what_was_measured(tmp_path):
    async with dashboard(recorded_run(tmp_path)) as (_, screen):
        assert "5.2/16.0 GiB" in words_of(screen, "#memory")


async def test_charts_are_drawn_anew_when_the_window_grows(tmp_path):
    """A chart drawn for the old size would leave half of its pane blank."""
    async with dashboard(recorded_run(tmp_path), size=(80, 24)) as (pilot, screen):
        for size in ((200, 60), (110, 30), (80, 24), (120, 36)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            pane = screen.query_one(ChartsPane)
            assert len(chart_text(screen).splitlines()) == pane.size.height
            assert "loss" in chart_text(screen) and "2,000" in chart_text(screen)


async def test_header_and_progress_say_what_the_run_does(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (_, screen):
            for words in ("brave-otter", "training", "cpu x86_64", "float32", "824k parameters"):
                assert words in words_of(screen, "#header")
            for words in ("step 1,000/2,000", "50%", "20.5k tok/s", "ETA 1:40", "epoch"):
                assert words in words_of(screen, "#progress")


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_overfitting_is_told_and_stays_in_view(tmp_path, size):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run, size=size) as (pilot, screen):
            assert "overfitting" not in words_of(screen, "#header")
            message = "overfitting: the validation loss was lowest at [b]step 750[/b]"
            events = JournalWriter(run.events_file)
            events.append(
                {"event": "notice", "kind": "overfitting", "step": 1010, "attempt": 1, "since": 750, "message": message}
            )
            events.close()
            await until(pilot, lambda: message in toasts(pilot.app))
            await until(pilot, lambda: "▲ overfitting since 750" in words_of(screen, "#header"))
            assert "● training" in words_of(screen, "#header")
            assert "brave-otter" in words_of(screen, "#header")


async def test_a_model_that_could_not_be_compiled_says_why(tmp_path):
    """The header claimed `compiled` of a run that had fallen back."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    events = JournalWriter(run.events_file)
    description = {"device": "cpu", "compiled": True, "max_steps": MAX_STEPS}
    events.append({"event": "started", "step": 1000, "attempt": 1, **description})
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            assert "· compiled" in words_of(screen, "#header")
            events.append({"event": "notice", "kind": "compile", "step": 1000, "attempt": 1, "message": "no [b]gcc"})
            await until(pilot, lambda: "· not compiled" in words_of(screen, "#header"))
            assert words_of(screen, "#notice") == "no [b]gcc"
            await until(pilot, lambda: "no [b]gcc" in toasts(pilot.app))
    events.close()


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_the_checkpoint_is_chosen_by_key(tmp_path, size):
    """Guards the way from the key to both panes, from the charts and from within the prompt."""
    async with dashboard(recorded_run(tmp_path), size=size) as (pilot, screen):
        chat = screen.query_one(ChatPane)
        await pilot.press("e", "escape")
        evaluate = screen.query_one(EvaluatePane)
        await pilot.press("o")
        assert isinstance(pilot.app.screen, CheckpointScreen)
        await until(pilot, lambda: pilot.app.screen.query_one(RowTable).row_count == 2 + 8)
        await pilot.press("down", "enter")
        assert "chat · best, step 1,000" in str(chat.border_title)
        assert "evaluate · best, step 1,000" in str(evaluate.border_title)
        await pilot.press("c", "a", "ctrl+o")
        await until(pilot, lambda: pilot.app.screen.query(RowTable) and pilot.app.screen.query_one(RowTable).row_count)
        assert pilot.app.screen.query_one(RowTable).chosen == "best"
        await pilot.press("down", "down", "enter")
        assert "chat · step 1,750" in str(chat.border_title)
        assert screen.focused is screen.query_one("#prompt") and screen.focused.text == "a"
        await pilot.press("ctrl+o", "escape", "b")
        assert "chat · step 1,750" in str(chat.border_title)
        assert screen.focused.text == "ab"


async def test_without_a_checkpoint_there_is_nothing_to_choose(tmp_path):
    run = recorded_run(tmp_path, steps=100, ended="")
    async with dashboard(run) as (pilot, screen):
        await pilot.press("o")
        assert pilot.app.screen is screen
        assert "No checkpoint yet." in toasts(pilot.app)


async def test_evaluating_stands_beside_the_chat(tmp_path):
    """Guards the layout: the chat's keys work with the evaluate pane in the charts' place, and it is not closed by them."""
    async with dashboard(recorded_run(tmp_path)) as (pilot, screen):
        await pilot.press("e", "enter", "s", "p")
        assert screen.query_one(EvaluatePane).is_on_screen and screen.query_one(ChatPane).is_on_screen
        assert screen.query_one("#evaluate-text").text == "sp"
        await pilot.press("escape", "c", "x")
        assert screen.query_one("#prompt").text == "x"
        assert screen.query_one(EvaluatePane).is_on_screen
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert screen.query_one("#charts").is_on_screen
        assert pilot.app.screen is screen


# ── following ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_loss_is_on_the_chart_within_two_seconds(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=0)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            assert "train" not in chart_text(screen)
            metrics = JournalWriter(run.metrics_file)
            metrics.append({"step": 10, "attempt": 1, "train_loss": 3.9876})
            metrics.close()
            await until(pilot, lambda: "train 3.9876" in chart_text(screen), 2.0)


async def test_a_run_without_any_row_says_that_it_waits(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=0)
    run.metrics_file.write_text("")
    with run.locked():
        async with dashboard(run) as (_, screen):
            assert "waiting for the first loss" in chart_text(screen)


async def test_nothing_is_drawn_while_nothing_changes(tmp_path, monkeypatch):
    """Drawing the same again costs the training as much as drawing something new."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            painted = []
            monkeypatch.setattr(type(pilot.app), "_display", lambda *_: painted.append(1))
            for _ in range(8):  # what comes behind the first frames may take a while
                painted.clear()
                await pilot.pause(1.6)
                if not painted:
                    break
            assert not painted
            assert isinstance(screen, DashboardScreen)


async def test_numbers_that_are_none_are_marked_on_the_chart(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=500)
    metrics = JournalWriter(run.metrics_file)
    metrics.append({"step": 510, "attempt": 1, "train_loss": float("nan"), "tokens_per_second": float("inf")})
    metrics.close()
    async with dashboard(run) as (_, screen):
        assert "× 1 not finite" in chart_text(screen)


async def test_text_of_a_model_is_shown_and_not_obeyed(tmp_path):
    """A sample is whatever the model wrote: markup that breaks the pane, escape codes that break the terminal."""
    run = recorded_run(tmp_path)
    samples = JournalWriter(run.samples_file)
    nasty = "[/] [bold red]x[/bold] [@click=app.quit]q[/] \x1b[31m\x1b]0;t\x07 \u202egnp"
    samples.append({"step": 2000, "attempt": 2, "prompt": "[b]", "text": nasty})
    samples.close()
    async with dashboard(run) as (pilot, _):
        text = screen_text(pilot.app)
        assert "[b][/] [bold red]x[/bold] [@click=app.quit]q[/]" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_leafing_through_samples_stays_where_the_reader_is(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            pane = screen.query_one(SamplePane)
            assert "step 1,000 · 4 of 4" in pane._title
            await pilot.press("[", "[", "[", "[", "[")
            assert "step 250 · 1 of 4" in pane._title
            _append_sample(run, 1250)
            await until(pilot, lambda: "1 of 5" in pane._title)
            await pilot.press("]", "]", "]", "]", "]")
            assert "step 1,250 · 5 of 5" in pane._title
            _append_sample(run, 1500)
            await until(pilot, lambda: "step 1,500 · 6 of 6" in pane._title)


def _append_sample(run, step):
    samples, events = JournalWriter(run.samples_file), JournalWriter(run.events_file)
    samples.append({"step": step, "attempt": 1, "prompt": "\n", "text": f"text of {step}"})
    events.append({"event": "sampled", "step": step, "attempt": 1, "time": 0.0})
    samples.close()
    events.close()


async def test_a_new_checkpoint_is_told_to_the_chat(tmp_path, monkeypatch):
    run = recorded_run(tmp_path, ended="", steps=1000)
    told = []
    with run.locked():
        async with dashboard(run) as (pilot, _):
            monkeypatch.setattr(ChatPane, "refresh_checkpoint", lambda _: told.append(1))
            events = JournalWriter(run.events_file)
            events.append({"event": "saved", "step": 1000, "attempt": 1, "time": 0.0, "checkpoint": "step-00001000"})
            events.close()
            await until(pilot, lambda: told)


# ── steering ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pausing_and_going_on(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("p")
            assert commands_of(run) == ["pause"]
            answer_all(run, "paused")
            await until(pilot, lambda: "paused" in words_of(screen, "#header"), 1.0)
            await until(pilot, lambda: "Paused." in toasts(pilot.app), 1.0)
            await pilot.press("p")
            assert commands_of(run) == ["resume"]
            answer_all(run, "continued")
            await until(pilot, lambda: "training" in words_of(screen, "#header"), 1.0)


@pytest.mark.parametrize(
    ("key", "command", "event", "answer"),
    [("s", "save", "saved", "Saved a checkpoint at step 1,000."), ("g", "sample", "sampled", "Wrote a sample at step")],
)
async def test_a_command_and_its_answer(tmp_path, key, command, event, answer):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, _):
            await pilot.press(key)
            assert commands_of(run) == [command]
            answer_all(run, event)
            await until(pilot, lambda: any(answer in toast for toast in toasts(pilot.app)), 1.0)


@pytest.mark.parametrize(("key", "sent"), [("s", ["stop"]), ("escape", []), ("enter", [])])
async def test_stopping_asks_first(tmp_path, key, sent):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, _):
            await pilot.press("x")
            assert isinstance(pilot.app.screen, ConfirmScreen)
            await pilot.press(key)
            await pilot.pause()
            assert commands_of(run) == sent


async def test_a_directory_that_cannot_be_written_is_one_message(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tui.run.steering.send_command", refuse)
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, _):
            await pilot.press("s")
            assert any("Permission denied" in toast for toast in toasts(pilot.app))


async def test_a_trainer_that_does_not_answer_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("tui.run.steering.ANSWER_PATIENCE", 0.3)
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, _):
            await pilot.press("s")
            await until(pilot, lambda: any("has not answered" in toast for toast in toasts(pilot.app)), 3.0)


async def test_a_command_is_not_sent_again_before_its_answer(tmp_path):
    """A held key sent a command, and started another chain of looks at the files, for each of its repetitions."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press(*"ssssspp")
            assert sorted(commands_of(run)) == ["pause", "save"]
            looks = []
            look = screen._following.poll
            screen._following.poll = lambda **held: looks.append(1) or look(**held)
            await pilot.pause(1.0)
            assert len(looks) <= 14
            answer_all(run, "saved", "paused")
            await until(pilot, lambda: not screen._steering.is_waiting(), 1.0)
            await pilot.press("p")
            assert commands_of(run) == ["resume"]


async def test_text_of_an_answer_is_no_format(tmp_path):
    """A message with braces, from a file that anybody may have written, was a KeyError."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, _):
            await pilot.press("s")
            (path,) = run.commands_dir.glob("*.json")
            journal = JournalWriter(run.events_file)
            journal.append({"event": "notice", "message": "{x} {0}", "command": path.stem})
            journal.close()
            await until(pilot, lambda: "{x} {0}" in toasts(pilot.app), 2.0)


async def test_the_telemetry_is_opened_once_for_each_process(tmp_path, monkeypatch):
    """Every pause and every answer initialized NVML anew."""
    opened = []
    monkeypatch.setattr(Telemetry, "__init__", lambda _, **kwargs: opened.append(kwargs["pid"]))
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("p")
            answer_all(run, "paused")
            await until(pilot, lambda: "paused" in words_of(screen, "#header"), 2.0)
            assert len(opened) == 1


async def test_a_long_run_is_read_in_bites(tmp_path, monkeypatch):
    """The screen and the training beside it stood still for a second while all of it was read at once."""
    monkeypatch.setattr("tui.run.metrics_feed.BITE", 10_000)
    monkeypatch.setattr("tui.run.following.BITE", 10_000)
    monkeypatch.setattr("tui.run.following._POLL_TIME", 0.0)
    monkeypatch.setattr("tui.screens.dashboard.FIRST_BITES", 0.0)
    notices = []
    write = DashboardScreen._write_notice
    monkeypatch.setattr(DashboardScreen, "_write_notice", lambda self, text: notices.append(text) or write(self, text))
    async with dashboard(recorded_run(tmp_path)) as (pilot, screen):
        await until(pilot, lambda: screen._following and "step 2,000/2,000" in words_of(screen, "#progress"))
        assert screen._following.series("train_loss")[0].size == 200
        await until(pilot, lambda: "reading" not in words_of(screen, "#notice"))
        assert sum("reading the run" in notice for notice in notices) > 1


async def test_a_run_that_is_resumed_does_not_show_what_was_abandoned(tmp_path):
    """It went on as paused at a step it had not come to, until its first row."""
    run = recorded_run(tmp_path, ended="paused", steps=1200)
    offsets = {"events": run.events_file.stat().st_size}
    session = made_up_session(run, phase="building", offsets=offsets)
    with run.locked():
        async with dashboard(session=session) as (pilot, screen):
            assert "starting" in words_of(screen, "#header")
            assert "paused" not in words_of(screen, "#header")
            assert "1,200" not in words_of(screen, "#progress")
            journal = JournalWriter(run.events_file)
            journal.append({"event": "started", "step": 1000, "attempt": 2, "resumed_from": 1000, "max_steps": 2000})
            journal.close()
            await until(pilot, lambda: "● training" in words_of(screen, "#header"))
            await until(pilot, lambda: "step 1,000/2,000" in words_of(screen, "#progress"))


async def test_the_panes_come_with_their_charts(tmp_path, monkeypatch):
    """For one frame the charts' column stood empty beside filled panes."""
    frames = []

    def seen(app, screen, _):
        if isinstance(screen, DashboardScreen) and screen.query(ChartsPane):
            frames.append(screen_text(app))

    monkeypatch.setattr(MiniGPTApp, "_display", seen)
    async with dashboard(recorded_run(tmp_path)) as (pilot, _):
        await until(pilot, lambda: bool(frames))
    assert "● val" in frames[0] and "┤" in frames[0] and "MARLOW" in frames[0]


async def test_the_scale_of_the_loss_changes_by_key(tmp_path):
    async with dashboard(recorded_run(tmp_path)) as (pilot, screen):
        seen = []
        for _ in range(4):
            seen.append(chart_text(screen).count("log"))
            await pilot.press("l")
        assert seen == [1, 2, 1, 2], "of the perplexity it is from the beginning"


async def test_letters_typed_into_the_chat_are_no_commands(tmp_path):
    """`stop it` typed as a prompt would save, ask to stop and pause."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("c", "s", "p", "x", "1", "[")
            assert screen.query_one("#prompt").text == "spx1["
            assert commands_of(run) == []
            assert pilot.app.screen is screen


async def test_after_the_chat_the_charts_have_the_keys(tmp_path):
    """Nothing had them: the cursor, zoom and scale did nothing until `1` was pressed."""
    async with dashboard(recorded_run(tmp_path)) as (pilot, screen):
        await pilot.press("c", "escape")
        await until(pilot, lambda: screen.focused is screen.query_one("#charts"))
        await pilot.press("e", "c", "escape")
        await pilot.pause()
        assert screen.focused is None, "they are not in view"


# ── the end, and the beginning ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ended", "steps", "state", "notice"),
    [
        ("finished", MAX_STEPS, "finished", "c talks to the model"),
        (
            "finished",
            1400,
            "finished",
            "Stopped early: no better validation loss for 5 evaluations; the best is that of",
        ),
        ("stopped", 1230, "stopped", "The last checkpoint is that of step 1,000. r resumes"),
        ("failed", 1800, "crashed", "the disk is full. The last checkpoint is that of"),
        ("", 900, "crashed", "the process that trained it is gone"),
        ("", 100, "crashed", "No checkpoint was saved. r resumes from the beginning, R with"),
        ("finished", MAX_STEPS, "finished", "r resumes it with more steps"),
    ],
)
async def test_an_ended_run_says_how_it_ended_and_how_to_go_on(tmp_path, ended, steps, state, notice):
    run = recorded_run(tmp_path, ended=ended, steps=steps)
    if "early" in notice:
        run.config_file.write_text("[train]\npatience = 5\n")
        run.events_file.write_text(run.events_file.read_text().replace('"reason": "steps"', '"reason": "patience"'))
    async with dashboard(run) as (pilot, screen):
        assert state in words_of(screen, "#header")
        assert notice in words_of(screen, "#notice")
        assert screen.query_one("#notice").is_on_screen
        await pilot.press("p", "s", "g", "x")
        assert commands_of(run) == []
        assert pilot.app.screen is screen


@pytest.mark.parametrize(("ended", "asked"), [("stopped", 1), ("finished", 0)])
async def test_r_resumes_what_can_be_resumed(tmp_path, monkeypatch, ended, asked):
    resumed = []
    monkeypatch.setattr(MiniGPTApp, "resume_run", lambda _, run: resumed.append(run))
    run = recorded_run(tmp_path, ended=ended)
    async with dashboard(run) as (pilot, _):
        await pilot.press("r")
        assert len(resumed) == asked


async def test_a_run_that_dies_under_the_screen_is_noticed(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with contextlib.ExitStack() as stack:
        stack.enter_context(run.locked())
        async with dashboard(run) as (pilot, screen):
            assert not screen.query_one("#notice").display
            stack.close()
            await until(pilot, lambda: "crashed" in words_of(screen, "#header"))
            assert "r resumes" in words_of(screen, "#notice")


async def test_a_session_shows_its_phase_until_there_is_a_run(tmp_path):
    session = made_up_session(None, phase="reading the corpus")
    async with dashboard(session=session) as (pilot, screen):
        assert words_of(screen, "#notice") == "reading the corpus"
        assert not screen.query(ChartsPane)
        session.phase = "building the [b]model"
        await until(pilot, lambda: words_of(screen, "#notice") == "building the [b]model")
        run = recorded_run(tmp_path, ended="", steps=300)
        with run.locked():
            session.run_directory = run
            await until(pilot, lambda: bool(screen.query(ChartsPane)), 2.0)
            await until(pilot, lambda: "train" in chart_text(screen), 2.0)
            await until(pilot, lambda: words_of(screen, "#notice") == "")


async def test_a_session_that_fails_before_its_run_says_why():
    error = UserError("corpus.txt: no such file [red]")
    session = made_up_session(None, phase="ended", error=error)
    async with dashboard(session=session, size=(80, 24)) as (pilot, screen):
        assert "corpus.txt: no such file [red]" in screen_text(pilot.app)
        await pilot.press("p", "l", "2", "c", "[", "r")
        assert pilot.app.screen is screen


async def test_a_session_that_fails_later_says_what_was_saved(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    session = made_up_session(run)
    with contextlib.ExitStack() as stack:
        stack.enter_context(run.locked())
        async with dashboard(session=session) as (pilot, screen):
            session.error = UserError("the loss was no longer a finite number at step 1,000")
            stack.close()
            await until(pilot, lambda: "no longer a finite number" in words_of(screen, "#notice"))
            assert "The last checkpoint is that of step 1,000" in words_of(screen, "#notice")


def test_the_dashboard_is_there_before_torch_is():
    """Importing torch takes seconds on a slow disk: nothing but generating may wait for it."""
    code = "import sys, tui.screens.dashboard; print([m for m in ('torch', 'pydantic', 'tyro') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.9, "0:42"), (727, "12:07"), (11100, "3:05:00"), (187200, "2 d 4 h"), (float("nan"), "–")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.9, "1.00k"),
        (20480, "20.5k"),
        (824320, "824k"),
        (12_400_000, "12.4M"),
        (1_557_611_200, "1.56B"),
    ],
)
def test_short_counts(number, text):
    assert short_count(number) == text


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_letters_that_follow_the_key_to_the_chat_at_once_are_no_commands(tmp_path, size):
    """Guards a run against fast typing: `p` and `x` once paused and stopped it before the focus had moved."""
    run = recorded_run(tmp_path, ended="")
    with run.locked():
        async with dashboard(run, size=size) as (pilot, screen):
            for letter in "cspxc":
                pilot.app.post_message(events.Key(letter, letter))
            await until(pilot, lambda: screen.query_one("#prompt").text)
            await pilot.pause()
            assert screen.query_one("#prompt").text == "spxc"
            assert commands_of(run) == []
            assert pilot.app.screen is screen


# ── trouble ───────────────────────────────────────────────────────────────────────────────────────────────────────


def append_event(run, **event):
    journal = JournalWriter(run.events_file)
    journal.append({"time": 0.0, "step": 1000, "attempt": 1, **event})
    journal.close()


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)], ids=str)
def test_picture_of_a_troubled_run(snap_compare, tmp_path, size):
    """Spikes, steps left out and a recovery, each marked and explained without colour."""
    run = recorded_run(tmp_path, ended="", steps=1800)
    append_event(run, event="notice", kind="spike", step=600, attempt=2, loss=2.9, message="leapt")
    append_event(run, event="recovered", step=1750, attempt=3, resumed_from=1750, learning_rate_scale=0.5, message="b")
    metrics = JournalWriter(run.metrics_file)
    metrics.append({"step": 1760, "attempt": 3, "train_loss": None, "nonfinite_steps": 10, "resumed_from": 1750})
    metrics.append({"step": 1770, "attempt": 3, "train_loss": 1.06, "elapsed": 180.0, "tokens_per_second": 20_480.0})
    metrics.close()
    with run.locked():
        assert snap_compare(_app_with(run), terminal_size=size)


async def test_going_back_is_said_and_stays_in_view(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            message = "the loss was no longer a finite number at step 1,000: back to step 750 [b]"
            append_event(
                run, event="recovered", attempt=2, resumed_from=750, learning_rate_scale=0.5, message=message, step=750
            )
            await until(pilot, lambda: message in toasts(pilot.app))
            await until(pilot, lambda: "↺ learning rate × 0.5" in words_of(screen, "#header"))
            await until(pilot, lambda: " 750/2,000" in words_of(screen, "#progress"))
            append_event(run, event="handing_over", attempt=2, step=760)
            await until(pilot, lambda: "● handing over" in words_of(screen, "#header"))


async def test_changed_settings_are_said(tmp_path):
    run = recorded_run(tmp_path, ended="stopped", steps=1000)
    session = made_up_session(run, offsets={"events": run.events_file.stat().st_size})
    with run.locked():
        append_event(run, event="started", attempt=2, resumed_from=1000, changed={"train.max_steps": [2000, 5000]})
        async with dashboard(session=session) as (pilot, _):
            assert "Goes on with train.max_steps 2000 → 5000." in toasts(pilot.app)


async def test_what_cannot_be_written_stands_there_while_it_lasts(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    session = made_up_session(run)
    with run.locked():
        async with dashboard(run, session=session) as (pilot, screen):
            session.trouble = "cannot be written: No space left on device. The training goes on [b]"
            await until(pilot, lambda: words_of(screen, "#notice") == session.trouble)
            await pilot.pause()
            assert screen.query_one("#notice").is_on_screen
            session.trouble = ""
            await until(pilot, lambda: words_of(screen, "#notice") == "")


async def test_a_full_disk_of_another_process_run_is_said(tmp_path, monkeypatch):
    free = [3 << 20]
    monkeypatch.setattr("tui.run.ended.shutil.disk_usage", lambda _: SimpleNamespace(free=free[0]))
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await until(pilot, lambda: "The disk is full: 3 MiB are left" in words_of(screen, "#notice"))
            free[0] = 1 << 30
            await until(pilot, lambda: words_of(screen, "#notice") == "")


@pytest.mark.parametrize("own", [True, False])
async def test_a_directory_that_vanishes_is_no_end_of_the_screen(tmp_path, own):
    """Its lock could not be asked any more, and a run in training was called a crashed one."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    session = made_up_session(run) if own else None
    with run.locked():
        async with dashboard(run, session=session) as (pilot, screen):
            shutil.rmtree(run.path)
            await until(pilot, lambda: "vanished" in words_of(screen, "#notice"))
            if own:
                assert "The training goes on" in words_of(screen, "#notice")
                assert "● training" in words_of(screen, "#header")
                session.error = RuntimeError("boom [b]")
                await until(pilot, lambda: "RuntimeError: boom [b]. The directory" in words_of(screen, "#notice"))
            await pilot.press(*"lt2s", "R", "escape")
            await pilot.pause()
            assert pilot.app.screen is screen


async def test_a_crash_shows_the_last_words_of_its_log(tmp_path):
    """And nothing of the log of an earlier attempt, nor of a pipe in its place."""
    run = recorded_run(tmp_path, ended="", steps=900)
    words = "one\ntwo\n\n  three [b]\n\x1b[31mMemoryError: \u202eboom\n"
    run.console_file.write_text("x" * 100_000 + "\n" + words)
    began = json.loads(run.events_file.read_text().splitlines()[0])["time"]
    os.utime(run.console_file, (began + 9, began + 9))
    async with dashboard(run, size=(80, 24)) as (_, screen):
        lines = words_of(screen, "#notice").splitlines()[-3:]
        assert lines == [
            "console.log │ two",
            "            │   three [b]",
            "            │ ␛[31mMemoryError: �boom",
        ]
        assert screen.query_one(ChartsPane).size.height >= 10
    assert last_words(run, began + 10) == []
    run.console_file.unlink()
    assert last_words(run, None) == []
    os.mkfifo(run.console_file)
    assert last_words(run, None) == []


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_save_is_answered_by_the_checkpoint_that_was_being_written(tmp_path):
    """It is written beside the training: `saved` comes some steps later, with the checkpoint's own step."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("s")
            (path,) = run.commands_dir.glob("*.json")
            append_event(run, event="sampled", step=1250)
            append_event(run, event="saved", step=1003, checkpoint="step-00001003", best=False, command=path.stem)
            await until(pilot, lambda: "Saved a checkpoint at step 1,003." in toasts(pilot.app))
            assert not screen._steering.is_waiting()


async def test_a_save_that_failed_is_answered_too(tmp_path):
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, screen):
            await pilot.press("s")
            (path,) = run.commands_dir.glob("*.json")
            message = "the checkpoint of step 1,000 could not be written (No space left on device)"
            append_event(run, event="notice", kind="disk", message=message, command=path.stem)
            await until(pilot, lambda: message in toasts(pilot.app))
            assert toasts(pilot.app).count(message) == 1 and not screen._steering.is_waiting()


async def test_an_answer_that_comes_late_is_still_an_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("tui.run.steering.ANSWER_PATIENCE", 0.2)
    run = recorded_run(tmp_path, ended="", steps=1000)
    with run.locked():
        async with dashboard(run) as (pilot, _):
            await pilot.press("s")
            await until(pilot, lambda: any("has not answered" in toast for toast in toasts(pilot.app)), 3.0)
            answer_all(run, "saved")
            await until(pilot, lambda: "Saved a checkpoint at step 1,000." in toasts(pilot.app), 3.0)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_messages_do_not_cover_the_prompt(tmp_path, size):
    """They stood at the bottom, over what was being typed."""
    app = _app_with(recorded_run(tmp_path))
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query("#prompt"))
        await pilot.press("c", "x")
        app.screen.notify("line\n" * 3)
        await until(pilot, lambda: app.screen.query("Toast") and app.screen.query_one("Toast").region.height)
        toast, prompt = app.screen.query_one("Toast").region, app.screen.query_one("#prompt").region
        assert toast.y >= 2 and not toast.overlaps(prompt)


# ── a trainer that dies ───────────────────────────────────────────────────────────────────────────────────────────


class OfItsOwn(BaseException):
    """Nothing that `except Exception` catches, like KeyboardInterrupt."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("[b]a bug\x1b"), "Crashed: ValueError: [b]a bug␛. The last checkpoint is that of step 10."),
        (OfItsOwn(), "Crashed: OfItsOwn(). The last checkpoint is that of step 10."),
        (UserError("no [b]rate"), "Crashed: no [b]rate. The last checkpoint is that of step 10."),
    ],
    ids=["Exception", "BaseException", "UserError"],
)
@pytest.mark.parametrize("vanished", [False, True])
async def test_a_trainer_that_dies_leaves_no_frozen_screen(tiny_config, monkeypatch, error, words, vanished):
    """What happened, what was saved and how to go on: with a real training that dies in its thread at step 12."""
    from minigpt.session import TrainingSession
    from minigpt.trainer import Trainer

    step = Trainer._step

    def dies(trainer):
        if trainer.counters.step == 12:
            trainer.saver.finish()
            if vanished:
                shutil.rmtree(trainer.run.path)
            raise error
        step(trainer)

    monkeypatch.setattr(Trainer, "_step", dies)
    monkeypatch.setattr("minigpt.session.traceback.format_exc", lambda: "")
    app = MiniGPTApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app._show_session(TrainingSession(config=tiny_config), "a new run")
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen) and app.screen.query("#notice"), 30)
        screen = app.screen
        await until(pilot, lambda: "Esc goes back" in words_of(screen, "#notice"), 30)
        shown = words_of(screen, "#notice")
        if vanished:
            assert "The directory of this run has vanished" in shown
            assert words.removeprefix("Crashed: ").partition(". The last")[0] in shown
        else:
            assert words in shown and "r resumes, R with other settings" in shown
            assert "✗ crashed" in words_of(screen, "#header")
        assert not app.session.is_alive()
        await pilot.press("l", "t", "escape", "escape")
        await pilot.pause()
        assert app.screen is app._home
