"""What is said when a training has ended: how, where the run lies, how to go on, and what came of it."""

import shutil
from shlex import quote

from minigpt.inert import inert, inert_line
from minigpt.journal import count_in, journal_rows, text_in
from minigpt.metrics import Metrics, epoch_table
from minigpt.rundir import RunDirectory
from minigpt.session import TrainingSession


def closing_words(session: TrainingSession) -> list[str]:
    """What a person reads when a training of this process has ended: how, where the run lies, how to go on."""
    run = session.run_directory
    reason = inert_line(str(session.error) or type(session.error).__name__, 300)
    if run is None:
        return ["nothing was trained" if session.error is None else f"nothing was trained: {reason}"]
    shown = inert_line(str(run.path))
    if session.error is not None:
        kept = run.checkpoints()
        saved = f"the last checkpoint is that of step {kept[-1].step:,}" if kept else "no checkpoint had been saved"
        return [
            f"the training failed: {reason}",
            f"{saved}; details are in {shown}/console.log",
            *([f"go on with it:  minigpt train --resume {quote(shown)}"] if kept else []),
        ]
    if session.outcome == "detached":
        return detached_words(run, session.successor)
    if session.outcome == "stopped":
        return [f"stopped and saved: {shown}", f"go on with it:  minigpt train --resume {quote(shown)}"]
    return [f"finished{_why(run)}: {shown}", f'let it write:  minigpt generate {quote(shown)} --prompt "..."']


def detached_words(run: RunDirectory, pid: int | None = None) -> list[str]:
    """What a person reads who leaves a run that is being trained by another process, whose number is `pid`."""
    shown = inert_line(str(run.path))
    if not run.is_live():
        return [f"its process has ended since, the run is {run.state()}: {shown}"]
    process = "another process" if pid is None else f"process {pid}"
    return [
        f"the training goes on in {process}: {shown}",
        f"watch it:  minigpt-tui {quote(shown)}",
        "stop it:   x in minigpt-tui" + ("" if pid is None else f", or kill {pid}"),
    ]


def _why(run: RunDirectory) -> str:
    """Why a training ended before its last step, as it stands behind "finished"; nothing for one that did not."""
    reason = None
    for row in journal_rows(run.events_file):
        if row.get("event") == "finished":
            reason = row.get("reason")
    match reason:
        case "patience":
            return " early, since the validation loss got no better"
        case "time":
            return ", its time is over"
        case _:
            return ""


_MOST_EPOCHS = 20


def print_epochs(run: RunDirectory) -> None:
    """Print how the run stood at the end of each epoch: of many epochs, some spread over the run and the last."""
    table = epoch_table(Metrics(run.metrics_file).read_all())
    if not table:
        return
    shown = table
    if len(table) > _MOST_EPOCHS:
        shown = [table[round(index * (len(table) - 1) / (_MOST_EPOCHS - 1))] for index in range(_MOST_EPOCHS)]
    print(f"\n{'epoch':>6}{'train loss':>12}{'val loss':>12}{'train perplexity':>18}{'val perplexity':>16}")
    for row in shown:
        losses = f"{row.train_loss:>12.4f}{row.val_loss:>12.4f}"
        print(f"{row.epoch:>6,}{losses}{row.train_perplexity:>18,.3f}{row.val_perplexity:>16,.3f}")
    if len(shown) < len(table):
        print(f"{len(shown)} of {len(table):,} epochs; all are in {inert_line(str(run.epochs_file))}")


def print_curves(run: RunDirectory) -> None:
    """Draw both losses of a run on the terminal."""
    import numpy as np
    import plotext

    metrics = Metrics(run.metrics_file).read_all()
    plotext.clear_figure()
    plotext.theme("clear")  # no colours: the lines differ by their markers
    plotext.plot_size(min(100, shutil.get_terminal_size().columns), 16)
    plotext.title("loss")
    plotext.xlabel("step")
    drawn = False
    for name, marker in (("train_loss", "braille"), ("val_loss", "o")):
        steps, values = metrics.series(name)
        finite = np.isfinite(values)  # plotext raises on inf
        if finite.any():
            draw = plotext.plot if name == "train_loss" else plotext.scatter
            draw(steps[finite].tolist(), values[finite].tolist(), marker=marker, label=name)
            drawn = True
    if drawn:
        print(f"\n{plotext.build()}")


def print_sample(run: RunDirectory) -> None:
    """Print what the model wrote last."""
    row = None
    for row in journal_rows(run.samples_file):  # noqa: B007 - the last is wanted
        pass
    if row is not None:
        print(f"\nits last sample, at step {count_in(row, 'step')}:\n")
        print(inert(text_in(row, "prompt") + text_in(row, "text")))
