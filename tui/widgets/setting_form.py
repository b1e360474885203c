"""The settings of a training as a list, with an editor over the value of the row that is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.message import Message

from minigpt.inert import inert_line
from tui.widgets.line_input import LineInput
from tui.widgets.row_list import Cell, Look, Row, RowList

if TYPE_CHECKING:
    from tui.launch.form import Filled, FormField

PRESET = "preset"
"""The key of the first row: which preset the form begins with."""
CORPUS = "data.corpus"

_NAME_WIDTH = 27
_VALUE_PLACE = 1 + 2 + _NAME_WIDTH + 2  # cells before the values
_LONGEST = 4096  # characters that can be typed for one setting


@dataclass(frozen=True)
class Shown:
    """What the form shows."""

    fields: Mapping[str, "FormField"]
    titles: Mapping[str, str]
    filled: "Filled"
    problems: Mapping[str, str]
    """By key; those of the form and those that show only when corpus and machine are looked at."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What is said beside a value where nothing is wrong with it."""


class SettingForm(Container):
    """All settings by section. `touched` are those that the user has set, as they were typed."""

    class Changed(Message):
        """A setting was set or taken back: see `touched`."""

    class Asked(Message):
        """The preset or the corpus is to be chosen; by a `step` forwards or back, or with 0 from all there are."""

        def __init__(self, key: str, step: int = 0) -> None:
            super().__init__()
            self.key = key
            self.step = step

    class Moved(Message):
        """Another setting is under the cursor, or other settings are searched for."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.touched: dict[str, str] = {}
        self.shown: Shown | None = None
        self._edited = ""
        self._before: str | None = None
        """What the edited setting was set to; None if it was the preset's."""

    def compose(self) -> ComposeResult:
        yield SettingList(self)
        yield SettingEditor(self)

    @property
    def listing(self) -> "SettingList":
        """The list of the settings."""
        return self.query_one(SettingList)

    @property
    def editor(self) -> "SettingEditor":
        """The line over the value that is being changed."""
        return self.query_one(SettingEditor)

    @property
    def chosen(self) -> "FormField | None":
        """The setting under the cursor; None on the preset."""
        return self.shown.fields.get(self.listing.chosen) if self.shown else None

    @property
    def found(self) -> int:
        """How many settings the search leaves."""
        return sum(bool(row.key) for row in self.listing.rows)

    def value_of(self, key: str) -> str:
        """A setting as it stands, the newest letters included."""
        assert self.shown is not None
        return self.touched.get(key, self.shown.filled.texts[key])

    # ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────

    def show(self, shown: Shown) -> None:
        """Show settings and what is wrong with them."""
        self.shown = shown
        self.refresh_rows()

    def refresh_rows(self, cursor: str | None = None) -> None:
        """Show what was typed since, with the cursor on a setting, or else where it was."""
        if (shown := self.shown) is None:
            return
        words = _plain(self.listing.search).split()
        rows, section = [], ""
        if not words or all(word in PRESET for word in words):
            about = Cell(shown.filled.base.texts["run.about"], "muted")
            rows.append(Row(PRESET, (Cell(""), Cell(PRESET), Cell(shown.filled.base.target, both_ends=True), about)))
        differing = shown.filled.differing
        for key, described in shown.fields.items():
            if not all(word in key or word in described.help.lower() for word in words):
                continue
            if described.section != section:
                section = described.section
                rows.append(Row("", (Cell(f"{section} · {shown.titles[section].rstrip('.')}", "title"),)))
            rows.append(self._row(described, shown, key in differing))
        if not rows:
            rows.append(Row("", (Cell("no setting has that in its name or its help", "muted"),)))
        self.listing.show(rows, cursor=cursor)

    def _row(self, described: "FormField", shown: Shown, differs: bool) -> Row:
        key = described.key
        value, preset = self.value_of(key), shown.filled.base.texts[key]
        problem = shown.problems.get(key, "")
        mark = Cell("✗", "problem") if problem else Cell("•" if differs else "", "changed")
        look: Look = "problem" if problem else "changed" if differs else ""
        note = Cell(shown.notes.get(key, ""), "muted")
        if problem:
            note = Cell(problem, "problem")
        elif differs and key != CORPUS:
            note = Cell(f"preset: {preset or 'none'}", "muted")
        return Row(
            key,
            (
                mark,
                Cell(described.name, "problem" if problem else ""),
                Cell(value, look, is_path=key == CORPUS) if value else Cell("–", look or "muted"),
                note,
            ),
        )

    def go_to(self, key: str) -> None:
        """Put the cursor on a setting, whatever is searched for."""
        self.finish()
        self.listing.search_for("")
        self.refresh_rows(key)
        self.screen.set_focus(self.listing)

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        self.post_message(self.Moved())

    def searched(self) -> None:
        """Show what the search leaves, with the cursor on the setting that has it most clearly in its name."""
        search = _plain(self.listing.search)
        fields = self.shown.fields.values() if self.shown else ()
        ranks = {
            field.key: (field.name == search, field.name.startswith(search), search in field.key) for field in fields
        }
        best = max(ranks, key=lambda key: ranks[key], default="")
        self.refresh_rows(best if search and any(ranks.get(best, ())) else None)
        self.post_message(self.Moved())

    def names(self, search: str) -> bool:
        """Whether a setting has that in its name."""
        return self.shown is not None and any(_plain(search) in key for key in self.shown.fields)

    # ── changing ──────────────────────────────────────────────────────────────────────────────────────────────

    def set(self, key: str, text: str) -> None:
        """Set a setting, as if it were typed."""
        if self.touched.get(key) != text:
            self.touched[key] = text
            self._changed()

    def reset(self, key: str) -> None:
        """Make a setting the preset's again."""
        if self.touched.pop(key, None) is not None:
            self._changed()

    def _changed(self) -> None:
        self.refresh_rows()
        self.post_message(self.Changed())

    def step(self, by: int) -> None:
        """Take the next of the few things that the setting under the cursor may be, or the one before."""
        if self.listing.chosen == PRESET:
            self.post_message(self.Asked(PRESET, by))
        elif (described := self.chosen) is not None and described.choices:
            choices, now = described.choices, self.value_of(described.key)
            place = choices.index(now) if now in choices else -1
            self.set(described.key, choices[(place + by) % len(choices)])

    def choose(self) -> None:
        """Change the setting under the cursor in the way that suits it."""
        described = self.chosen
        if self.listing.chosen in {PRESET, CORPUS}:
            self.post_message(self.Asked(self.listing.chosen))
        elif described is not None and described.choices:
            self.step(1)
        elif described is not None:
            self.edit()

    def edit(self, typed: str | None = None) -> None:
        """Let the setting under the cursor be typed; `typed` is the beginning of what it is to be instead."""
        if (described := self.chosen) is None:
            return
        key = described.key
        self._edited, self._before = key, self.touched.get(key)
        editor = self.editor
        editor.display = True
        self._place_editor()
        with self.prevent(LineInput.Changed):
            editor.value = self.value_of(key)
        editor.cursor_position = len(editor.value)
        self.screen.set_focus(editor)
        if typed is not None:
            editor.value = typed
            editor.cursor_position = len(typed)
        elif key == CORPUS:
            editor.select_all()  # another text is typed over it, not behind it

    def _place_editor(self) -> None:
        settings = self.listing
        self.editor.styles.offset = (_VALUE_PLACE, max(0, settings.cursor_line))
        self.editor.styles.width = settings.path_width if self._edited == CORPUS else settings.value_width

    def on_input_changed(self, message: LineInput.Changed) -> None:
        message.stop()
        if self._edited:
            self.set(self._edited, message.value)

    def finish(self, move: int = 0) -> None:
        """Leave the editor, and keep what was typed."""
        if not self._edited:
            return
        key, self._edited = self._edited, ""
        if self.editor.value != self.value_of(key):  # its message may still be on its way
            self.set(key, self.editor.value)
        self._leave_editor(move)

    def cancel(self) -> None:
        """Leave the editor, and let the setting be what it was."""
        key, self._edited = self._edited, ""
        if self._before is None:
            self.reset(key)
        else:
            self.set(key, self._before)
        self._leave_editor(0)

    def _leave_editor(self, move: int) -> None:
        if self.screen.focused in {self.editor, None}:
            self.screen.set_focus(self.listing)
        self.editor.display = False
        if move:
            self.listing.action_move(move)

    def on_resize(self) -> None:
        if self._edited:
            self.call_after_refresh(self._place_editor)


def _plain(search: str) -> str:
    return search.lower().replace("-", "_")


class SettingList(RowList):
    """The rows of the form."""

    BINDING_GROUP_TITLE = "Settings"
    BINDINGS = [
        Binding("enter", "choose", "change", tooltip="change the setting: choose or type; digits begin at once"),
        Binding("left", "step(-1)", "the choice before", show=False),
        Binding("right", "step(1)", "the next choice", show=False),
        Binding("delete,ctrl+r", "reset", "reset", tooltip="back to the preset's value"),
    ]

    def __init__(self, form: SettingForm) -> None:
        super().__init__(id="setting-list", searched=form.searched)
        self._form = form

    @property
    def value_width(self) -> int:
        """Cells that a value has."""
        return self.columns(self.scrollable_content_region.width)[2]

    @property
    def path_width(self) -> int:
        """Cells up to the end of the row."""
        return max(8, self.scrollable_content_region.width - _VALUE_PLACE)

    def columns(self, width: int) -> tuple[int, ...]:
        room = max(8, width - _VALUE_PLACE)
        value = max(8, min(36, room * 2 // 5))
        return 1, _NAME_WIDTH, value, max(0, room - value - 2)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "reset":
            return self.chosen in self._form.touched
        return super().check_action(action, parameters)

    def take_character(self, character: str) -> None:
        described = self._form.chosen
        if described is not None and not (self.search and self._form.names(self.search + character)):
            if described.kind in {"whole", "number"} and character in "0123456789.-":
                self._form.edit(character)
                return
            if described.choices and character == " " and not self.search:
                self._form.step(1)
                return
        super().take_character(character)

    def action_choose(self) -> None:
        # Not by a message: what is typed behind an Enter belongs into the editor already.
        self._form.choose()

    def action_step(self, by: int) -> None:
        """Take the next or the last choice."""
        self._form.step(by)

    def action_reset(self) -> None:
        """Make the setting the preset's again."""
        self._form.reset(self.chosen)


class SettingEditor(LineInput):
    """Takes one value."""

    BINDING_GROUP_TITLE = "Value"
    BINDINGS = [
        Binding("enter", "keep(0)", "keep"),
        Binding("escape", "cancel", "as it was", tooltip="leave the setting as it was"),
        Binding("up", "keep(-1)", "keep it, one up", show=False),
        Binding("down", "keep(1)", "keep it, one down", show=False),
    ]

    def __init__(self, form: SettingForm) -> None:
        super().__init__(max_length=_LONGEST)
        self.display = False
        self.select_on_focus = False
        self._form = form

    @property
    def _value(self) -> Text:
        # A file of one's own may hold characters that steer a terminal. One for one, since the cursor counts them.
        shown = (inert_line(character) for character in self.value)
        return Text(
            "".join(one if len(one) == 1 else "\ufffd" for one in shown), no_wrap=True, overflow="ignore", end=""
        )

    def on_blur(self, event: events.Blur) -> None:
        self._form.finish()

    def action_keep(self, move: int) -> None:
        """Keep what was typed, and go so many rows on."""
        self._form.finish(move)

    def action_cancel(self) -> None:
        """Leave the setting as it was."""
        self._form.cancel()
