"""The small window in which one chooses what a chart shows."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.charts.quantities import Quantity
from tui.charts.traces import Traces


class MetricsScreen(ModalScreen[str]):
    """Returns the name of the chosen one among all that the runs' files have."""

    AUTO_FOCUS = "OptionList"
    BINDINGS = [Binding("escape,v", "dismiss(None)", "leave it as it is", show=False)]

    def __init__(self, choices: Sequence[Quantity], runs: Sequence[Traces], chosen: str) -> None:
        super().__init__()
        self._choices = list(choices)
        self._runs = list(runs)
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical(id="metrics") as window:
            window.border_title = "what is this chart to show?"
            window.border_subtitle = "Enter chooses, Esc leaves it"
            yield OptionList(*(Option(_row(one, self._runs), id=str(at)) for at, one in enumerate(self._choices)))

    def on_mount(self) -> None:
        names = [one.name for one in self._choices]
        if self._chosen in names:
            self.query_one(OptionList).highlighted = names.index(self._chosen)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index].name)


def _row(quantity: Quantity, runs: Sequence[Traces]) -> Content:
    """The title, and how many values there are."""
    number = sum(run.size(series.metric) for run in runs for series in quantity.series)
    values = "one value" if number == 1 else f"{number:,} values"
    return Content.assemble(f"{quantity.title:<42}", (f"{values:>16}", "$text-muted"))
