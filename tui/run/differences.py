"""Where two texts differ, word by word."""

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+|[^\w\s]")
MOST = 500
"""Words of each text that are compared, after what they begin with alike: some hundredths of a second at worst."""

_COINCIDENCE = 3  # characters: one such word alone, or a comma, means nothing where all around it differs

Spans = list[tuple[int, int]]


def differences(one: str, other: str) -> tuple[Spans, Spans, bool]:
    """The stretches of each text that the other has not, as beginnings and ends, and whether all was compared.

    A stretch begins and ends with a word or a mark; between two texts that differ in white space alone there is none.
    """
    words = [list(_WORD.finditer(text)) for text in (one, other)]
    left, right = ([word.group() for word in each] for each in words)
    begin = _alike(left, right)
    end = _alike(left[begin:][::-1], right[begin:][::-1])
    stops = len(left) - end, len(right) - end
    whole = max(stops) - begin <= MOST
    left, right = (each[begin : min(stop, begin + MOST)] for each, stop in zip((left, right), stops, strict=True))
    matcher = SequenceMatcher(None, left, right)
    same = [block for block in matcher.get_matching_blocks() if block.size and not _is_coincidence(left, block)]
    return (
        _spans(words[0], begin, len(left), [(block.a, block.a + block.size) for block in same]),
        _spans(words[1], begin, len(right), [(block.b, block.b + block.size) for block in same]),
        whole,
    )


def _alike(one: list[str], other: list[str]) -> int:
    """With how many equal words both begin."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _is_coincidence(left: list[str], block: "tuple[int, int, int]") -> bool:
    first, _, size = block
    return size == 1 and len(left[first]) <= _COINCIDENCE


def _spans(words: "list[re.Match[str]]", begin: int, count: int, same: list[tuple[int, int]]) -> Spans:
    """From one word that differs to the last one before the next that does not."""
    spans, place = [], 0
    for first, after in [*same, (count, count)]:
        if place < first:
            spans.append((words[begin + place].start(), words[begin + first - 1].end()))
        place = after
    return spans
