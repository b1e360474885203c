"""The program on terminals that are able to do less: fewer colours, none, no screen, no mouse."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from minigpt.rundir import RunDirectory
from tests.end_to_end.terminal import Program, script
from tests.recorded import recorded_run

MOUSE_MODES = re.compile(rb"\x1b\[\?10(?:00|02|03|05|06|15|16)h")
SET_COLORS = re.compile(rb"\x1b\[([\d;]+)m")


def kinds_of_colors(drawn: bytes) -> set[str]:
    """Which kinds of colours are set in what was drawn."""
    kinds = set()
    for match in SET_COLORS.finditer(drawn):
        codes = match.group(1).decode()
        for pattern, kind in ((r"[34]8;2;\d+;\d+;\d+", "truecolor"), (r"[34]8;5;\d+", "256")):
            codes, found = re.subn(rf"(?<!\d){pattern}", "", codes)
            if found:
                kinds.add(kind)
        if re.search(r"(?<!\d)(?:3|4|9|10)[0-7](?!\d)", codes):
            kinds.add("sixteen")
    return kinds


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """No settings but those of this test."""
    return {"MINIGPT_SETTINGS": str(tmp_path / "settings.toml")}


@pytest.fixture
def run(runs: Path) -> RunDirectory:
    return recorded_run(runs)


@pytest.mark.parametrize(
    ("variables", "used"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "tmux-256color", "COLORTERM": "", "NO_COLOR": ""}, "256"),
        ({"TERM": "alacritty", "COLORTERM": ""}, "256"),
        ({"TERM": "screen", "COLORTERM": ""}, "sixteen"),
        ({"TERM": "linux", "COLORTERM": ""}, "sixteen"),
    ],
)
def test_only_colours_that_the_terminal_has(variables: dict[str, str], used: str, settings: dict[str, str]) -> None:
    with Program(variables={**settings, **variables}) as program:
        program.wait_until("quickstart")
        program.wait_until("q quit")
        drawn = program.output
        program.press("q")
        assert program.wait() == 0
    assert kinds_of_colors(drawn) == {used}


def test_the_cursor_can_be_seen_with_sixteen_colours(settings: dict[str, str]) -> None:
    """The dark theme's colours all became black and grey there, and the chosen preset looked like the others."""
    with Program(variables={**settings, "TERM": "screen", "COLORTERM": ""}) as program:
        program.wait_until("q quit")
        place = program.find("quickstart")
        assert place is not None
        row, column = place
        chosen, other = (program.cells(at, column, at + 1, column + 4)[0] for at in (row, row + 1))
        assert chosen[0].bg != other[0].bg
        assert all(cell.fg != cell.bg for cell in [*chosen, *other])
        program.press("q")
        assert program.wait() == 0


def test_no_color_sends_no_colour_and_the_chosen_row_is_still_seen(settings: dict[str, str]) -> None:
    """Greys are colours too: on paper and with colours of one's own they are as wrong as any."""
    with Program(variables={**settings, "NO_COLOR": "1"}) as program:
        program.wait_until("q quit")
        place = program.find("quickstart")
        assert place is not None
        row, column = place
        chosen, other = (program.cells(at, column, at + 1, column + 4)[0] for at in (row, row + 1))
        assert all(cell.reverse for cell in chosen)
        assert not any(cell.reverse for cell in other)
        program.press("q")
        assert program.wait() == 0
        assert colors_in(program.output) == set()


def colors_in(output: bytes) -> set[int]:
    """The numbers in the codes for attributes that ask for a colour."""
    numbers = {int(number or 0) for codes in re.findall(rb"\x1b\[([\d;]*)m", output) for number in codes.split(b";")}
    return {number for number in numbers if 30 <= number <= 38 or 40 <= number <= 48 or 90 <= number <= 107}


@pytest.mark.parametrize("way", ["the flag", "the settings"])
def test_without_the_mouse_no_mouse_mode_is_set(way: str, settings: dict[str, str]) -> None:
    """The terminal's own selection works only as long as nobody asks for reports of the mouse."""
    if way == "the settings":
        Path(settings["MINIGPT_SETTINGS"]).write_text("mouse = false\n")
    with Program(*(["--no-mouse"] if way == "the flag" else []), variables=settings) as program:
        program.wait_until("q quit")
        program.press("q")
        assert program.wait() == 0
        assert not MOUSE_MODES.search(program.output)
    with Program(variables={"MINIGPT_SETTINGS": settings["MINIGPT_SETTINGS"] + ".none"}) as program:
        program.wait_until("q quit")
        assert MOUSE_MODES.search(program.output)


@pytest.mark.parametrize(
    ("arguments", "variables"), [(["--plain"], {}), ([], {"TERM": "dumb"}), ([], {"ACCESSIBLE": "1"})]
)
def test_lines_instead_of_a_screen(
    arguments: list[str], variables: dict[str, str], run: RunDirectory, settings: dict[str, str]
) -> None:
    variables = {**settings, **variables}
    for target, expected in ((run.name, "finished at step 2,000"), (None, "minigpt-tui --plain RUN")):
        with Program(*([target] if target else []), *arguments, variables=variables) as program:
            assert program.wait() == 0
            assert b"\x1b" not in program.output
            assert expected in program.output.decode()


def test_bad_settings_are_refused_before_the_screen(settings: dict[str, str]) -> None:
    Path(settings["MINIGPT_SETTINGS"]).write_text("mouze = true\n")
    with Program(variables=settings) as program:
        assert program.wait() == 2
        assert b"\x1b" not in program.output
        assert "mouze: unknown key; did you mean mouse?" in program.output.decode()


# ── in between ────────────────────────────────────────────────────────────────────────────────────────────────────


def is_drawn_whole(program: Program, run: RunDirectory) -> bool:
    """Whether nothing is missing at the edges: the first line names the run, the last one the keys."""
    lines = [line for line in program.text.splitlines() if line.strip()]
    return bool(lines) and run.name in lines[0] and "q quit" in lines[-1] and any("loss" in line for line in lines)


def test_a_distant_connection(run: RunDirectory, settings: dict[str, str]) -> None:
    """With 300 ms there and back keys are typed before the last one's answer is seen, and none may be lost or misread."""
    relay = Path(__file__).with_name("relay.py")
    with Program(relay, 0.15, script(), run.name, command=sys.executable, variables=settings) as program:
        program.wait_until(lambda: is_drawn_whole(program, run))
        program.press("?\x1b[B\x1b[A")
        program.wait_until("Esc closes")
        program.press("\x1b")
        program.wait_until(lambda: "Esc closes" not in program.text)
        program.resize(80, 24)
        program.wait_until(lambda: is_drawn_whole(program, run))
        program.resize(120, 36)
        program.wait_until(lambda: is_drawn_whole(program, run))
        program.press("q")
        assert program.wait() == 0


def look_around(program: Program, run: RunDirectory) -> None:
    """Other sizes, a window opened and closed, and the end."""
    program.wait_until(lambda: run.name in program.text and "q quit" in program.text)
    for columns, rows in ((80, 24), (120, 36)):
        program.resize(columns, rows)
        program.wait_until(lambda: run.name in program.text and "q quit" in program.text)
    program.press("?")
    program.wait_until("Esc closes")
    program.press("\x1b")
    program.wait_until(lambda: "Esc closes" not in program.text)
    program.press("q")
    assert program.wait() == 0


@pytest.mark.skipif(shutil.which("screen") is None, reason="no GNU screen")
def test_under_gnu_screen(run: RunDirectory, settings: dict[str, str]) -> None:
    """While the mouse was reported it kept Escape back until the next key: no window could be closed."""
    sockets = Path(tempfile.mkdtemp(prefix="screen-"))
    sockets.chmod(0o700)
    screen = str(shutil.which("screen"))
    variables = {**settings, "SCREENDIR": str(sockets), "COLORTERM": "", "TMUX": "", "STY": ""}
    try:
        with Program("-U", "-c", "/dev/null", script(), run.name, command=screen, variables=variables) as program:
            look_around(program, run)
    finally:
        subprocess.run([screen, "-X", "quit"], check=False, capture_output=True, env={**os.environ, **variables})
        shutil.rmtree(sockets)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")
@pytest.mark.parametrize("term", ["screen", "tmux-256color"])
def test_under_tmux(term: str, run: RunDirectory, settings: dict[str, str]) -> None:
    """It draws what it is sent into a screen of its own, with other ideas of colours and of clearing."""
    # A short path: that of a socket may have a hundred characters.
    socket = Path(tempfile.mkdtemp(prefix="tmux-")) / "s"
    tmux = [str(shutil.which("tmux")), "-S", str(socket)]
    command = shlex.join(["env", f"TERM={term}", "COLORTERM=", script(), run.name])
    variables = {**settings, "TMUX": ""}
    try:
        with Program(
            *tmux[1:], "-f", "/dev/null", "new-session", command, command=tmux[0], variables=variables
        ) as program:
            look_around(program, run)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
        shutil.rmtree(socket.parent)
