"""The table of runs: which of them are shown, in which order, and which are marked."""

from collections.abc import Sequence
from pathlib import Path

from textual.binding import Binding
from textual.message import Message

from minigpt.run_list import RunSummary
from tui.ordering import Order, in_order, next_order
from tui.run_filter import RunFilter, run_filter
from tui.run_rows import FIELDS, KEYS, entry, labels_of
from tui.settings import DEFAULTS
from tui.widgets.line_input import LineInput
from tui.widgets.row_table import RowTable


class RunTable(RowTable):
    """Shows the runs that match a filter, sorted as the user wants them."""

    BINDING_GROUP_TITLE = "Runs"
    BINDINGS = [
        Binding("enter", "select_cursor", "open", tooltip="open the run"),
        Binding("space", "mark", "mark", tooltip="mark the run, to compare it with others, and go to the next"),
        Binding("s", "sort", "sort", show=False, tooltip="sort by the next column, and in the end as before"),
        Binding("S", "reverse", "the other way round", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(FIELDS, id=id)
        self._runs: list[RunSummary] = []
        self._shown: dict[str, RunSummary] = {}
        self._time = 0.0
        self._filter = RunFilter()
        self._order = Order()
        self._marked: set[Path] = set()
        self._renamed: dict[Path, Path] = {}
        """Where runs will be that are being renamed."""

    @property
    def chosen_run(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._shown.get(self.chosen or "")

    @property
    def marked_runs(self) -> list[RunSummary]:
        """The runs that are marked, those too that the filter hides."""
        return [run for run in self._runs if run.run.path in self._marked]

    @property
    def counts(self) -> tuple[int, int]:
        """How many runs are shown, and how many there are."""
        return len(self._shown), len(self._runs)

    @property
    def complaint(self) -> str:
        """What of the filter cannot be understood."""
        return self._filter.complaint(self._runs)

    @property
    def is_empty(self) -> bool:
        """Whether no run is shown: there is none, or none that matches."""
        return not self._shown

    def show_runs(self, runs: Sequence[RunSummary], time: float) -> None:
        """Show the runs as they are now; `time` is the one against which their ages are told."""
        before, self._runs, self._time = self._runs, list(runs), time
        paths = {run.run.path for run in runs}
        for path, new_path in list(self._renamed.items()):
            if path in paths:
                continue
            if new_path in paths:
                del self._renamed[path]
                self._marked = {new_path if marked == path else marked for marked in self._marked}
                self.rename_entry(str(path), str(new_path))
            else:
                # The directories were read while it had the old name, and it itself when it had the new one.
                self._runs += [run for run in before if run.run.path == path]
                paths.add(path)
        self._marked &= paths
        self._draw()

    def expect_rename(self, path: Path, new_path: Path) -> None:
        """Once the run of one path is at the other instead, cursor and mark go along with it."""
        self._renamed[path] = new_path

    def refuse_rename(self) -> None:
        """Forget what was expected: it did not come to be."""
        self._renamed.clear()

    def go_to(self, path: Path) -> bool:
        """Put the cursor on a run; whether it is shown."""
        row = next((row for row, key in enumerate(self._shown) if key == str(path)), None)
        if row is not None:
            self.move_cursor(row)
        return row is not None

    def filter(self, words: str) -> None:
        """Show only the runs of which each of these words and comparisons holds."""
        self._filter = run_filter(words)
        self._draw()

    def _draw(self) -> None:
        ascii = getattr(self.app, "settings", DEFAULTS).ascii
        shown = in_order([run for run in self._runs if self._filter.matches(run)], self._order, KEYS)
        self._shown = {str(run.run.path): run for run in shown}
        self.show(
            [entry(run, self._time, marked=run.run.path in self._marked, ascii=ascii) for run in shown],
            labels_of(self._order, len(shown), len(self._runs), ascii=ascii),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.chosen_run is not None if action == "mark" else True

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away, and go on to the next."""
        if (run := self.chosen_run) is not None:
            self._marked ^= {run.run.path}
            self._draw()
            self.move_cursor(self.cursor_row + 1)

    def action_sort(self) -> None:
        """Sort by the next of the visible columns."""
        self._order = next_order(self._order, [None, *(column for column in self.visible_fields if column in KEYS)])
        self._draw()

    def on_row_table_head_clicked(self, message: RowTable.HeadClicked) -> None:
        message.stop()
        if message.column in KEYS:
            self._order = Order(message.column, self._order.column == message.column and not self._order.reverse)
            self._draw()

    def action_reverse(self) -> None:
        """Turn the order round, if it is that of a column."""
        self._order = Order(self._order.column, not self._order.reverse)
        self._draw()


class FilterLine(LineInput):
    """The line in which one types what the names, states or corpora of the runs must contain, or a setting must be."""

    BINDING_GROUP_TITLE = "Filter"
    BINDINGS = [
        Binding(
            "enter,down",
            "leave",
            "to the runs",
            tooltip="go to the runs that are left: those of which all words hold; n_layer>=6, learning_rate<1e-3, "
            "corpus:shakespeare, state:finished and val<1.5 compare (: is contained in), a dash before it is a not",
        ),
        Binding("escape", "clear", "all runs", tooltip="show all runs again"),
    ]

    class Left(Message):
        """What was typed stands, empty if all runs are to be seen."""

    def action_leave(self) -> None:
        """Go to the runs that are left."""
        self.post_message(self.Left())

    def action_clear(self) -> None:
        """Show all runs again."""
        self.value = ""
        self.post_message(self.Left())
