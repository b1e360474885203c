"""A prompt and what came of it as one text, under a line that says who has spoken."""

from datetime import datetime

from textual.content import Content

from minigpt.inert import inert_line, inert_pane
from minigpt.journal import Row, count_in, number_in, text_in
from tui.asking.answering import Answer
from tui.figures import loss_figure, short_count

_MOST_OF_PROMPT = 2_000  # characters of a prompt that are shown, the last ones
_MOST_OF_OLD = 2_000  # and of each earlier answer, the first ones
_MUTED = "$foreground 60%"


def exchange_text(answer: Answer, *, ascii: bool = False) -> Content:
    """Who answers, the prompt and the text that goes on from it, and how it ended if not by its length."""
    parts = [_heading(speaker_of(answer)), _text(answer.prompt, answer.text, ascii)]
    match answer.state:
        case "failed":
            parts.append(Content.styled(f"\n✗ {inert_pane(answer.error)}", "$text-error"))
        case "stopped":
            parts.append(Content.styled("\n(stopped)", _MUTED))
    return Content.assemble(*parts)


def earlier_text(rows: list[Row], *, ascii: bool = False) -> Content:
    """Answers of earlier conversations, from their transcripts. Anything may stand in a file."""
    parts: list[Content] = [Content.styled("earlier conversations", "bold $primary")]
    for row in rows:
        step, loss, seed = count_in(row, "step"), number_in(row, "val_loss"), count_in(row, "seed")
        said = [
            _when(number_in(row, "time")),
            "" if step is None else f"step {step:,}",
            "" if loss is None else f"val {loss_figure(loss)}",
            "" if seed is None else f"seed {seed}",
        ]
        text = text_in(row, "text")
        cut = text[:_MOST_OF_OLD] + ("…" if len(text) > _MOST_OF_OLD else "")
        heading = inert_line(" · ".join(words for words in said if words))
        parts += [Content("\n"), _heading(heading), _text(text_in(row, "prompt"), cut, ascii), Content("\n")]
    parts.append(Content.styled("─── this conversation ───", _MUTED))
    return Content.assemble(*parts)


def speaker_of(answer: Answer) -> str:
    """Who answers or has answered: checkpoint, seed and tokens per second, of a continued text one after the other."""
    if answer.described is None:
        waiting = {"waiting": "waits for its turn", "loading": "opening the checkpoint …"}
        return waiting.get(answer.state, "")
    voices: list[str] = []
    one: Answer | None = answer
    while one is not None:
        if one.described is not None:
            voice = f"{one.described.named} · seed {one.sampling.seed}"
            if not voices or voices[0] != voice:
                voices.insert(0, voice)
        one = one.before
    altered = {"refuse": "", "replace": "unknown characters replaced", "drop": "unknown characters left out"}
    said = [
        ", then ".join(voices),
        "continued" if answer.before is not None and len(voices) == 1 else "",
        speed_of(answer),
        altered[answer.unknown],
    ]
    return " · ".join(words for words in said if words)


def speed_of(answer: Answer) -> str:
    """How fast an answer is or was written; empty before its first token."""
    rate = answer.tokens_per_second
    return "" if rate is None else f"{short_count(rate)} tok/s"


def _heading(words: str) -> Content:
    return Content.styled(f"{words}\n", _MUTED) if words else Content("")


def _text(prompt: str, text: str, ascii: bool) -> Content:
    """The prompt, and behind a sign that needs no colour what the model has written."""
    shown = prompt if len(prompt) <= _MOST_OF_PROMPT else f"…{prompt[-_MOST_OF_PROMPT:]}"
    written = text.lstrip("\n")
    gap = text[: len(text) - len(written)]
    if not prompt.strip():  # empty lines alone would look like a fault
        shown, gap = inert_line(shown), "\n"
    parts: list[str | tuple[str, str]] = [("› ", "$primary"), (inert_pane(shown), "bold $primary")]
    if written:
        parts += [gap, ("|" if ascii else "▏", "bold $accent"), inert_pane(written)]
    return Content.assemble(*parts)


def _when(time: float | None) -> str:
    try:
        return "" if time is None else f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return ""
