"""The dashboard: one run, live, in another process or long over, drawn from its directory alone."""

import asyncio
from contextlib import suppress
from threading import Thread
from time import monotonic, thread_time, time
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Static, TextArea

from minigpt.commands import CommandName
from minigpt.display import changed_settings
from minigpt.errors import UserError
from minigpt.inert import inert_line, inert_pane
from minigpt.journal import Row, count_in, text_in
from minigpt.rundir import RunDirectory, RunState
from minigpt.telemetry import Telemetry
from tui.asking.models import NEWEST
from tui.cost import Cost
from tui.notifying import announce
from tui.pace import SLACK, Pace
from tui.run.absence import last_seen, remember, since_then
from tui.run.alerts import NOTICES, Alerts
from tui.run.ended import how_it_ended, trouble_of
from tui.run.following import LONGEST_MESSAGE, Following
from tui.run.steering import Steering
from tui.screens.checkpoints import CheckpointScreen
from tui.screens.dialogs import Choice, ConfirmScreen
from tui.widgets.charts import ChartsPane
from tui.widgets.key_line import KeyLine
from tui.widgets.panes import PANES, RunPanes, load_later_panes
from tui.widgets.progress import header, progress
from tui.widgets.sample import SamplePane
from tui.widgets.status_line import StatusLine
from tui.widgets.tabs import PaneTabs

if TYPE_CHECKING:
    from minigpt.session import TrainingSession

LOOK_INTERVAL = 1.0  # seconds between two looks at the run's files
EAGER_INTERVAL = 0.5  # while the first points are waited for
BATCH_TIME = 0.01
MEMORY_FRAMES = 3  # with low bandwidth the machine's figures come with every third frame
ANSWER_INTERVAL = 0.1  # while a command waits for its answer
NOTICE_TIMEOUT = 10.0
ABSENCE_SHOWN = 90.0  # seconds that it is told what happened meanwhile
LOW = 18  # rows, below which the progress has one line
BITE_INTERVAL = 0.1  # while a long run is being read
FIRST_BITES = 0.15  # seconds of reading without a pause before a picture says how far it is
LATER_PANES_AFTER = 1.5  # seconds from the first picture until what it did without is imported


class DashboardScreen(Screen[None]):
    """Charts, memory, samples and chat of one run.

    Given a session without a directory yet, it says what the session is doing and opens the run once there is one;
    until then `name` is what it goes by.
    """

    BINDING_GROUP_TITLE = "Dashboard"
    AUTO_FOCUS = ""  # the letters are commands here until somebody goes into the chat
    BINDINGS = [
        Binding("p", "pause(False)", "pause", tooltip="pause the training"),
        Binding("p", "pause(True)", "go on", tooltip="go on with the training"),
        Binding("s", "send('save')", "save", tooltip="save a checkpoint now"),
        Binding("g", "send('sample')", "sample", tooltip="let the model write a sample now"),
        Binding("x", "stop", "stop", tooltip="save a checkpoint and end the training; asks first"),
        Binding("r", "resume", "resume", tooltip="go on with a run that has ended; asks how long if it has finished"),
        Binding("R", "resume_changed", "resume with other settings", show=False),
        # With priority, so that the focus is there before the next key: letters typed after it must not steer the run.
        Binding("c", "focus_chat", "chat", tooltip="go to the chat", priority=True),
        Binding("e", "turn_to('evaluate')", "evaluate a checkpoint, or a text; again: the charts", show=False),
        Binding("t", "turn_to('epochs')", "the table of epochs; again: the charts", show=False),
        Binding("m", "maximise", "maximise", show=False, tooltip="the whole place for this pane, or back"),
        Binding("o,ctrl+o", "choose_checkpoint", "choose the checkpoint that answers and is evaluated", show=False),
        Binding("left_square_bracket", "leaf(-1)", "older sample", show=False, key_display="["),
        Binding("right_square_bracket", "leaf(1)", "newer sample", show=False, key_display="]"),
        Binding("escape", "leave_main", "close the notice, or back to the charts", show=False),
        *(
            Binding(str(number), f"show_pane('{name}')", pane.title, show=False, tooltip=pane.meaning)
            for number, (name, pane) in enumerate(PANES.items(), 1)
        ),
    ]

    def __init__(
        self, run: RunDirectory | None = None, session: "TrainingSession | None" = None, name: str = "a new run"
    ) -> None:
        super().__init__()
        self.run_directory = run
        self.session = session
        self._name_before = inert_line(run.name if run is not None else name)
        self._following: Following | None = None
        """Set once the panes stand."""
        self._reading: Following | None = None
        """The same, from its first bite on."""
        self._bites: Timer | None = None
        self._telemetry: Telemetry | None = None
        self._measured: tuple[object, ...] = ()
        """What the telemetry was opened for."""
        self._pace = Pace()
        self._charts_behind = False
        self._frames_drawn = 0
        self._measured_once = False
        """Whether the memory pane shows anything yet."""
        self._looked_at = self._drawn_at = 0.0
        self._looking = False
        self._steering = Steering()
        self._answers: Timer | None = None
        self._which = NEWEST
        """Which checkpoint answers and is evaluated."""
        self._alerts = Alerts(self.app.told_stalls)  # type: ignore[attr-defined]
        self._cost = Cost(self.app.bytes_sent)  # type: ignore[attr-defined]
        self._reported: BaseException | None = None
        self._absence = ""
        """What happened since the user looked last, until that is closed."""
        self._was_chosen = run is not None

    @property
    def _panes(self) -> RunPanes:
        return self.query_one(RunPanes)

    @property
    def _ascii(self) -> bool:
        return self.app.settings.ascii  # type: ignore[attr-defined, no-any-return]

    @property
    def _read_only(self) -> bool:
        return self.app.read_only  # type: ignore[attr-defined, no-any-return]

    # ── building ──────────────────────────────────────────────────────────────────────────────────────────────

    def compose(self) -> ComposeResult:
        yield StatusLine(id="header")
        yield StatusLine(id="progress")
        notice = Static(id="notice", classes="-opening", markup=False)
        notice.display = False
        yield notice
        yield KeyLine()

    async def on_mount(self) -> None:
        self._pace = Pace(low_bandwidth=self.app.settings.low_bandwidth)  # type: ignore[attr-defined]
        self._answers = self.set_interval(ANSWER_INTERVAL, self._look, pause=True)
        await self._look()
        self.set_interval(EAGER_INTERVAL, self._tick)

    async def _open(self, run: RunDirectory) -> None:
        """Read the run, or of a long one what a first picture needs, and show the panes."""
        self.run_directory = run
        if self._reading is None:
            since = self.session.offsets["events"] if self.session else 0
            self._reading = Following(run, since, keep_cache=not self._read_only)
        following = self._reading
        await _read_for_a_picture(following, 0.0 if self._bites else FIRST_BITES)
        if following.behind and self._bites is None:
            self._bites = self.set_interval(BITE_INTERVAL, self._look)
        if following.behind and not following.is_preview:
            self.query_one("#header", StatusLine).show(Content.styled(self._name_before, "bold"))
            self._write_notice(f"reading the run … {following.share_read:.0%}")
            return
        panes = RunPanes(run, read_only=self._read_only, id="panes")
        # In one batch, or a frame could show some panes with their content and others without.
        with self.app.batch_update():
            await self.mount(panes, before=self.query_one(KeyLine))
            if not panes.is_attached:
                return  # the screen was left meanwhile
            self.query_one("#notice").remove_class("-opening")
            self._following = following
            self._open_telemetry()
            if not following.behind:
                self._caught_up(following)
            self._charts_behind = True
            panes.show_samples(following.samples)
            await panes.show("charts")
            self._show_all()
        # The panes have their sizes only after the next layout.
        self.call_after_refresh(self._show_all)
        # With torch behind them, for the chat: beside the first pictures that would hold these up.
        self.set_timer(LATER_PANES_AFTER, _load_later_panes)

    def _caught_up(self, following: Following) -> None:
        """All that the run has written so far is read."""
        if self._bites is not None:
            self._bites.pause()  # not stop(), which cancels the task that this runs in
            self._bites = None
        self._alerts.take(following, [], time())  # what has happened before is history
        self._panes.refresh_checkpoints()
        if self._was_chosen:  # and is not about to begin under the user's eyes
            self._absence = since_then(last_seen(following.run), following, time())
            self.set_timer(ABSENCE_SHOWN, self._close_absence)
        else:
            self._tell_changes(following.started)

    def _open_telemetry(self) -> None:
        following = self._following
        if following is None:
            return
        started = following.started
        pid = count_in(started, "pid") if following.is_live and not following.starting else None
        pid = pid if pid is not None and pid < 2**31 else None
        told = following.told("device_uuid")
        uuid = told if told and told.isascii() and told.isprintable() else None
        wants_gpu = started.get("device") == "cuda"
        if self._measured != (pid, wants_gpu, uuid) or self._telemetry is None:
            self._measured = (pid, wants_gpu, uuid)
            self._measured_once = False
            self._telemetry = Telemetry(pid=pid, wants_gpu=wants_gpu, gpu_uuid=uuid, run=following.run)

    # ── following ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _tick(self) -> None:
        now = monotonic()
        if self._bites is None and (self._pace.is_eager(now) or now - self._looked_at >= LOOK_INTERVAL - SLACK):
            await self._look()

    async def _look(self) -> None:
        """Take in what is new and draw what is due."""
        # Each timer has a task of its own: two looks could open the run twice.
        if not self._looking:
            self._looking = True
            try:
                await self._take_in_and_draw()
            finally:
                self._looking = False

    async def _take_in_and_draw(self) -> None:
        self._looked_at = monotonic()
        if self._following is None:
            run = self.run_directory or (self.session.run_directory if self.session else None)
            if run is None:
                self._show_phase()
                return
            await self._open(run)
        following = self._following
        if following is None:
            return
        before = following.state, following.starting
        grown, new_events = following.poll(held=self._trains_here())
        self._charts_behind |= grown
        if self._bites is not None:
            if not following.behind:
                self._caught_up(following)
                self._charts_behind = True
                self._show_all()
            else:
                self._show_notice()
                await self._draw_due()
            return
        # What answers a command was announced as the answer.
        self._announce(following, [event for event in new_events if not self._take_event(event)])
        self._give_up_waiting(following)
        if before != (following.state, following.starting) or self._session_failed():
            self._charts_behind = True
            self._pace.hurry()
            self._open_telemetry()
            self._show_all()
        elif following.is_live:
            self._show_notice()
        await self._draw_due()

    def _take_event(self, event: Row) -> bool:
        """Show what an event changes; whether it answers a command."""
        name = event.get("event")
        if name == "started":
            self._open_telemetry()
            self._tell_changes(event)
        elif name == "saved":
            self._panes.refresh_checkpoints()
        elif name == "sampled" and self._following is not None:
            self._panes.show_samples(self._following.samples)
        if (answer := self._steering.answer(event)) is not None:
            # An answer in other words than the usual is bad news, such as a checkpoint that could not be written.
            self.notify(inert_pane(answer), markup=False, timeout=NOTICE_TIMEOUT if name == "notice" else 3)
            self._drawn_at = 0.0
        elif name == "notice" and text_in(event, "kind") not in NOTICES:  # those are alerts
            self.notify(inert_pane(text_in(event, "message")[:LONGEST_MESSAGE]), markup=False, timeout=NOTICE_TIMEOUT)
        if name in {"notice", "recovered"}:
            self._show_notice()
        return answer is not None

    def _announce(self, following: Following, new_events: list[Row]) -> None:
        """Tell what deserves it: by a toast, the bell and the desktop, and in the pane of events."""
        for alert in self._alerts.take(following, new_events, time()):
            announce(self.app, alert)
            self._panes.add_alert(alert)

    def _tell_changes(self, started: Row) -> None:
        if changed := changed_settings(started):
            self.notify(f"Goes on with {changed}.", markup=False, timeout=NOTICE_TIMEOUT)

    def _trains_here(self) -> bool:
        session = self.session
        if session is None or session.error is not None or session.outcome is not None:
            return False
        return session.is_alive()

    def _give_up_waiting(self, following: Following) -> None:
        if not following.is_live:
            self._steering.forget()  # the notice says why
        for _ in range(self._steering.give_up(monotonic())):
            self.notify("The trainer has not answered yet; it takes commands between two steps.", severity="warning")
        if not self._steering.is_waiting() and self._answers is not None:
            self._answers.pause()

    def _session_failed(self) -> bool:
        error = self.session.error if self.session else None
        failed = error is not None and error is not self._reported
        self._reported = error
        return failed

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _draw_due(self) -> None:
        now = monotonic()
        charts_due = self._pace.is_due(now) and self._charts_behind
        if now - self._drawn_at < self._pace.frame(now) - SLACK:
            return
        self._drawn_at = now
        # A frame costs about as much for one line as for all of them. Without the batch the first widget that reports
        # its change starts a frame of its own, and the others follow in a second one.
        with self.app.batch_update():
            if charts_due:
                self._draw_charts()
            self._show_figures()
            self._show_facts()
            await asyncio.sleep(BATCH_TIME)
        self.check_idle()

    def _show_all(self) -> None:
        if self._following is None:
            return
        self._draw_charts()
        self._show_figures()
        self._show_notice()
        self._panes.show_samples(self._following.samples)
        self._show_facts()
        self.refresh_bindings()

    def _draw_charts(self) -> None:
        begin, now = thread_time(), monotonic()
        if self._following is None or not self._panes.draw_charts(self._following):
            return  # they are drawn when they come into view
        self._charts_behind = False
        # What Textual spends on bringing it to the terminal belongs to the cost too.
        self.call_after_refresh(lambda: self._pace.spent(thread_time() - begin, now))

    def _show_figures(self) -> None:
        if self._following is not None:
            top = self.query_one("#header", StatusLine)
            width = top.content_size.width or self.size.width - 2
            top.show(header(self._following, width, read_only=self._read_only))
            cost = self._cost.words()
            # At rest nothing may be sent, not even how little that takes.
            content = progress(self._following, width, cost if self._following.is_live else "", ascii=self._ascii)
            two_lines = bool(content.plain.partition("\n")[2].strip()) and self.size.height >= LOW
            # A class of the screen's own would have the styles of everything on it worked out anew.
            self.query_one("#progress").set_class(two_lines, "-two-lines")
            self.query_one("#progress", StatusLine).show(content)

    def _show_facts(self) -> None:
        if self._following is None or self._telemetry is None:
            return
        self._frames_drawn += 1
        # At rest nothing may be sent: the machine's own figures would never stand still.
        if not self._measured_once or (
            self._following.is_live and (not self._pace.low_bandwidth or self._frames_drawn % MEMORY_FRAMES == 0)
        ):
            self._measured_once = True
            self._panes.show_reading(self._telemetry.read(), self._following)
        self._panes.look(self._following)

    def _show_phase(self) -> None:
        session = self.session
        if session is None:
            return
        self.query_one("#header", StatusLine).show(Content.styled(self._name_before, "bold"))
        notice = session.phase
        if session.error is not None:
            what = str(session.error) if isinstance(session.error, UserError) else f"an error: {session.error!r}"
            notice = f"The training did not start.\n\n{what}\n\nEsc goes back to the home screen."
        elif session.outcome is not None:
            notice = "Stopped before the training began.\n\nEsc goes back to the home screen."
        self._write_notice(inert_pane(notice))

    def _show_notice(self) -> None:
        """What happened to a run that is not being trained, and how to go on; of one that is, what went otherwise."""
        following = self._following
        assert following is not None
        if following.is_live:
            session = self.session if self._trains_here() else None
            told = [
                self._alerts.words_while_stalled(following, time()),
                trouble_of(following.run, session),
                following.not_compiled,
            ]
        else:
            error = self.session.error if self.session else None
            told = [how_it_ended(following, error, read_only=self._read_only)]
        if following.behind:
            told = [f"reading the run … {following.share_read:.0%}; the charts show a part of it until then"]
        self._write_notice("\n".join(inert_pane(words) for words in [self._absence, *told] if words))

    def _close_absence(self) -> None:
        if self._absence:
            self._absence = ""
            self._show_notice()

    def _write_notice(self, text: str) -> None:
        notice = self.query_one("#notice", Static)
        if str(notice.content) != text:
            notice.update(text)
        notice.display = bool(text)

    def on_unmount(self) -> None:
        if self._reading is not None:
            self._reading.close()
        if self._following is not None and not self._following.behind:
            remember(self._following, time())

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._show_all)

    # ── what keys do ──────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        following = self._following
        live = following is not None and following.is_live
        if self._read_only and action in {"pause", "send", "stop", "resume", "resume_changed"}:
            return False
        if action == "pause":
            return following is not None and live and (following.state is RunState.PAUSED) == parameters[0]
        if action in {"send", "stop"}:
            return live
        if action == "leave_main":
            # Else it leads to the home screen.
            return bool(self._absence) or (following is not None and self._panes.wants_escape)
        if action in {"resume", "resume_changed"}:
            return following is not None and not live
        if action in {"focus_chat", "turn_to"} and isinstance(self.focused, Input | TextArea):
            return False  # there it is a letter
        if action in {"focus_chat", "turn_to", "maximise", "leaf", "choose_checkpoint", "show_pane"}:
            return following is not None
        return True

    def action_send(self, command: CommandName) -> None:
        """Leave a command for the trainer, unless it has not answered the same one yet."""
        run = self.run_directory
        if run is None or self._steering.is_waiting(command):
            return
        try:
            self._steering.send(run, command, monotonic())
        except OSError as error:
            self.notify(f"The command could not be left for the trainer: {error.strerror}.", severity="error")
            return
        if self._answers is not None:
            self._answers.resume()

    def action_pause(self, paused: bool) -> None:
        """Pause the training, or go on with it; until the trainer has answered nobody knows which of the two."""
        if not self._steering.is_waiting("pause", "resume"):
            self.action_send("resume" if paused else "pause")

    def action_stop(self) -> None:
        """Ask whether to end the training."""

        def answered(answer: str | None) -> None:
            if answer == "stop":
                self.action_send("stop")

        question = "The training is ended after a checkpoint of this step. It can be resumed later."
        choices = (Choice("stop", "s", "stop and save"), Choice("stay", "escape", "go on training"))
        following = self._following
        self.app.push_screen(
            ConfirmScreen("Stop this run?", question, choices, applies=lambda: following is None or following.is_live),
            answered,
        )

    def action_resume(self) -> None:
        """Go on with a run that has ended; one that has finished needs to be made longer for that."""
        if self._following is not None and self._following.state is RunState.FINISHED:
            self.action_resume_changed()
        else:
            self.app.resume_run(self.run_directory)  # type: ignore[attr-defined]

    def action_resume_changed(self) -> None:
        """Ask with which settings to go on."""
        if self.run_directory is not None:
            self.app.ask_and_resume(self.run_directory)  # type: ignore[attr-defined]

    async def action_focus_chat(self) -> None:
        """Go into the chat."""
        await self.action_show_pane("chat")

    def action_leaf(self, by: int) -> None:
        """Show an older (-1) or newer (1) sample."""
        self.query_one(SamplePane).leaf(by)

    def action_choose_checkpoint(self) -> None:
        """Ask which checkpoint answers in the chat and is evaluated."""

        def answered(which: str | None) -> None:
            if which is not None:
                self._which = which
                self._panes.choose_checkpoint(which)

        run = self.run_directory
        if run is not None and run.checkpoints():
            self.app.push_screen(CheckpointScreen(run, self._which), answered)
        else:
            self.notify("No checkpoint yet.")

    async def action_turn_to(self, name: str) -> None:
        """Show a pane in the large place, or the charts if it is in front already."""
        await self.action_show_pane("charts" if self._panes.front == name else name)

    async def action_maximise(self) -> None:
        """Give the whole place to the pane with the keys, or take it back."""
        await self._panes.toggle_maximised()

    async def action_leave_main(self) -> None:
        """Close what is told of an absence, or else take the place back, or else bring the charts back."""
        if self._absence:
            self._close_absence()
        elif self._panes.maximised:
            await self._panes.toggle_maximised()
        else:
            await self.action_show_pane("charts")

    async def action_show_pane(self, name: str) -> None:
        """Bring a pane to the front and give it the keys."""
        if self._following is not None:
            await self._panes.show(name)

    async def on_pane_tabs_chosen(self, message: PaneTabs.Chosen) -> None:
        await self.action_show_pane(message.pane)

    def on_run_panes_shown(self) -> None:
        self._show_all()

    def on_charts_pane_cursor_moved(self, message: ChartsPane.CursorMoved) -> None:
        self.query_one(SamplePane).at_step(message.step)


def _load_later_panes() -> None:
    def load() -> None:
        with suppress(Exception):  # it is said when such a pane is asked for
            load_later_panes()

    Thread(target=load, name="later panes", daemon=True).start()


async def _read_for_a_picture(following: Following, longest: float) -> None:
    """Read on until there is something to show, for so many seconds at most."""
    deadline = monotonic() + longest
    following.poll()
    while following.behind and not following.is_preview and monotonic() < deadline:
        await asyncio.sleep(BATCH_TIME)
        following.poll()
