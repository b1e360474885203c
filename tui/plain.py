"""The program in lines: for screen readers, for terminals that cannot draw a screen, for logs.

Nothing is drawn over: what has been printed stays as it is, and each thing that happens is one line.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from shlex import quote

from minigpt.inert import inert_line
from minigpt.journal import count_in, number_in
from minigpt.rundir import RunDirectory, RunState
from tui.figures import duration, loss_figure, short_count
from tui.run.following import Following
from tui.run.time_left import seconds_left
from tui.sentences import LONGEST_LINE, description_words, evaluation_words, event_words, sample_words

_LOOK_INTERVAL = 1.0  # seconds between two looks at the run's files
_MOST_LISTED = 30


def run_plain(target: str | None, options: Sequence[str], *, read_only: bool = False) -> int:
    """Do in lines what the screen does with the same target and options, and return the exit code.

    Raises UserError as the command line's other commands do.
    """
    from tui.start import names_run

    if target is None:
        return _list_all(read_only=read_only)
    if names_run(target):
        if not options:
            return follow(RunDirectory.open(target))
        return _train(["--resume", target, *options])
    return _train([target, *options])


def _train(arguments: list[str]) -> int:
    from minigpt.cli.train import session_of
    from minigpt.headless import run_headless
    from tui.sentences import Sentences

    session = session_of(arguments)
    return run_headless(session, Sentences(session))


# ── the lists ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _list_all(*, read_only: bool) -> int:
    from minigpt.paths import runs_dir
    from minigpt.presets import list_presets
    from minigpt.run_list import RunList, age, now

    runs = RunList().read()
    shown = inert_line(str(runs_dir()))
    print(f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'} in {shown}{':' if runs else '.'}")
    for summary in runs[:_MOST_LISTED]:
        facts = [str(summary.state), "no step yet" if summary.step is None else f"step {summary.step:,}"]
        if summary.best is not None:
            facts.append(f"best val loss {loss_figure(summary.best[1])} at step {summary.best[0]:,}")
        written = age(now() - summary.written)
        facts.append("written now" if written == "now" else f"written {written} ago")
        print(f"  {inert_line(summary.run.name)}: {', '.join(facts)}")
    if len(runs) > _MOST_LISTED:
        print(f"  and {len(runs) - _MOST_LISTED:,} older ones: minigpt runs")
    if not read_only:
        print("Presets:")
        for preset in list_presets():
            print(f"  {inert_line(preset.name)}: {inert_line(preset.about)}")
    print("Commands:")
    starting = [
        ("train a preset, in lines", "minigpt-tui --plain PRESET"),
        ("go on with a run", "minigpt train --resume RUN"),
    ]
    looking = [
        ("say how a run stands, and follow it", "minigpt-tui --plain RUN"),
        ("let a run's model write", "minigpt generate RUN --prompt TEXT"),
        ("everything else", "minigpt --help"),
    ]
    for what, command in looking if read_only else starting + looking:
        print(f"  {what}: {command}")
    return 0


# ── one run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def follow(run: RunDirectory, wait: Callable[[float], object] = time.sleep) -> int:
    """Say what a run is, and while somebody trains it, what happens to it, until it ends or Ctrl+C is pressed."""
    following = Following(run)
    while following.behind:
        following.poll()
    for line in _description(following):
        _say(line)
    reached = _last_evaluated(following)
    told_samples = len(following.samples)
    if following.is_live:
        _say("Follows it; Ctrl+C leaves, the training goes on.")
    try:
        while following.is_live:
            wait(_LOOK_INTERVAL)
            _, events = following.poll()
            told_samples = min(told_samples, len(following.samples))  # a run that went back took some along
            for event in events:
                if (words := event_words(event)) is not None:
                    _say(words)
                if (resumed_from := count_in(event, "resumed_from")) is not None:
                    reached = min(reached, resumed_from)
            for step, line in _evaluations(following, reached):
                reached = step
                _say(line)
            for sample in following.samples[told_samples:]:
                _say(sample_words(sample))
            told_samples = len(following.samples)
    except KeyboardInterrupt:
        from minigpt.epilogue import detached_words

        print()  # behind the ^C that the terminal shows
        for line in detached_words(run):
            _say(line)
        return 0
    for line in _ending(following):
        _say(line)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _description(following: Following) -> Iterator[str]:
    run = following.run
    state = "starting" if following.starting else str(following.state)
    yield f"{inert_line(run.name)}: {state}, in {inert_line(str(run.path))}"
    if facts := description_words(following.started):
        yield facts
    yield _progress(following)
    if (best := following.metrics.best) is not None:
        yield f"best val loss {loss_figure(best[1])} at step {best[0]:,}"
    for _, line in list(_evaluations(following, -1))[-1:]:
        yield f"last evaluation: {line}"
    if following.samples:
        yield sample_words(following.samples[-1])


def _progress(following: Following) -> str:
    parts = [f"step {following.step:,}" + (f" of {following.max_steps:,}" if following.max_steps else "")]
    if following.share is not None:
        parts.append(f"{100 * following.share:.0f}%")
    if following.is_live:
        if rate := following.latest("tokens_per_second"):
            parts.append(f"{short_count(rate)} tokens per second")
        if (left := seconds_left(following)) is not None:
            parts.append(f"about {duration(left)} left")
    return ", ".join(parts)


def _last_evaluated(following: Following) -> int:
    steps, _ = following.series("val_loss")
    return int(steps[-1]) if steps.size else -1


def _evaluations(following: Following, after: int) -> Iterator[tuple[int, str]]:
    steps, losses = following.series("val_loss")
    train = dict(zip(*(values.tolist() for values in following.series("train_eval_loss")), strict=True))
    perplexity = dict(zip(*(values.tolist() for values in following.series("val_perplexity")), strict=True))
    for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
        if step > after:
            yield step, evaluation_words(step, following.max_steps, loss, train.get(step), perplexity.get(step))


def _ending(following: Following) -> Iterator[str]:
    shown = inert_line(str(following.run.path))
    if following.state is RunState.CRASHED:
        why = inert_line(following.failure(), LONGEST_LINE) or "the process that trained it is gone"
        yield f"crashed at step {following.step:,}: {why}"
    else:
        seconds = number_in({"": following.latest("elapsed")}, "")
        trained = "" if seconds is None else f" after {duration(seconds)} of training"
        yield f"{following.state} at step {following.step:,}{trained}"
    if following.state is not RunState.FINISHED:
        yield f"go on with it: minigpt train --resume {quote(shown)}"
    yield f'let it write: minigpt generate {quote(shown)} --prompt "..."'
