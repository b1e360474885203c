"""A prompt and what came of it as one text, under a line that says who has spoken; and how an evaluation came out."""

from collections.abc import Callable
from datetime import datetime

from textual.content import Content

from minigpt.inert import inert_line, inert_pane
from minigpt.journal import Row, count_in, number_in, text_in
from tui.asking.answering import Answer
from tui.asking.evaluating import Evaluating
from tui.charts.quantities import figure
from tui.figures import loss_figure, short_count

_MOST_OF_PROMPT = 2_000  # characters of a prompt that are shown, the last ones
_MOST_OF_OLD = 2_000  # and of each earlier answer, the first ones
_MOST_OF_EVALUATED, _MOST_LINES = 200, 4  # and of an evaluated text, so that its result is in view with it
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


def evaluated_text(job: Evaluating, *, ascii: bool = False) -> Content:
    """Which checkpoint was to predict a text, the text's beginning, and how that came out or how far it is."""
    row, text = job.result or {}, job.text or ""
    cut = "\n".join(text[:_MOST_OF_EVALUATED].split("\n")[:_MOST_LINES])
    step, altered = count_in(row, "step"), text_in(row, "altered")
    done = " · ".join(words for words in (f"step {step:,}" if step is not None else "", "evaluated", altered) if words)
    parts = [_heading(done if job.state == "done" else "evaluation"), _text(cut, "", ascii)]
    if rest := len(text) - len(cut):
        parts.append(Content.styled(f"… and {rest:,} characters more", _MUTED))
    match job.state:
        case "working":
            parts.append(Content.styled(f"\n{job.words} … Esc stops it.", _MUTED))
        case "failed":
            parts.append(Content.styled(f"\n✗ {inert_pane(job.error)}", "$text-error"))
        case "stopped":
            parts.append(Content.styled("\n(stopped)", _MUTED))
        case "done":
            parts.append(Content(f"\n{_figures(row)}"))
    return Content.assemble(*parts)


def result_text(row: Row) -> Content:
    """What was evaluated, and how it came out, from a result as it is written. Anything may stand in a file."""
    corpus = inert_line(text_in(row, "corpus"), 80)
    what = {"val": "validation split of ", "train": "training split of "}.get(text_in(row, "split"), "")
    altered = inert_line(text_in(row, "altered"), 60)
    return Content.assemble(
        (f"step {_number(row, 'step', _count)}", "bold $primary"),
        (f"  {what}{corpus}\n", "bold"),
        f"{altered}\n" if altered else "",
        _figures(row),
    )


def _figures(row: Row) -> str:
    return (
        f"loss {_number(row, 'nll', figure)} · perplexity {_number(row, 'perplexity', figure)} · "
        f"accuracy {_number(row, 'accuracy', '{:.1%}'.format)}\n"
        f"{_number(row, 'bits_per_character', figure)} bits per character · "
        f"{_number(row, 'bits_per_byte', figure)} per byte · {_number(row, 'tokens', _count)} tokens"
    )


def _number(row: Row, name: str, form: Callable[[float], str]) -> str:
    value = number_in(row, name)
    return form(value) if value is not None and abs(value) < 1e15 else "–"


def _count(value: float) -> str:
    return f"{value:,.0f}"


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
    voices: list[tuple[str, list[int]]] = []
    one: Answer | None = answer
    while one is not None:
        if one.described is not None:
            if not voices or voices[0][0] != one.described.named:
                voices.insert(0, (one.described.named, []))
            voices[0][1].insert(0, one.sampling.seed)
        one = one.before
    altered = {"refuse": "", "replace": "unknown characters replaced", "drop": "unknown characters left out"}
    said = [
        ", then ".join(f"{named} · {_seeds(seeds)}" for named, seeds in voices),
        speed_of(answer),
        altered[answer.unknown],
    ]
    return " · ".join(words for words in said if words)


def _seeds(seeds: list[int]) -> str:
    each = list(dict.fromkeys(seeds))
    if len(each) > 2 and each == list(range(each[0], each[0] + len(each))):
        each_in_words = f"{each[0]} to {each[-1]}"
    else:
        each_in_words = ", ".join(map(str, each))
    return f"seed{'s' if len(each) > 1 else ''} {each_in_words}{', continued' if len(seeds) > len(each) else ''}"


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
