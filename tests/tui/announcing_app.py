"""An app in a terminal that announces one alert when a is pressed; q quits. Its argument is the alert's message."""

import sys

from textual.app import App

from tui.notifying import announce
from tui.run.alerts import Alert
from tui.settings import Settings
from tui.terminal.connection import Terminal


class Announcing(App[None]):
    """Nothing on the screen."""

    settings = Settings(bell="quiet" not in sys.argv, notifications="quiet" not in sys.argv)

    def on_key(self, event: object) -> None:
        key = getattr(event, "key", "")
        if key == "a":
            announce(self, Alert("spike", "loss spike", sys.argv[1], "warning", "a-run", 600, 1.0))
        elif key == "q":
            self.exit()


with Terminal(on_stop=lambda: None) as terminal:
    terminal.run(Announcing())
