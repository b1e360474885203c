"""Keys from the terminal, read so that Esc is answered at once and no input ends the program."""

import os
import select
from codecs import getincrementaldecoder

from textual._time import get_time
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

_LOOK = 0.1  # seconds between two looks at whether the program has ended
_AT_ONCE = 4096


class Driver(LinuxDriver):
    """Textual's driver with another loop for reading.

    Textual's looks only ten times a second whether an Esc was one or the beginning of a longer key, so that it takes
    a tenth of a second or two; it ends the program at a byte that is no UTF-8, and spins at the end of the input.
    """

    def run_input_thread(self) -> None:
        """Hand over what is typed until the program ends."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        ended = False
        while not ended:
            ended = self.exit_event.is_set()  # what has come until then is taken, or the shell would get it
            undecided = parser._timeout_time
            wait = _LOOK if undecided is None else max(0.0, undecided - get_time())
            ready, _, _ = select.select([self.fileno], [], [], wait)
            if ready:
                data = os.read(self.fileno, _AT_ONCE)
                if not data:
                    ended = ended or self.exit_event.wait(_LOOK)
                elif text := decode(data):  # to feed nothing would mean the end
                    for event in parser.feed(text):
                        self.process_message(event)
            for event in parser.tick():
                self.process_message(event)
