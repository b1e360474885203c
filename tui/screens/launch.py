"""The screen on which a training is put together: preset, text, every setting, and what it will take."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Button, Static

from minigpt.corpus import KNOWN_CORPORA
from minigpt.errors import UserError
from minigpt.inert import inert_line, inert_pane
from minigpt.known_files import KnownFile
from minigpt.presets import list_presets
from tui.launch.step_meter import Measured, StepMeter, question_of
from tui.screens.choose import ChooseScreen, Option, OptionRows
from tui.screens.dialogs import Choice, ConfirmScreen
from tui.screens.files import FilesScreen
from tui.terminal.clipboard import copy
from tui.widgets.key_line import KeyLine
from tui.widgets.row_list import Cell, Row
from tui.widgets.setting_form import CORPUS, PRESET, SettingForm, Shown

if TYPE_CHECKING:
    from tui.launch.form import Base, Filled, FormField
    from tui.launch.outlook import Outlook, Outlooks

CHECK_DELAY = 0.1  # seconds after the last key
METER_DELAY = 1.0  # seconds that a valid form stays as it is before a step is measured
COMMAND_LINES = {False: 2, True: 5}
"""How many lines the command line may take, narrow and wide; it is copied whole."""
_TELL_INTERVAL = 0.2  # seconds between two words about a long reading

_OWN, _TYPED = "own", "typed"
_PATH = "a path or pattern …"
_READING = "reading the settings …"

Answer = tuple[str, dict[str, str]] | None


class LaunchScreen(Screen[Answer]):
    """Puts a training together; returns the preset or TOML file and what is said besides, as the command line would.

    The configuration's modules and torch are imported in threads: the screen is there before them.
    """

    BINDING_GROUP_TITLE = "New run"
    AUTO_FOCUS = "SettingList"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    BINDINGS = [
        Binding("f5,ctrl+s", "start", "start", tooltip="start the training; goes to the first problem if there is one"),
        Binding("ctrl+y", "copy", "copy command", tooltip="copy the command line that does the same"),
        Binding("escape", "leave", "back", tooltip="back without starting"),
    ]

    class StepTimed(Message):
        """A step's time was measured, or could not be."""

        def __init__(self, question: str, measured: Measured | str) -> None:
            super().__init__()
            self.question = question
            self.measured = measured

    class Told(Message):
        """How the reading of a corpus goes."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self, preset: str | None = None) -> None:
        super().__init__()
        self._presets = list_presets()
        self._wanted = preset or (self._presets[0].name if self._presets else "")
        self._base: Base | None = None
        self._filled: Filled | None = None
        self._outlooks: Outlooks | None = None
        self._outlook: Outlook | None = None
        self._looked: Event = Event()
        """Set when what is being worked out is not wanted any more."""
        self._meter = StepMeter(lambda question, measured: self.post_message(self.StepTimed(question, measured)))
        self._meter_timer: Timer | None = None
        self._measured: dict[str, Measured | str] = {}
        self._said: dict[str, object] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="launch"):
            with Horizontal(id="launch-top"):
                yield Static(id="launch-title", markup=False)
                yield Button(Text.assemble(("F5", "bold"), " start"), id="launch-start", compact=True)
            with Container(id="launch-body"):
                yield SettingForm(id="launch-form")
                with Vertical(id="launch-side"):
                    yield Static(id="launch-help", markup=False)
                    yield Static(id="launch-outlook", markup=False)
            yield Static(id="launch-command", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        self._show_title()
        self._say("launch-outlook", _READING)
        self.call_after_refresh(self._open, self._wanted)

    def on_unmount(self) -> None:
        self._looked.set()
        self._meter.close()

    @property
    def _form(self) -> SettingForm:
        return self.query_one(SettingForm)

    @property
    def _wide(self) -> bool:
        return self.has_class("-wide")

    @property
    def _is_left(self) -> bool:
        # A thread may come back after the screen was left, when there is nothing of it any more.
        return not (self.query(SettingForm) and self.query("#launch-command"))

    # ── the preset ────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, target: str) -> None:
        self._wanted = target
        self._read(target)

    @work(exclusive=True, group="base")
    async def _read(self, target: str) -> None:
        try:
            self._base = await asyncio.to_thread(_read_base, target)
        except UserError as error:
            self._say("launch-outlook", Text(f"✗ {inert_pane(str(error))}"))
            if self._base is None and self._presets and target != self._presets[0].name:
                self.app.notify(inert_pane(str(error)), severity="error", markup=False)
                self._open(self._presets[0].name)
            return
        self._examine_after(0)

    def on_setting_form_asked(self, message: SettingForm.Asked) -> None:
        if message.key == CORPUS:
            self._ask_for_corpus()
            return
        names = [preset.name for preset in self._presets]
        if message.step and names:
            place = names.index(self._wanted) if self._wanted in names else -message.step
            self._open(names[(place + message.step) % len(names)])
            return
        options = [Option(preset.name, preset.name, about=preset.about) for preset in self._presets]
        self.app.push_screen(
            ChooseScreen("preset", options, self._wanted), lambda name: self._open(name) if name else None
        )

    # ── the corpus ────────────────────────────────────────────────────────────────────────────────────────────

    def _ask_for_corpus(self) -> None:
        options = [Option(name, name, _whereabouts(known), known.about) for name, known in KNOWN_CORPORA.items()]
        options += [
            Option(_OWN, "a text of your own …", about="choose a file, or a folder with all texts in it"),
            Option(_TYPED, _PATH, about="type it, such as ~/texts/**/*.txt"),
        ]
        now = self._form.value_of(CORPUS)
        self.app.push_screen(
            CorpusScreen("the text to learn from", options, now if now in KNOWN_CORPORA else _OWN), self._corpus_chosen
        )

    def _corpus_chosen(self, answer: str | None) -> None:
        form = self._form
        if answer == _OWN:
            now = form.value_of(CORPUS)
            start = Path.cwd() if now in KNOWN_CORPORA else Path(now).absolute()
            while not start.exists() and start != start.parent:
                start = start.parent
            self.app.push_screen(FilesScreen(start), lambda path: form.set(CORPUS, path) if path else None)
        elif answer in KNOWN_CORPORA:
            form.set(CORPUS, answer)
        elif answer:
            form.edit(answer.removeprefix(_TYPED) or None)

    # ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────

    def on_setting_form_changed(self) -> None:
        self._examine_after(CHECK_DELAY)

    @work(exclusive=True, group="examine")
    async def _examine_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._examine()

    async def _examine(self) -> None:
        if self._base is None or self._is_left:
            return
        self._filled = await asyncio.to_thread(_examined, self._base, dict(self._form.touched))
        self._look()
        self._show_all()

    @property
    def _problems(self) -> dict[str, str]:
        """What is wrong, by key, in the order of the form."""
        if self._filled is None:
            return {}
        found = dict(self._filled.problems)
        if self._outlook is not None and self._outlook.config == self._filled.config:
            found = self._outlook.problems | found
        order = list(self._filled.texts)
        return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1))

    # ── what it takes ─────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        """Work out what the training takes, if it is another one than before."""
        filled = self._filled
        if filled is None or filled.config is None:
            self._looked.set()
            return
        if self._outlook is None or self._outlook.config != filled.config:
            self._looked.set()
            self._looked = Event()
            self._work_out(filled, self._looked)

    @work(exclusive=True, group="outlook")
    async def _work_out(self, filled: "Filled", unwanted: Event) -> None:
        told = time.monotonic()

        def progress(words: str) -> None:
            nonlocal told
            if unwanted.is_set():
                raise _UnwantedError
            if time.monotonic() > told + _TELL_INTERVAL:
                told = time.monotonic()
                self.post_message(self.Told(words))

        try:
            self._outlooks, self._outlook = await asyncio.to_thread(_worked_out, self._outlooks, filled, progress)
        except _UnwantedError:
            return
        except Exception as error:  # noqa: BLE001 - a form without an estimate still starts a training
            self._say("launch-outlook", Text(f"not worked out: {type(error).__name__}: {inert_line(str(error))}"))
            return
        if not self._is_left:
            self._measure_soon()
            self._show_all()

    def on_launch_screen_told(self, message: Told) -> None:
        if not self._looked.is_set():
            self._say("launch-outlook", f"{inert_line(message.words)} …")

    def _question(self) -> str | None:
        """What is to be measured; None if nothing can be."""
        outlook, filled = self._outlook, self._filled
        if outlook is None or filled is None or outlook.config != filled.config or self._problems:
            return None
        return question_of(outlook.config, outlook.vocab_size) if outlook.device and outlook.vocab_size else None

    def _measure_soon(self) -> None:
        if self._meter_timer is not None:
            self._meter_timer.stop()
        if (question := self._question()) is not None and question not in self._measured and not self._trains():
            self._meter_timer = self.set_timer(METER_DELAY, self._measure)

    def _measure(self) -> None:
        if (question := self._question()) is not None and question not in self._measured and not self._trains():
            self._meter.ask(question)

    def _trains(self) -> bool:
        return bool(getattr(self.app, "training", False))

    def on_launch_screen_step_timed(self, message: StepTimed) -> None:
        self._measured[message.question] = message.measured
        self._show_outlook()

    # ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, id: str, content: str | Text | Table, comparable: object = None) -> None:
        """Show something, if it is not what is shown already."""
        comparable = content if comparable is None else comparable
        if self._said.get(id) != comparable and not self._is_left:
            self._said[id] = comparable
            self.query_one(f"#{id}", Static).update(content)

    def _show_all(self) -> None:
        filled = self._filled
        if filled is None or self._is_left:
            return
        from tui.launch.form import form_fields, section_titles

        notes = {CORPUS: self._corpus_note(filled)}
        self._form.show(Shown(form_fields(), section_titles(), filled, self._problems, notes))
        self._show_command(filled.command_line)
        self._show_title()
        self._show_help()
        self._show_outlook()

    def _show_command(self, command: str) -> None:
        shown = Text(inert_pane(f"$ {command}"))
        lines = shown.wrap(self.app.console, max(20, self.query_one("#launch-command").content_size.width))
        if len(lines) > (most := COMMAND_LINES[self._wide]):
            last = lines[most - 1].plain[:-10].rstrip()
            shown = Text("\n".join([*(line.plain.rstrip() for line in lines[: most - 1]), f"{last} … (^y)"]))
        self._say("launch-command", shown)

    def _corpus_note(self, filled: "Filled") -> str:
        known = KNOWN_CORPORA.get(filled.texts[CORPUS])
        if known is not None:
            return _whereabouts(known)
        sizes = self._outlook.sizes if self._outlook is not None and self._outlook.config == filled.config else None
        return f"{sizes.train + sizes.val:,} tokens" if sizes and sizes.exact else ""

    def _show_title(self) -> None:
        form = self._form
        search = form.listing.search
        hint = "type to search, digits change the chosen setting"
        words = f"search: {inert_line(search, 30)} ({form.found})" if search else hint
        self._say("launch-title", Text.assemble(("new run", "bold"), "  ", (words, "" if search else "dim")))

    @on(SettingForm.Moved)
    def _show_help(self) -> None:
        self._show_title()
        described, filled = self._form.chosen, self._filled
        if filled is None:
            return
        if described is None:
            on_preset = self._form.listing.chosen == PRESET
            about = inert_line(filled.base.texts["run.about"])
            words = "Enter chooses, ← and → go through them. What you set stays."
            gap = "\n\n" if self._wide else "\n"
            text = Text.assemble((inert_line(filled.base.target), "bold"), gap, about, gap, (words, "dim"))
            self._say("launch-help", text if on_preset else "")
            return
        self._say("launch-help", _help(described, filled, self._problems.get(described.key, ""), wide=self._wide))

    def _show_outlook(self) -> None:
        filled = self._filled
        if filled is None:
            return
        problems = self._problems
        self.query_one("#launch-outlook").set_class(bool(problems), "-refused")
        if problems:
            lines = [f"✗ {key + ': ' if key else ''}{words}" for key, words in problems.items()]
            shown = lines if self._wide else [lines[0], f"and {len(lines) - 1} more" if len(lines) > 1 else ""]
            self._say("launch-outlook", Text("\n".join(map(inert_pane, filter(None, shown)))))
            return
        outlook = self._outlook
        if outlook is None or outlook.config != filled.config:
            self._say("launch-outlook", "working out what it takes …")
            return
        from tui.launch.outlook import in_short, in_words

        measured = self._measured.get(self._question() or "", "")
        if not measured:
            measured = "not measured while this window trains" if self._trains() else "measuring a step …"
        if not self._wide:
            self._say("launch-outlook", inert_pane("\n".join(in_short(outlook, measured))))
            return
        pairs = in_words(outlook, measured)
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for name, words in pairs:
            table.add_row(Text(name), Text(inert_pane(words)))
        self._say("launch-outlook", table, pairs)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_all)

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    def on_button_pressed(self) -> None:
        self.action_start()

    def action_start(self) -> None:
        """Return what is to be trained, if nothing is wrong with it."""
        self._form.finish()
        self._start()

    @work(exclusive=True, group="examine")
    async def _start(self) -> None:
        await self._examine()
        if self._filled is None or not self.is_current:
            return
        if not (problems := self._problems):
            self.dismiss((self._filled.base.target, self._filled.overrides))
            return
        self.app.bell()
        if first := next(filter(None, problems), ""):
            self._form.go_to(first)

    def action_copy(self) -> None:
        """Copy the command line."""
        if self._filled is not None:
            copy(self.app, self._filled.command_line, "The command line is copied")

    def action_leave(self) -> None:
        """Go back; asks first if something was set that would be lost."""
        if not self._form.touched:
            self.dismiss(None)
            return

        def answered(answer: str | None) -> None:
            if answer == "leave":
                self.dismiss(None)

        choices = (Choice("leave", "l", "leave"), Choice("stay", "escape", "stay"))
        self.app.push_screen(ConfirmScreen("leave?", "What you have set here will be lost.", choices), answered)


class CorpusScreen(ChooseScreen):
    """Asks for a corpus. What is a path, or in none of the options, is offered as what was typed for one."""

    def _show(self, cursor: str | None = None) -> None:
        super()._show(cursor)
        rows = self.query_one(OptionRows)
        typed = rows.search.strip()
        # A path has to be asked for first: the example beside the last option has a `~/` in it.
        if typed and (not rows.chosen or any(sign in typed for sign in "/~*")):
            rows.show([Row(_TYPED + typed, (Cell(_PATH), Cell(""), Cell(typed, both_ends=True)))])
            self.on_row_list_moved()


class _UnwantedError(Exception):
    """Something else was set meanwhile."""


# ── in threads: here pydantic and torch are imported ──────────────────────────────────────────────────────────────


def _read_base(target: str) -> "Base":
    from tui.launch.form import form_fields, open_base, section_titles

    form_fields(), section_titles()
    return open_base(target)


def _examined(base: "Base", touched: dict[str, str]) -> "Filled":
    from tui.launch.form import examine

    return examine(base, touched)


def _worked_out(
    outlooks: "Outlooks | None", filled: "Filled", progress: Callable[[str], None]
) -> "tuple[Outlooks, Outlook]":
    from tui.launch.outlook import Outlooks

    assert filled.config is not None
    outlooks = outlooks or Outlooks()
    return outlooks, outlooks.look(filled.config, progress)


# ── in words ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _whereabouts(known: KnownFile) -> str:
    size = f"{known.size / 1e6:,.1f} MB" if known.size >= 1e6 else f"{known.size / 1e3:,.0f} kB" if known.size else ""
    if known.is_here():
        return f"here, {size or 'with Python'}"
    return f"{size} to download".strip() if known.url else "not here"


def _help(described: "FormField", filled: "Filled", problem: str, *, wide: bool) -> Text:
    preset = filled.base.texts[described.key]
    text = Text.assemble((described.key, "bold"))
    kinds = {"whole": "a whole number", "number": "a number", "text": "text", "choice": ""}
    if described.choices:
        now = filled.texts[described.key]
        text.append("  " + "  ".join(f"[{choice}]" if choice == now else choice for choice in described.choices))
    if wide:
        facts = (kinds[described.kind], described.notes, f"preset: {inert_line(preset, 60) or 'none'}")
        text.append("\n\n" + described.help + "\n\n")
        text.append("\n".join(filter(None, facts)), "dim")
    else:
        limits = described.notes.partition("; ")[2]
        text.append("  " + "; ".join(filter(None, (kinds[described.kind], limits))), "dim")
        text.append("\n" + described.help)
    if problem:
        text.append(f"\n{'' if not wide else chr(10)}✗ {inert_pane(problem)}", "bold")
    return text
