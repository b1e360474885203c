"""The notes pane: a text of the user's own for a run, saved as it is typed."""

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static, TextArea

from minigpt.errors import UserError
from minigpt.inert import inert, inert_pane
from minigpt.rundir import RunDirectory
from tui.run.notes import LONGEST, Signature, notes_of, signature_of
from tui.widgets.line_input import obey_in_order

SAVE_AFTER = 0.8  # seconds after the last key
_WATCH_INTERVAL = 0.25  # seconds between two looks at what is being saved
_LAST_WAIT = 1.0  # seconds, when the pane goes away

_MOST_PASTED = LONGEST // 2  # as much again can be typed


class NotesField(TextArea):
    """The text. Pasted text is made printable first: what is shown is what is kept."""

    BINDING_GROUP_TITLE = "Notes"

    def __init__(self) -> None:
        super().__init__(compact=True, highlight_cursor_line=False, placeholder="Notes of yours on this run.")
        self.cursor_blink = False

    async def on_key(self, event: events.Key) -> None:
        await obey_in_order(self, event)

    def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        if self.read_only:
            return
        text = inert(event.text.replace("\r\n", "\n").replace("\r", "\n"), tabs=True)
        room = max(0, _MOST_PASTED - len(self.text) + len(self.selected_text))
        if len(text) > room:
            self.notify(
                f"The notes take {_MOST_PASTED:,} characters: the rest was left out.",
                severity="warning",
                markup=False,
            )
        result = self.replace(text[:room], *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)


class NotesPane(Vertical):
    """Shows notes.txt of a run and writes it; never over what somebody else has written there meanwhile."""

    class Left(Message):
        """The user has left the notes."""

    BINDING_GROUP_TITLE = "Notes"
    BINDINGS = [
        Binding(
            "ctrl+s", "save", "save now", show=False, tooltip="save the notes now; they are saved by themselves too"
        ),
        # With priority, or the field would take the keys for itself; without a conflict it still does.
        Binding(
            "ctrl+k",
            "keep_own",
            "keep yours",
            key_display="^k",
            tooltip="keep your notes, over the other ones",
            priority=True,
        ),
        Binding(
            "ctrl+l",
            "take_other",
            "take theirs",
            key_display="^l",
            tooltip="take the other notes; ^z brings yours back",
            priority=True,
        ),
        Binding("escape", "leave", "leave", tooltip="leave the notes; they are saved"),
    ]

    def __init__(self, run: RunDirectory, *, read_only: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._path = run.notes_file
        self._read_only = read_only
        self._notes = notes_of(run.notes_file)
        self._field = NotesField()  # kept, for when the pane goes away: its children go first
        self._settled = ""
        """The text that was loaded last or given to be written."""
        self._refused: tuple[str, Signature | None] | None = None
        """Why the file is not shown, and which writing of it that is."""
        self._said = ""
        self._told = ""
        """What is said until the next change of the text."""
        self._title = ""
        self._typing: Timer | None = None
        self._watching: Timer | None = None

    def compose(self) -> ComposeResult:
        yield self._field
        yield Static("", id="notes-problem", markup=False)

    def on_mount(self) -> None:
        self._typing = self.set_interval(SAVE_AFTER, self._save, pause=True)
        self._watching = self.set_interval(_WATCH_INTERVAL, self._watch, pause=True)
        field = self._field
        field.read_only = self._read_only
        if self._read_only:
            field.placeholder = "No notes on this run."
        if (waiting := self._notes.unsaved) is not None:
            field.load_text(waiting)  # the disk was full when they were left
            field.move_cursor(field.document.end)
            self._settled = waiting
            self._watching.resume()
        else:
            self._load()
        self._show_state()

    def focus(self, scroll_visible: bool = True) -> "NotesPane":
        """Put the cursor into the text."""
        self.screen.set_focus(self._field, scroll_visible)
        return self

    def look(self) -> None:
        """Take in what others have written."""
        if self._refused is not None:
            if signature_of(self._path) != self._refused[1]:
                self._load()
        elif self._notes.changed_by_others() and not self._unsettled and self._notes.unsaved is None:
            self._load(others=True)
        self._show_state()

    def on_unmount(self) -> None:
        self._save()
        if not self._notes.wait(_LAST_WAIT):
            why = self._notes.problem or "somebody else has changed them"
            self.app.notify(
                f"The notes are not saved yet: {why}. They are kept, and shown when you come back to them.",
                severity="error",
                markup=False,
            )

    # ── reading and writing ───────────────────────────────────────────────────────────────────────────────────

    @property
    def _unsettled(self) -> bool:
        """Whether something was typed that nobody has been told to write yet."""
        return self._refused is None and not self._read_only and self._field.text != self._settled

    def _load(self, *, others: bool = False) -> None:
        field = self._field
        signature = signature_of(self._path)
        try:
            text = self._notes.load()
        except UserError as error:
            self._refused = str(error), signature
            field.display = False
            return
        self._refused = None
        field.display = True
        if others and field.text != text:
            place = field.cursor_location
            # As an edit: undo brings back what stood here.
            field.replace(text, field.document.start, field.document.end)
            field.move_cursor((min(place[0], field.document.line_count - 1), place[1]))
            self._told = "Somebody else has changed these notes: theirs are shown, and ^z brings back yours."
            if self._read_only:
                self._told = ""
        elif field.text != text:
            field.load_text(text)
            field.move_cursor(field.document.end)  # what is added comes after what stands there
        self._settled = field.text

    @on(TextArea.Changed)
    def typed(self, event: TextArea.Changed) -> None:
        """Save a moment after the last change."""
        event.stop()
        if self._typing is not None and self._unsettled:
            self._told = ""
            self._typing.reset()
            self._typing.resume()
            self._show_state()

    def on_descendant_blur(self) -> None:
        self._save()

    def _save(self) -> None:
        if self._typing is not None:
            self._typing.pause()
        if self._unsettled:
            self._settled = self._field.text
            self._notes.write(self._settled)
            if self._watching is not None:
                self._watching.resume()

    def _watch(self) -> None:
        if self._watching is not None and self._notes.unsaved is None:
            self._watching.pause()
        self._show_state()

    # ── what is said ──────────────────────────────────────────────────────────────────────────────────────────

    def _show_state(self) -> None:
        notes = self._notes
        words, state = self._told, ""
        if self._refused is not None:
            words = self._refused[0]
        elif notes.conflict:
            words = "Somebody else has changed these notes meanwhile. ^k keeps yours, ^l takes theirs."
            state = " · not saved"
        elif notes.problem:
            words = f"The notes cannot be saved: {notes.problem}. They stay here, and it is tried again."
            state = " · not saved"
        elif self._unsettled or notes.unsaved is not None:
            state = " · …"
        elif self._read_only:
            state = " · read-only"
        if words != self._said:
            self._said = words
            problem = self.query_one("#notes-problem", Static)
            problem.update(inert_pane(words))
            problem.display = bool(words)
            self.refresh_bindings()
        title = f" notes{state} "
        if title != self._title:
            self._title = title
            self.border_title = Content(title)

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"keep_own", "take_other"}:
            return self._notes.conflict
        return action != "save" or not self._read_only

    def action_save(self) -> None:
        """Save at once."""
        self._save()
        self._show_state()

    def action_keep_own(self) -> None:
        """Write these notes over the ones that somebody else has written."""
        self._save()
        self._notes.take_over()
        self._show_state()

    def action_take_other(self) -> None:
        """Show the ones that somebody else has written."""
        self._load(others=True)
        self._show_state()

    def action_leave(self) -> None:
        """Save, and give the keys back."""
        self._save()
        self.screen.set_focus(None)
        self.post_message(self.Left())
