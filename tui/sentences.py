"""A training and what happens in it, in sentences: to be read aloud, with the few figures that matter."""

from minigpt.display import changed_settings
from minigpt.inert import inert_line
from minigpt.journal import JournalTail, Row, count_in, number_in, text_in
from minigpt.session import TrainingSession
from tui.figures import loss_figure, short_count

LONGEST_LINE = 400  # characters


class Sentences:
    """A display for `run_headless`: a sentence for each evaluation, sample and event, nothing for the rows between."""

    def __init__(self, session: TrainingSession) -> None:
        self._session = session
        self._samples: JournalTail | None = None
        self._steps: int | None = None

    def phase(self, words: str) -> None:
        """What is being done before the training begins."""
        _say(inert_line(words, LONGEST_LINE))

    def row(self, row: Row) -> None:
        """An evaluation; other rows are not told."""
        loss, step = number_in(row, "val_loss"), count_in(row, "step")
        if loss is not None and step is not None:
            train, perplexity = number_in(row, "train_eval_loss"), number_in(row, "val_perplexity")
            _say(evaluation_words(step, self._steps, loss, train, perplexity))

    def event(self, event: Row) -> None:
        """What has happened; of a sample its text."""
        if text_in(event, "event") == "started":
            self._steps = count_in(event, "max_steps")
            for line in (description_words(event), changed_settings(event)):
                if line:
                    _say(line)
        if text_in(event, "event") == "sampled":
            for sample in self._new_samples():
                _say(sample_words(sample))
        elif (words := event_words(event)) is not None:
            _say(words)

    def trouble(self, words: str) -> None:
        """What cannot be written from now on; empty when all can be written again."""
        _say(inert_line(words, LONGEST_LINE) or "All of the run can be written again.")

    def refresh(self) -> None:
        """Nothing moves by itself."""

    def close(self) -> None:
        """Nothing was held open."""

    def _new_samples(self) -> list[Row]:
        run = self._session.run_directory
        if run is None:
            return []
        if self._samples is None:
            self._samples = JournalTail(run.samples_file)
            return self._samples.poll()[-1:]  # those before it are an earlier attempt's
        return self._samples.poll()


def description_words(started: Row) -> str:
    """What is trained on what, from a `started` event; empty if that does not tell."""
    facts = [
        f"corpus {inert_line(corpus)}" if (corpus := text_in(started, "corpus")) else "",
        f"{short_count(parameters)} parameters" if (parameters := count_in(started, "parameters")) else "",
        inert_line(text_in(started, "device")),
        inert_line(text_in(started, "precision")),
    ]
    return ", ".join(fact for fact in facts if fact)


def evaluation_words(
    step: int, steps: int | None, val_loss: float, train_loss: float | None, perplexity: float | None
) -> str:
    """An evaluation in a sentence; `steps` is how long the training is, if that is known."""
    of = f" of {steps:,}" if steps else ""
    rest = "" if train_loss is None else f", train loss {loss_figure(train_loss)}"
    rest += "" if perplexity is None else f", perplexity {perplexity:.5g}"
    return f"step {step:,}{of}: val loss {loss_figure(val_loss)}{rest}"


def sample_words(row: Row) -> str:
    """A sample in one line."""
    text = " / ".join(line.strip() for line in text_in(row, "text").splitlines() if line.strip())
    step = count_in(row, "step")
    return f"sample{'' if step is None else f' at step {step:,}'}: {inert_line(text, LONGEST_LINE)}"


def event_words(event: Row) -> str | None:
    """An event in a sentence; None for those of which there is nothing to say."""
    step = count_in(event, "step")
    at = "" if step is None else f" at step {step:,}"
    match text_in(event, "event"):
        case "notice" | "recovered" | "crashed" | "went_on":
            return f"note{at}: {inert_line(text_in(event, 'message'), LONGEST_LINE)}"
        case "started":
            return f"training begins{at}"
        case "paused" | "continued" as what:
            return f"{what}{at}"
        case _:
            return None


def _say(line: str) -> None:
    print(line, flush=True)
