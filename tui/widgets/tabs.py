"""The line of tabs that a small terminal gets in place of panes side by side."""

from textual import events
from textual.content import Content
from textual.message import Message

from tui.widgets.status_line import StatusLine


class PaneTabs(StatusLine):
    """Names the panes with their number keys; a click on one chooses it."""

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, pane: str) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, panes: dict[str, str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._panes = panes
        self._chosen = ""

    def _labels(self) -> list[tuple[str, str]]:
        labels = [(pane, f"{number} {title}") for number, (pane, title) in enumerate(self._panes.items(), 1)]
        if sum(len(label) + 1 for _, label in labels) < (self.size.width or 80):
            return labels
        # Only the chosen one keeps its name where there is no room for all.
        return [(pane, label if pane == self._chosen else label.partition(" ")[0]) for pane, label in labels]

    def show_chosen(self, chosen: str) -> None:
        """Mark the tab of the pane in front."""
        self._chosen = chosen
        parts: list[Content] = []
        before = ""
        for pane, label in self._labels():
            # Brackets show the choice where there is no colour. One cell between two: nine tabs fit into 80 columns.
            parts.append(Content("]" if before == chosen else "[" if pane == chosen else " "))
            parts.append(Content.styled(label, "bold $primary") if pane == chosen else Content(label))
            before = pane
        parts.append(Content("]" if before == chosen else " "))
        self.show(Content("").join(parts))

    def on_resize(self) -> None:
        self.show_chosen(self._chosen)

    def on_click(self, event: events.Click) -> None:
        column = 1
        place = event.get_content_offset(self)
        for pane, label in self._labels():
            if place is not None and column <= place.x < column + len(label):
                self.post_message(self.Chosen(pane))
                return
            column += len(label) + 1
