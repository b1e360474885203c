"""What the dashboard says of a run that is not being trained, how it ended and how to go on; and of one in trouble."""

import os
import shutil
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.files import open_regular
from minigpt.inert import inert_line, inert_pane
from minigpt.journal import count_in, number_in
from minigpt.rundir import RunDirectory, RunState
from tui.figures import duration
from tui.run.following import Following

if TYPE_CHECKING:
    from minigpt.session import TrainingSession

_LAST_LINES = 3
_TAIL = 8192  # bytes of console.log that are looked at
_LITTLE_SPACE = 16 << 20  # bytes


def how_it_ended(following: Following, error: BaseException | None, *, read_only: bool = False) -> str:
    """The words, printable; `error` is what ended a session of this process, if anything did."""
    run = following.run
    saved = run.checkpoints()
    kept = f"The last checkpoint is that of step {saved[-1].step:,}." if saved else "No checkpoint was saved."
    resumes = "" if read_only else f"r resumes{'' if saved else ' from the beginning'}, R with other settings, "
    if not run.path.is_dir():
        what = f"{_reason(error, '')}. " if error is not None else ""
        return (
            f"{what}The directory of this run has vanished, with all that was saved: {inert_line(str(run.path))}. "
            "Should a process be training it still, it puts it back with its next checkpoint. Esc goes back."
        )
    match following.state:
        case RunState.FINISHED:
            longer = "" if read_only else "r resumes it with more steps, "
            return f"{_finished(following)} c talks to the model, {longer}Esc goes back."
        case RunState.STOPPED:
            return f"Stopped. {kept} {resumes}Esc goes back."
        case _:
            why = _reason(error, following.failure()) or lost_trainer(following)
            lines = [] if isinstance(error, UserError) else last_words(run, number_in(following.started, "time"))
            name = run.console_file.name
            log = [f"{name if line is lines[0] else '':{len(name)}} │ {line}" for line in lines]
            return "\n".join([f"Crashed: {inert_pane(why).rstrip('.')}. {kept} {resumes}Esc goes back.", *log])


def lost_trainer(following: Following) -> str:
    """Why a run is not trained any more whose files do not tell it."""
    if count_in(following.started, "pid") == os.getpid():
        return "its training has ended in this process, without a word why"
    return "the process that trained it is gone"


def _reason(error: BaseException | None, failure: str) -> str:
    if isinstance(error, UserError) or (failure and error is None):
        return inert_pane(str(error or failure)).rstrip(".")
    if error is None:
        return ""
    text = failure or str(error)
    return inert_pane(f"{type(error).__name__}: {text}" if text and text != type(error).__name__ else repr(error))


def last_words(run: RunDirectory, since: float | None) -> list[str]:
    """The last lines of a run's console.log, printable; none if nothing was printed after the time `since`."""
    try:
        with open_regular(run.console_file) as file:
            status = os.fstat(file.fileno())
            if since is not None and status.st_mtime < since:
                return []  # what an earlier attempt left
            file.seek(max(0, status.st_size - _TAIL))
            text = file.read(_TAIL).decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [inert_line(line) for line in lines[-_LAST_LINES:]]


def trouble_of(run: RunDirectory, session: "TrainingSession | None") -> str:
    """What keeps a run that is being trained from being written, empty if nothing does.

    `session` is what trains it in this process, and knows it; of another process's run only the disk can be asked.
    """
    if session is not None and session.trouble:
        return session.trouble
    if not run.path.is_dir():
        return f"{inert_line(str(run.path))} has vanished. The training goes on; its next checkpoint puts it back."
    try:
        free = shutil.disk_usage(run.path).free
    except OSError:
        return ""
    if session is not None or free >= _LITTLE_SPACE:
        return ""
    return f"The disk is full: {free >> 20} MiB are left where the run lies. The training goes on as long as it can."


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
