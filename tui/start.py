"""What stands before a run can be shown or trained: reading options and configuration, in a thread of its own.

Here, and so after the first frame, pydantic and tyro are imported.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.paths import expand_home, runs_dir
from minigpt.presets import list_presets
from minigpt.rundir import RunDirectory

if TYPE_CHECKING:
    from minigpt.session import TrainingSession

Result = Union["TrainingSession", RunDirectory, UserError]


class Start:
    """One thing to be started: `begin` works it out in a thread and hands over a session, a run or what is wrong."""

    def __init__(self, work: Callable[[], "TrainingSession | RunDirectory"], name: str = "") -> None:
        self.name = name
        """The run's, where there is one already."""
        self._work = work

    @classmethod
    def new(cls, target: str, overrides: dict[str, str]) -> "Start":
        """A new run from a preset or TOML file."""
        return cls(lambda: _new_session(target, overrides))

    @classmethod
    def resumed(cls, run: RunDirectory, changes: Mapping[str, str]) -> "Start":
        """An existing run, to be gone on with, with these settings changed."""
        return cls(lambda: _resumed_session(run, changes), run.name)

    @classmethod
    def from_command_line(cls, target: str, options: Sequence[str]) -> "Start":
        """What the command line names: a preset, a TOML file, a run; with options the run is gone on with."""
        return cls(lambda: _from_command_line(target, list(options)))

    def begin(self, done: Callable[[Result], object]) -> None:
        """Work in a thread; `done` is called there with the result."""
        # A daemon: quitting must not wait for imports.
        threading.Thread(target=self._run, args=(done,), name="start", daemon=True).start()

    def _run(self, done: Callable[[Result], object]) -> None:
        try:
            done(self._work())
        except UserError as error:
            done(error)
        except Exception as error:  # noqa: BLE001 - it belongs into a message; a thread would end without a word
            done(UserError(f"{type(error).__name__}: {inert_line(str(error))}"))


def names_run(target: str) -> bool:
    """Whether a target of the command line means a run, rather than a configuration."""
    if target.endswith(".toml") or any(preset.name == target for preset in list_presets()):
        return False
    try:
        return expand_home(target).is_dir() or (runs_dir() / target).is_dir()
    except (OSError, ValueError):  # no path at all: what it is then refused as says more
        return False


def _from_command_line(target: str, options: list[str]) -> "TrainingSession | RunDirectory":
    if not options:
        return RunDirectory.open(target) if names_run(target) else _new_session(target, {})
    from minigpt.options import parse_overrides

    if names_run(target):
        return _resumed_session(RunDirectory.open(target), parse_overrides(options))
    return _new_session(target, parse_overrides(options))


def _new_session(target: str, overrides: dict[str, str]) -> "TrainingSession":
    from minigpt.configfile import load_config
    from minigpt.session import TrainingSession

    config = load_config(target, overrides)
    _load_dashboard()
    return TrainingSession(config=config, preset=Path(target).stem)


def _resumed_session(run: RunDirectory, changes: Mapping[str, str]) -> "TrainingSession":
    from minigpt.session import TrainingSession

    _load_dashboard()
    return TrainingSession(resume=run, changes=changes)


def _load_dashboard() -> None:
    # Its charts' modules take a while to import: here they don't hold up the screen.
    import tui.screens.dashboard  # noqa: F401
