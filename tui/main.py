"""`minigpt-tui`: the way in, before and after the screen."""

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigpt.session import TrainingSession
    from tui.app import MiniGPTApp

USAGE = """\
usage: minigpt-tui [TARGET] [--section.key VALUE ...]
       minigpt-tui --read-only [RUN]

Train a small GPT, watch it learn and talk to it, in one terminal.

TARGET is a preset's name, a TOML file, or the directory or the name of a run; without one the home screen opens.
Options overrule what the preset or file says, for example: minigpt-tui quickstart --train.max-steps 500
With --read-only runs are looked at and talked to, and nothing is started, steered or written.
Press ? in the program for its keys. Without a screen: minigpt train
"""


def main() -> None:
    """The `minigpt-tui` script."""
    from minigpt.cli import prepare_output, user_errors

    prepare_output()
    with user_errors("minigpt-tui") as code:
        code[0] = run(sys.argv[1:])
    raise SystemExit(code[0])


def run(arguments: list[str]) -> int:
    """Run the program and return its exit code: 0, 2 for what the user can mend, 1 for a crash."""
    if "-h" in arguments or "--help" in arguments:
        return _print_help()
    if arguments == ["--version"]:
        from minigpt import __version__

        print(f"minigpt-tui {__version__}")
        return 0
    from minigpt.cli import require_platform

    require_platform()
    from minigpt.inert import inert_line

    read_only = "--read-only" in arguments
    arguments = [argument for argument in arguments if argument != "--read-only"]
    if arguments and arguments[0].startswith("-"):
        shown = inert_line(arguments[0])
        return _refuse(f"{shown}: the preset or TOML file comes first: minigpt-tui TARGET {shown} ...")
    target = arguments[0] if arguments else None
    if read_only and arguments:
        from tui.start import names_run

        if len(arguments) > 1 or not names_run(arguments[0]):
            return _refuse(f"--read-only: shows runs only; {inert_line(arguments[-1])} would start a training")
    from tui.terminal import is_interactive

    if not is_interactive():
        return _without_terminal(target, arguments)
    return _with_terminal(target, arguments[1:], read_only=read_only)


def _with_terminal(target: str | None, options: list[str], *, read_only: bool) -> int:
    from tui.app import MiniGPTApp
    from tui.terminal import Terminal

    app: MiniGPTApp | None = None

    def on_stop() -> None:
        if app is not None:
            app.request_stop()

    with Terminal(on_stop=on_stop) as terminal:
        app = MiniGPTApp(target, options, on_run=terminal.send_console_to, read_only=read_only)
        terminal.run(app)
        session = app.session
        if session is not None and session.is_alive() and not app.abandoned:
            # Ended by a signal, by a fault of the screen or with the terminal: training does not end with its screen.
            said = ""
            while session.is_alive():
                words = _why_it_waits(session, terminal.stop_signal)
                if words != said:
                    said = words
                    print(words, file=sys.__stderr__, flush=True)
                session.join(0.5)  # in pieces, between which the main thread can take signals
    if app.abandoned:
        os._exit(130)
    return _report(app, terminal.stop_signal, silent=terminal.dead)


def _why_it_waits(session: "TrainingSession", stop_signal: int | None) -> str:
    if session.stop_requested:
        if stop_signal is None:  # asked on the screen: a signal would be the first
            return "saving the run ..."
        return f"saving the run ... (Ctrl+C{' again' if stop_signal == signal.SIGINT else ''} ends at once)"
    if session.detach_requested:
        return "handing the run over to a process of its own ... (Ctrl+C saves and ends it)"
    if session.detach_failure:
        return f"not handed over: {session.detach_failure}. The training goes on here; Ctrl+C saves and ends it"
    return "the screen has ended, the training goes on; Ctrl+C saves and ends it"


def _report(app: "MiniGPTApp", stop_signal: int | None, *, silent: bool) -> int:
    code = app.return_code or 0
    session = app.session
    if stop_signal is not None and (session is None or (session.error is None and session.outcome != "finished")):
        code = 128 + stop_signal  # as without a screen
    if app.failure is not None:
        return 2 if silent else _refuse(str(app.failure))
    from minigpt.epilogue import closing_words, detached_words

    if app.left_live is not None:
        print("\n".join(detached_words(app.left_live)))
        return code
    if session is None or session.run_directory is None:
        return code

    if not silent:
        for line in closing_words(session):
            print(line, file=sys.stderr if session.error else sys.stdout)
    return code or (0 if session.error is None else 1)


def _without_terminal(target: str | None, arguments: list[str]) -> int:
    from minigpt.inert import inert_line
    from tui.start import names_run

    if target is None:
        return _refuse(
            "needs a terminal to draw on, and here is none. To train without a screen, name a preset: "
            "minigpt train quickstart"
        )
    if names_run(target):
        return _refuse(
            f"needs a terminal to show a run, and here is none. `minigpt runs` lists the runs, "
            f"`minigpt generate {inert_line(target)} --prompt TEXT` lets one write."
        )
    from minigpt.cli import main as minigpt

    return minigpt(["train", *arguments])


def _print_help() -> int:
    from minigpt.options import options_help

    print(USAGE)
    print(options_help(), end="")
    return 0


def _refuse(message: str) -> int:
    print(f"minigpt-tui: {message}", file=sys.stderr)
    return 2
