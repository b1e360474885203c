"""Where on the charts of a run something happened, told from its events; what was done again later is left out."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from math import isfinite, nan
from typing import NamedTuple

from minigpt.journal import Row, count_in, number_in, text_in

_MOST = 5000  # of each kind, of which the newest stay
_LONGEST_KIND = 40  # characters
_LATER = 2**62


class _Mark(NamedTuple):
    attempt: int
    step: int
    kind: str = ""
    value: float = 0.0


class Marks:
    """Takes in event by event; what it tells stands until an attempt goes back to before it."""

    def __init__(self) -> None:
        self.rollbacks: set[int] = set()
        """The attempts that began with going back to a checkpoint, when the training had diverged for example."""
        self.learning_rate_scale = 1.0
        """What the learning rate is multiplied by since."""
        self._notices: deque[_Mark] = deque(maxlen=_MOST)
        self._saved: deque[_Mark] = deque(maxlen=_MOST)
        self._changes: deque[_Mark] = deque(maxlen=_MOST)
        self._resumptions: dict[int, int] = {}
        """The attempts that went on from a checkpoint, with its step."""
        self._earliest: tuple[list[int], list[int]] = ([], [])
        """These attempts, ascending, and for each the earliest step that it or a later one went back to."""
        self._told: tuple[list[int], list[int], list[_Mark]] | None = None

    def take(self, event: Row) -> None:
        """Take in the next event."""
        attempt, step = _count(event, "attempt", 1), _count(event, "step", 0)
        match text_in(event, "event"):
            case "saved":
                self._saved.append(_Mark(attempt, step))
            case "notice":
                loss = number_in(event, "loss")
                kind = text_in(event, "kind")[:_LONGEST_KIND]
                self._notices.append(_Mark(attempt, step, kind, nan if loss is None else loss))
            case "started" | "recovered" as name:
                self._begin(event, name, attempt, step)
            case _:
                return
        self._told = None

    def _begin(self, event: Row, name: str, attempt: int, step: int) -> None:
        if name == "recovered":
            self.rollbacks.add(attempt)
        if event.get("resumed_from") is not None:
            self._resumptions[attempt] = step = _count(event, "resumed_from", 0)
            attempts, earliest = sorted(self._resumptions), list[int]()
            for each in reversed(attempts):
                earliest.append(min(self._resumptions[each], earliest[-1] if earliest else _LATER))
            self._earliest = attempts, earliest[::-1]
        given, changed = number_in(event, "learning_rate_scale"), event.get("changed")
        scale = given if given is not None and 0 < given < 1 else 1.0
        if scale != self.learning_rate_scale or (isinstance(changed, dict) and "train.learning_rate" in changed):
            self._changes.append(_Mark(attempt, step))
        self.learning_rate_scale = scale

    @property
    def saved(self) -> list[int]:
        """The steps of which a checkpoint was saved, whether or not it is still there; ascending."""
        return self._tell()[0]

    @property
    def rate_changes(self) -> list[int]:
        """The steps from which on the learning rate was another than the schedule's so far, ascending.

        It was lowered after a divergence, or changed by whoever resumed the run.
        """
        return self._tell()[1]

    @property
    def alerts(self) -> list[tuple[int, str]]:
        """Step and kind of each notice: "spike", "nonfinite", "overfitting", "disk", "memory" and so on."""
        return [(mark.step, mark.kind) for mark in self._tell()[2]]

    @property
    def spikes(self) -> list[tuple[int, float]]:
        """Step and value of each loss spike."""
        return [(mark.step, mark.value) for mark in self._tell()[2] if mark.kind == "spike" and isfinite(mark.value)]

    def _tell(self) -> tuple[list[int], list[int], list[_Mark]]:
        # Only when somebody asks: a long file of events is taken in without.
        if self._told is None:
            saved = {mark.step for mark in self._saved if self._stands(mark.attempt, mark.step)}
            # A rate that was changed stays so when the run goes back further: then it counts from there.
            changes = {min(mark.step, self._went_back_to(mark.attempt)) for mark in self._changes}
            notices = [mark for mark in self._notices if self._stands(mark.attempt, mark.step)]
            self._told = sorted(saved), sorted(changes), notices
        return self._told

    def _stands(self, attempt: int, step: int) -> bool:
        return step <= self._went_back_to(attempt)

    def _went_back_to(self, attempt: int) -> int:
        """The earliest step that an attempt after this one went back to."""
        attempts, earliest = self._earliest
        place = bisect_right(attempts, attempt)
        return earliest[place] if place < len(attempts) else _LATER

    def standing(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the rows, such as samples, that were not done again by a later attempt."""
        return [row for row in rows if self._stands(_count(row, "attempt", 1), _count(row, "step", 0))]


def _count(row: Row, key: str, otherwise: int) -> int:
    count = count_in(row, key)
    return otherwise if count is None else count
