"""What the dashboard says of a run that is not being trained: how it ended, what is left of it, how to go on."""

from minigpt.errors import UserError
from minigpt.inert import inert
from minigpt.rundir import RunState
from tui.figures import duration
from tui.following import Following


def how_it_ended(following: Following, error: BaseException | None) -> str:
    """The words, printable; `error` is what ended a session of this process, if anything did."""
    what = str(error) if isinstance(error, UserError) else following.failure() or (repr(error) if error else "")
    saved = following.run.checkpoints()
    kept = f"The last checkpoint is that of step {saved[-1].step:,}." if saved else "No checkpoint was saved."
    match following.state:
        case RunState.FINISHED:
            return f"{_finished(following)} c talks to the model, Esc goes back."
        case RunState.STOPPED:
            return f"Stopped. {kept} r resumes, Esc goes back."
        case _:
            why = (what or "the process that trained it is gone").rstrip(".")
            log = "" if isinstance(error, UserError) else f" More in its {following.run.console_file.name}."
            return inert(f"Crashed: {why}.{log} {kept} r resumes, Esc goes back.")


def _finished(following: Following) -> str:
    best = following.metrics.best
    match following.ended_because:
        case "patience":
            patience = following.configured("train", "patience")
            times = f"{patience:,} evaluations" if isinstance(patience, int) and patience > 1 else "an evaluation"
            better = f"; the best is that of step {best[0]:,}" if best is not None else ""
            return f"Stopped early: no better validation loss for {times}{better}."
        case "time" if following.seconds_allowed:
            return f"Finished: its time, {duration(following.seconds_allowed)}, is over."
        case _:
            return "Finished."
