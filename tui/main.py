"""`minigpt-tui`: the way in, before and after the screen."""

import gc
import os
import shlex
import signal
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from minigpt.session import TrainingSession
    from tui.app import MiniGPTApp
    from tui.settings import Settings

USAGE = """\
usage: minigpt-tui [FLAGS] [TARGET] [--section.key VALUE ...]
       minigpt-tui [FLAGS] --read-only [RUN]

Train a small GPT, watch it learn and talk to it, in one terminal.

TARGET is a preset's name, a TOML file, or the directory or the name of a run; without one the home screen opens.
Options overrule what the preset or file says, for example: minigpt-tui quickstart --train.max-steps 500

Flags, in any place:
  --read-only      look at runs and talk to them; nothing is started, steered or written
  --plain          lines instead of a screen, for screen readers and terminals that cannot draw one
  --ascii          charts of plain characters, for fonts without braille patterns
  --low-bandwidth  draw seldom, for slow connections
  --no-mouse       leave the mouse to the terminal

The settings file keeps the last four for good: docs/settings.md. NO_COLOR=1 takes the colours away, ACCESSIBLE=1 does
what --plain does.
Press ? in the program for its keys. Without a screen: minigpt train
"""

LAST_WORDS = 0.5  # seconds in which what was cancelled may still be kept with the run

_FLAGS = frozenset({"--read-only", "--plain", "--ascii", "--low-bandwidth", "--no-mouse"})


def main() -> None:
    """The `minigpt-tui` script."""
    from minigpt.cli import prepare_output, user_errors

    prepare_output()
    with user_errors("minigpt-tui") as code:
        code[0] = run(sys.argv[1:])
    leave(code[0])


def leave(code: int) -> NoReturn:
    """End the process. What must not be lost is waited for; what is still being computed is given up."""
    threads = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    deadline = monotonic() + LAST_WORDS
    for thread in threads:
        if not thread.daemon:
            thread.join()
        elif (cancel := getattr(thread, "cancel", None)) is not None:  # an answer, an evaluation
            cancel()
            thread.join(max(0.0, deadline - monotonic()))
    if any(thread.is_alive() for thread in threads):
        # Python would tear down what a thread within torch still works with: the process would crash.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


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

    flags = _FLAGS.intersection(arguments)
    arguments = [argument for argument in arguments if argument not in _FLAGS]
    read_only = "--read-only" in flags
    if arguments and arguments[0].startswith("-"):
        from minigpt.options import misplaced_option

        return _refuse(misplaced_option(arguments[0], "minigpt-tui TARGET", _FLAGS))
    target = arguments[0] if arguments else None
    if read_only and arguments:
        from tui.start import names_run

        if len(arguments) > 1 or not names_run(arguments[0]):
            return _refuse(f"--read-only: shows runs only; {inert_line(arguments[-1])} would start a training")
    settings = _settings(flags)
    from tui.terminal.abilities import can_draw, is_interactive, tell_textual_of_colors

    if settings.plain or (is_interactive() and not can_draw()):
        from tui.plain import run_plain

        return run_plain(target, arguments[1:], read_only=read_only)
    if not is_interactive():
        return _without_terminal(target, arguments)
    tell_textual_of_colors()
    return _with_terminal(target, arguments[1:], settings, read_only=read_only)


def _settings(flags: frozenset[str]) -> "Settings":
    """The user's settings, and over them what the command line says and the terminal cannot do otherwise."""
    from dataclasses import replace

    from tui.settings import load_settings
    from tui.terminal.abilities import draws_braille, is_read_aloud, keeps_escape_back

    settings = load_settings()
    return replace(
        settings,
        plain=settings.plain or "--plain" in flags or is_read_aloud(),
        ascii=settings.ascii or "--ascii" in flags or not draws_braille(),
        low_bandwidth=settings.low_bandwidth or "--low-bandwidth" in flags,
        mouse=settings.mouse and "--no-mouse" not in flags and not keeps_escape_back(),
    )


def _with_terminal(target: str | None, options: list[str], settings: "Settings", *, read_only: bool) -> int:
    # Until the first frame everything that is made stays: looking for garbage would take a tenth of the time to it.
    gc.disable()
    from dataclasses import replace

    # For so many milliseconds after an Esc it may still become a longer key; Textual would wait for twice as long. What
    # a terminal sends for one key comes in one piece, also over SSH.
    os.environ.setdefault("ESCDELAY", "50")

    from tui import garbage
    from tui.app import MiniGPTApp
    from tui.terminal.abilities import color_system
    from tui.terminal.connection import Terminal
    from tui.theme import theme_for

    theme = theme_for(settings.theme, color_system(), no_color="NO_COLOR" in os.environ)
    settings = replace(settings, theme=theme)

    app: MiniGPTApp | None = None

    def on_stop() -> None:
        if app is not None:
            app.request_stop()

    with Terminal(on_stop=on_stop) as terminal:
        app = MiniGPTApp(
            target,
            options,
            on_run=terminal.send_console_to,
            read_only=read_only,
            settings=settings,
            bytes_sent=lambda: terminal.sent,
        )
        terminal.run(app, mouse=settings.mouse, on_painted=garbage.hold_off)
        garbage.take_up()
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
    _say_unsaved_notes()
    if app.abandoned:
        os._exit(130)
    return _report(app, terminal.stop_signal, silent=terminal.dead)


def _say_unsaved_notes() -> None:
    """What could not be written into a run is not lost: it stands on the terminal."""
    from minigpt.inert import inert, inert_line
    from tui.run.notes import unsaved_notes

    for path, text, problem in unsaved_notes():
        reason = problem or "it was changed by somebody else"
        print(f"{inert_line(str(path))} was not written ({reason}); your notes:\n{inert(text)}", file=sys.__stderr__)


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
    if session.error is None and not session.run_directory.path.is_dir():
        return code  # it was deleted in the app since

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
        command = f"minigpt-tui --plain {shlex.quote(inert_line(target))}"
        return _refuse(
            f"needs a terminal to show a run, and here is none. `{command}` says in lines how it stands and follows it."
        )
    from minigpt.cli.train import train

    return train(arguments)  # whose messages begin with this program's name here


def _print_help() -> int:
    from minigpt.options import options_help

    print(USAGE)
    print(options_help(), end="")
    return 0


def _refuse(message: str) -> int:
    print(f"minigpt-tui: {message}", file=sys.stderr)
    return 2
