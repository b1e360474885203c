"""The charts in a terminal: what keys and mouse do there is seen on their axes, at their cursor and in the samples."""

import re
from pathlib import Path

import pytest

from minigpt.rundir import RunDirectory
from tests.end_to_end.terminal import ESCAPE, Program
from tests.recorded import losses_at, recorded_run

LEFT, RIGHT, FAR_LEFT = "\x1b[D", "\x1b[C", "\x1b[1;5D"
HELD, WHEEL_UP, WHEEL_DOWN = 32, 64, 65
EARLY, LATE = "The tome is the wot", "The tide is out"  # samples of before step 1,000, and from there on


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path)


def loss_chart(program: Program) -> list[str]:
    """The chart of the loss, from its title to the labels under it; without what stands beside it."""
    top, bottom = program.find("─ loss"), program.find("─ perplexity")
    if top is None or bottom is None:
        return []
    beside = program.find("─ memory ─")
    return [line[: beside[1] if beside else None] for line in program.lines[top[0] : bottom[0]]]


def axis(program: Program) -> str:
    """The labels of its x axis, without the blanks between them."""
    return " ".join("".join(loss_chart(program)[-1:]).split())


def ends(program: Program) -> tuple[int, int]:
    """The first and the last label of an axis of steps; 0 and 0 while there is none."""
    labels = [int(label.replace(",", "")) for label in re.findall(r" ([\d,]+)", axis(program))]
    return (labels[0], labels[-1]) if axis(program).startswith("step ") and labels else (0, 0)


def cursor(program: Program) -> int | None:
    """The step of the readout under the charts; None without a cursor."""
    found = re.search(r"step ([\d,]+) · epoch", program.text)
    return int(found[1].replace(",", "")) if found else None


def resumed_at(program: Program) -> int:
    """The column of the line at step 1,000, where the run was resumed."""
    return next((line.index("┊") for line in loss_chart(program) if "┊" in line), -1)


def into_the_charts(program: Program) -> None:
    """Wait for them, and put the cursor on the newest value."""
    program.wait_until(lambda: ends(program) == (0, 2000))
    program.press("1")
    program.press(LEFT)
    program.wait_until(lambda: cursor(program) == 2000)


def go_left(program: Program, below: int) -> int:
    """Move the cursor to some step below that."""
    while (step := cursor(program) or 0) >= below:
        program.press(FAR_LEFT)
        program.wait_until(lambda before=step: (cursor(program) or before) < before)  # type: ignore[misc]
    return step


def test_the_cursor_tells_what_was_there(run: RunDirectory) -> None:
    """By keys and by mouse, and bound to the samples: a wrong cell or a late redraw would tell of another step."""
    with Program(run.path) as program:
        into_the_charts(program)
        step = go_left(program, below=900)
        program.wait_until(lambda: f"train {losses_at(step)[0]:.4f}" in loss_chart(program)[0])
        program.wait_until(f"─ sample · step {step // 250 * 250} · at the cursor")
        program.wait_until(lambda: EARLY in program.text and LATE not in program.text)
        program.press(RIGHT)
        program.wait_until(lambda: step < (cursor(program) or 0) < 1000)

        # A click where the chart itself says that step 1,000 is: a column is worth 2,000 steps by its width.
        place = program.find("─ loss")
        assert place is not None
        row, column = place[0] + 5, resumed_at(program)
        program.point(row, column)
        program.point(row, column, released=True)
        program.wait_until(lambda: abs((cursor(program) or 0) - 1000) <= 2 * 2000 / len(loss_chart(program)[0]))
        program.press(RIGHT)
        program.press(RIGHT)
        program.wait_until(lambda: LATE in program.text and EARLY not in program.text)

        # The wheel zooms about what is under it, and what is taken hold of goes along.
        program.point(row, column, WHEEL_UP)
        program.point(row, column, WHEEL_UP)
        program.wait_until(lambda: ends(program) not in {(0, 2000), (0, 0)})
        program.wait_until(lambda: abs(resumed_at(program) - column) <= 1)
        before = ends(program)
        program.point(row, column)
        program.point(row, column - 6, HELD)
        program.point(row, column - 12, HELD)
        program.point(row, column - 12, released=True)
        program.wait_until(lambda: abs(resumed_at(program) - (column - 12)) <= 1 and ends(program) > before)
        program.point(row, column, WHEEL_DOWN)
        for _ in range(3):
            program.point(row, column, WHEEL_DOWN)
        program.wait_until(lambda: ends(program) == (0, 2000))

        # Escape takes back one thing at a time, the last one first.
        program.press("m")
        program.wait_until(lambda: program.find("─ sample") is None and "─ loss" in program.text)
        assert cursor(program) is not None
        program.press(ESCAPE)
        program.wait_until(lambda: cursor(program) is None)
        assert program.find("─ sample") is None
        program.press(ESCAPE)
        program.wait_until("─ sample · step 2,000 · 8 of 8")
        program.press(ESCAPE)
        program.wait_until("what it is for")
        program.press("q")
        assert program.wait() == 0
        program.assert_restored()


def test_zoom_scale_and_axis_where_there_is_little_room(run: RunDirectory) -> None:
    """At 80x24 the charts stand alone: every key of theirs is seen there, and the samples behind the tab go along."""
    with Program(run.path, columns=80, rows=24) as program:
        into_the_charts(program)
        step = go_left(program, below=900)

        program.press("+")
        program.wait_until(lambda: 0 < ends(program)[1] - ends(program)[0] <= 1000)
        program.press("+")
        program.wait_until(lambda: 0 < ends(program)[1] - ends(program)[0] <= 500)
        low, high = zoomed = ends(program)
        assert low - 500 <= step <= high + 500 and cursor(program) == step, "zoomed about the cursor"
        program.press(">")
        program.wait_until(lambda: ends(program)[0] > low)
        program.press("<")
        program.wait_until(lambda: ends(program) == zoomed)
        program.press("-")
        program.wait_until(lambda: ends(program)[1] - ends(program)[0] > 500)
        program.press("0")
        program.wait_until(lambda: ends(program) == (0, 2000))

        program.press("l")
        program.wait_until("─ loss · log ─")
        program.press("l")
        program.wait_until(lambda: "─ loss ─" in program.text)

        program.press("a")
        program.wait_until(lambda: axis(program).startswith("tokens 0 ") and axis(program).endswith("M"))
        program.wait_until(lambda: cursor(program) == step)  # the same place, whatever it is counted in
        for first in ("epoch", "time", "step"):
            program.press("a")
            program.wait_until(lambda first=first: axis(program).startswith(f"{first} 0"))  # type: ignore[misc]

        # All metrics at a glance, by pages, with the same cursor; Escape would first take that away.
        program.press("V")
        program.wait_until(lambda: "metrics 1–" in program.text and "─ accuracy (%) " in program.text)
        program.press("\x1b[6~")
        program.wait_until(lambda: "─ bits per byte " in program.text and "─ loss ─" not in program.text)
        program.press("V")
        program.wait_until(lambda: "─ loss ─" in program.text and "metrics" not in program.text)

        program.press("2")
        program.wait_until(lambda: "· at the cursor" in program.text and EARLY in program.text)
        program.press(ESCAPE)
        program.wait_until(lambda: cursor(program) == step)
        program.press(ESCAPE)
        program.wait_until(lambda: cursor(program) is None and " EMA " in program.text)
        program.press("2")
        program.wait_until(lambda: "· 8 of 8" in program.text and LATE in program.text)
        program.press("q")
        assert program.wait() == 0
