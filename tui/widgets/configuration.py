"""The configuration of a run: every setting, what differs from its preset, and what each of them means."""

import threading
from contextlib import suppress

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from minigpt.inert import inert_line, inert_pane
from minigpt.journal import JournalTail, Row, count_in
from minigpt.rundir import RunDirectory
from tui.run.following import settings_of
from tui.run.notes import Signature, signature_of
from tui.run.settings_compared import Known, Values, changes_in, flat, known_settings, preset_of, shown, was_worked_out
from tui.widgets.lines import Line, Lines
from tui.widgets.search import SearchedPane, SearchLine

_BITE = 1 << 17
_LOOK_INTERVAL = 0.05  # seconds, while there is more to read or the thread has not answered
_KEY = 32  # columns
_MOST = 500  # settings; there are about sixty


class ConfigurationPane(SearchedPane):
    """Lists the settings by section. `≠` marks those unlike the preset's, `↻` those changed on resuming."""

    BINDING_GROUP_TITLE = "Configuration"
    BINDINGS = [
        Binding("f", "filter", "filter", tooltip="all settings, or those that differ from the preset"),
    ]

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_directory = run
        self._tail = JournalTail(run.events_file)
        self._restarts = 0
        self._first_start: Row = {}
        self._changes: dict[str, list[str]] = {}
        """What resumptions have changed, in words, by setting."""
        self._values: Values = {}
        self._signature: Signature | None = None
        self._known: Known | None = None
        self._asked: str | None = None
        """The preset that a thread has been asked for."""
        self._keys: list[str] = []
        """The setting or section in each line."""
        self._only_different = False
        self._drawn: object = None
        self._looking: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Lines(cursor=True)
        yield Static("", classes="empty", markup=False)
        yield Static("", id="setting-help", markup=False)
        yield SearchLine()

    def on_mount(self) -> None:
        self._looking = self.set_interval(_LOOK_INTERVAL, self.look, pause=True)
        self.look()

    def look(self) -> None:
        """Read on, and draw what is new."""
        if (signature := signature_of(self._run_directory.config_file)) != self._signature:
            self._signature = signature
            self._values = flat(settings_of(self._run_directory))
        before = self._tail.offset
        events = self._tail.poll(_BITE)
        if self._tail.restarts != self._restarts:
            self._restarts = self._tail.restarts
            self._first_start, before = {}, 0
            self._changes.clear()
        for event in events:
            if event.get("event") == "started":
                self._take_start(event)
        behind = self._tail.offset - before > _BITE // 2
        preset = preset_of(self._run_directory.name, self._values, self._first_start)
        if preset != self._asked:
            self._asked, self._known = preset, None
            # A daemon: quitting must not wait for imports.
            threading.Thread(target=self._ask, args=(preset,), name="configuration", daemon=True).start()
        if self._looking is not None:
            if behind or self._known is None:
                self._looking.resume()
            else:
                self._looking.pause()
        state = (self._values, self._known, repr(self._changes), self._only_different)
        if state != self._drawn:
            self._drawn = state
            self._draw()

    def _take_start(self, event: Row) -> None:
        self._first_start = self._first_start or event
        step = count_in(event, "resumed_from")
        at = "at its start" if step is None else f"on resuming at step {step:,}"
        for key, (old, new) in changes_in(event).items():
            told = self._changes.setdefault(key, [])
            told.append(f"changed {at}: {old} → {new}")
            del told[:-20]

    def _ask(self, preset: str) -> None:
        with suppress(Exception):  # then there is nothing to compare with, and the values are shown all the same
            known = known_settings(preset)
            if preset == self._asked:
                self._known = known
            return
        self._known = Known("", {}, {})

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> None:
        lines, keys, different = self._rows()
        listed = self.query_one(Lines)
        chosen = self._keys[listed.cursor] if listed.cursor is not None and listed.cursor < len(self._keys) else ""
        self._keys = keys
        if chosen in keys:
            listed.cursor = keys.index(chosen)
        listed.show(lines)
        self.search_again()
        empty = self.query_one(".empty", Static)
        empty.update(
            f"Nothing differs from {self._of_what()}."
            if self._values
            else "config.toml of this run is missing, or cannot be read."
        )
        listed.display, empty.display = bool(lines), not lines
        words = "comparing …"
        if self._known is not None:
            number = f"{different} differ" if different != 1 else "1 differs"
            words = f"{number} from {self._of_what()}"
        self.border_title = Content(f" configuration · {words} ")
        self._explain()

    def _of_what(self) -> str:
        preset = self._known.preset if self._known is not None else ""
        return f"preset {inert_line(preset, 40)}" if preset else "the defaults"

    def _rows(self) -> tuple[list[Line], list[str], int]:
        known = self._known.compared if self._known is not None else {}
        lines: list[Line] = []
        keys: list[str] = []
        section, different = "", 0
        for key in [*known, *(key for key in self._values if key not in known)][:_MOST] if self._values else []:
            line, differs = self._row(key, known)
            different += differs
            if self._only_different and not differs:
                continue
            if key.partition(".")[0] != section:
                section = key.partition(".")[0]
                if lines:
                    lines.append(Line(""))
                    keys.append(section)
                lines.append(Line(f"[{inert_line(section, 40)}]", 0, "head"))
                keys.append(section)
            lines.append(line)
            keys.append(key)
        return lines, keys, different

    def _row(self, key: str, known: Values) -> tuple[Line, bool]:
        value = self._values.get(key, known.get(key))
        differs = key in known and (value != known[key] or isinstance(value, bool) != isinstance(known[key], bool))
        worked_out = differs and was_worked_out(key, known)
        marks, notes = "", []
        if worked_out:
            notes.append(f"from {shown(known[key])}")
        elif differs:
            marks += "≠"
            notes.append(f"{'preset' if self._known and self._known.preset else 'default'} {shown(known[key], 30)}")
        elif known and key not in known:
            marks += "?"
            notes.append("unknown to this version")
        if key in self._changes:
            marks += "↻"
            notes.append("changed on resuming")
        name = f"  {inert_line(key.partition('.')[2] or key, _KEY - 4):<{_KEY - 2}}"
        text = f"{name}{marks:<2} {shown(value)}" + (f"   ({', '.join(notes)})" if notes else "")
        return Line(text, _KEY, "warning" if marks else ""), differs and not worked_out

    @on(Lines.Chosen)
    def chosen(self, message: Lines.Chosen) -> None:
        """Explain the setting that the cursor came to."""
        message.stop()
        self._explain()

    def _explain(self) -> None:
        listed = self.query_one(Lines)
        key = self._keys[listed.cursor] if listed.cursor is not None and listed.cursor < len(self._keys) else ""
        words = (self._known.help.get(key, "") if self._known is not None else "") if key else ""
        told = [inert_pane(words), *self._changes.get(key, [])]
        if len(shown(self._values.get(key), 2000)) > 60:
            told.insert(0, shown(self._values.get(key), 2000))
        explained = self.query_one("#setting-help", Static)
        name = inert_line(key, 60)
        content = Content.assemble((name, "bold"), "  " if words else "", "\n".join(part for part in told if part))
        if str(explained.content) != str(content):
            explained.update(content)
        explained.display = bool(self._keys)

    def action_filter(self) -> None:
        """Show all settings, or those alone that differ."""
        self._only_different = not self._only_different
        self.look()
