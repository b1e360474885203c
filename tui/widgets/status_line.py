"""Text that often changes in part, or not at all."""

from textual.content import Content
from textual.widgets import Static


class StatusLine(Static):
    """One line of text that is repainted only when it changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._shown: Content | None = None

    def show(self, content: Content) -> None:
        """Write this into the line."""
        if self._shown is None or not content.is_same(self._shown):
            self._shown = content
            # Its size never changes: laying out the whole screen anew would cost far more than the text.
            self.update(content, layout=False)
