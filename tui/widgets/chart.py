"""The chart widget: draws a picture into cells of its own and repaints only those that changed."""

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.plot import ROLES, Grid, Picture, draw


class Chart(Widget):
    """Shows one picture. `show` redraws at once; whoever calls it decides how often that is worth its cost."""

    COMPONENT_CLASSES = {f"chart--{role}" for role in ROLES}

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._picture = Picture(title)
        self._grid = Grid.empty(0, 0)
        self._role_styles: list[Style] = []

    @property
    def picture(self) -> Picture:
        """What is shown."""
        return self._picture

    def show(self, picture: Picture) -> None:
        """Draw another picture."""
        self._picture = picture
        before = self._grid
        self._grid = draw(picture, self.size.width, self.size.height)
        if before.codes.shape != self._grid.codes.shape:
            self.refresh()
        elif spans := self._grid.changed_spans(before):
            self.refresh(*(Region(column, row, width, 1) for row, column, width in spans))

    def on_resize(self) -> None:
        self.show(self._picture)

    def notify_style_update(self) -> None:
        self._role_styles = []
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if not self._role_styles:
            self._role_styles = [self.get_component_rich_style(f"chart--{role}") for role in ROLES]
        if self._grid.codes.shape != (self.size.height, width):
            # The first frame after a layout comes before the event that tells of it.
            self._grid = draw(self._picture, width, self.size.height)
        if y >= self._grid.codes.shape[0]:
            return Strip.blank(width, self._role_styles[0])
        text = self._grid.codes[y].astype("<u4").tobytes().decode("utf-32-le")
        roles = self._grid.roles[y].tolist()
        segments, begin = [], 0
        for column in range(1, width + 1):
            if column == width or roles[column] != roles[begin]:
                segments.append(Segment(text[begin:column], self._role_styles[roles[begin]]))
                begin = column
        return Strip(segments, width)
