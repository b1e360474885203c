"""What is said when a training has ended: how, where the run lies, how to go on, and what came of it."""

import shutil

from minigpt.inert import inert, inert_line
from minigpt.journal import read_journal
from minigpt.metrics import Metrics
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
            *([f"go on with it:  minigpt train --resume {shown}"] if kept else []),
        ]
    if session.outcome == "stopped":
        return [f"stopped and saved: {shown}", f"go on with it:  minigpt train --resume {shown}"]
    return [f"finished: {shown}", f'let it write:  minigpt generate {shown} --prompt "..."']


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
    samples = read_journal(run.samples_file)
    if samples:
        row = samples[-1]
        print(f"\nits last sample, at step {row.get('step')}:\n")
        print(inert(str(row.get("prompt", "")) + str(row.get("text", ""))))
