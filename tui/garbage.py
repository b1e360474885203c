"""When the memory is looked through for garbage: while nobody presses a key.

Python looks through all that there is whenever enough new objects have come. With torch and a dashboard that takes a
tenth of a second, in which no key is answered and no step trained, and keys are what makes it come: each frame leaves
new objects behind. Here the look at young objects stays as it is, and that at all of them waits for a quiet moment.
"""

import gc

QUIET = 2.0  # seconds without a key
INTERVAL = 60.0
"""Seconds between two looks at everything: each of them is one in which a key may have to wait."""
LATEST = 300.0
"""Seconds after which it comes even if keys are pressed all the time."""
SETTLED_AFTER = 10.0
"""Seconds from a training's begin to where torch has been imported and a dashboard stands."""
DUE = 10
"""After so many looks at younger objects Python would look at everything."""
_NEVER = 1 << 30


def hold_off() -> None:
    """Look at young objects only, until `take_up` is called; looks are enabled if they were not."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    gc.enable()


def take_up() -> None:
    """Leave it to Python again when to look at what."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, DUE)
    gc.enable()


class Garbage:
    """Looks at everything in quiet moments. Times are those of `time.monotonic`.

    Does nothing where looks have not been held off: in a test, or wherever else the app is not alone.
    """

    def __init__(self, now: float) -> None:
        self._key_at = float("-inf")
        self._looked_at = now
        self._keep = False

    def key_came(self, now: float) -> None:
        """Somebody is at the keys."""
        self._key_at = now

    def keep(self, now: float) -> None:
        """What there is SETTLED_AFTER from now stays for good, and no look after that needs to come by it."""
        self._keep = True
        self._looked_at = now + SETTLED_AFTER - INTERVAL

    def look(self, now: float) -> bool:
        """Look if it is time to, and quiet; whether it was done."""
        since = now - self._looked_at
        quiet = now - self._key_at >= QUIET
        if since < INTERVAL or not (quiet or since >= LATEST):
            return False
        if gc.get_threshold()[2] != _NEVER or gc.get_count()[2] < DUE:
            return False
        self._looked_at = now
        gc.collect()
        if self._keep:
            self._keep = False
            gc.freeze()
        return True
