"""The memory pane over made-up readings: no GPU, one, several, half an answer; and its history lines."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from minigpt.gpus import GpuReading
from minigpt.journal import JournalWriter
from minigpt.telemetry import DiskReading, HostReading, ProcessReading, Reading
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled
from tui.charts.history import SLOT, History
from tui.run.following import Following
from tui.widgets.memory import Histories, MemoryPane, describe

GIB = 1 << 30
HOST = HostReading(used=int(5.2 * GIB), total=16 * GIB, cpu_percent=93.0, cores=2)
TRAINER = ProcessReading(412 << 20, 187.0)
DISK = DiskReading(412 * GIB, 78 << 20)
GPU = GpuReading(
    "NVIDIA GeForce RTX 4060",
    used=int(4.1 * GIB),
    total=8 * GIB,
    utilization=87,
    temperature=62,
    watts=91.4,
    watts_limit=115.0,
    fan=30,
    bandwidth=40,
    state=2,
    process_used=int(3.9 * GIB),
)


def reading_of(gpus: int, **changes: Any) -> Reading:
    others = [replace(GPU, index=index, own=False, process_used=None, utilization=3) for index in range(gpus - 1)]
    return Reading(HOST, TRAINER, (replace(GPU, index=gpus - 1, **changes), *others) if gpus else (), DISK)


@pytest.fixture
def following(tmp_path: Path) -> Following:
    """A run on a GPU, still going on as far as its files tell."""
    run = recorded_run(tmp_path, ended="", steps=300)
    metrics = JournalWriter(run.metrics_file)
    sizes = {"cuda_allocated": int(2.1 * GIB), "cuda_reserved": int(3.6 * GIB), "cuda_peak": int(3.2 * GIB)}
    metrics.append({"step": 310, "attempt": 1, "train_loss": 2.0, **sizes})
    metrics.close()
    following = Following(run)
    following.poll()
    return following


def histories_of(reading: Reading, minutes: float = 3.0) -> Histories:
    """The pane's memory after some minutes in which everything rose."""
    histories = Histories()
    for second in range(0, int(60 * minutes) + 1, 5):
        share = second / (60 * minutes)
        gpus = [replace(gpu, utilization=int(share * 100), used=int(share * 8 * GIB)) for gpu in reading.gpus]
        histories.take(replace(reading, gpus=tuple(gpus), host=replace(HOST, cpu_percent=share * 100)), float(second))
    return histories


def lines_of(reading: Reading, following: Following, width: int, **arguments: Any) -> list[str]:
    return describe(reading, following, width, **arguments).plain.splitlines()


class MemoryApp(PaneApp):
    """The pane with a reading after some minutes."""

    def __init__(self, reading: Reading, following: Following) -> None:
        super().__init__(MemoryPane)
        self.shown = reading, following

    def on_mount(self) -> None:
        self.call_after_refresh(self.show)

    def show(self) -> None:
        assert isinstance(self.pane, MemoryPane)
        self.pane.styles.height = "auto"  # as in the dashboard
        self.pane._histories = histories_of(self.shown[0])
        self.pane.show_reading(*self.shown)


@pytest.fixture
def three_minutes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.widgets.memory.monotonic", lambda: 181.0)


@pytest.mark.usefixtures("three_minutes_on")
@pytest.mark.parametrize("size", [(80, 24), (120, 36), (48, 16)], ids=str)
@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_looks(snap_compare: Any, following: Following, size: tuple[int, int], gpus: int) -> None:
    app = MemoryApp(reading_of(gpus), following)
    assert snap_compare(app, terminal_size=size, run_before=settled)


@pytest.mark.parametrize("width", [36, 48, 64, 140])
@pytest.mark.parametrize("gpus", [0, 1, 4, 8])
@pytest.mark.parametrize("ascii", [False, True], ids=["unicode", "ascii"])
def test_every_line_fits(following: Following, gpus: int, width: int, ascii: bool) -> None:
    """A line that is too long is wrapped, and moves all that stands under it."""
    reading = reading_of(gpus)
    for each in (reading, Reading(replace(HOST, swap_used=GIB, cores=192, cpu_percent=100.0))):
        lines = lines_of(each, following, width, histories=histories_of(each), ascii=ascii)
        assert lines and max(map(cell_len, lines)) <= width
        assert not ascii or not set("".join(lines)) - set(map(chr, range(32, 127))) - set("°·")


@pytest.mark.parametrize("width", [34, 38, 46, 64, 78, 98, 140])
def test_the_room_for_checkpoints_does_not_read_as_if_they_were_there(following: Following, width: int) -> None:
    text = describe(Reading(HOST, TRAINER, disk=DiskReading(int(59.4 * GIB), int(9.34 * (1 << 20)))), following, width)
    assert "room for 6,512 checkpoints" in text.plain
    assert "59.4 GiB" in text.plain or width < 46


async def test_lines_of_another_width_are_not_wrapped(following: Following) -> None:
    """A run that is over is measured once: when the window became narrower, a figure stood alone in the next line."""
    app = MemoryApp(reading_of(1), following)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.resize_terminal(60, 36)
        await settled(pilot)
        lines = [strip.text.strip() for strip in app.screen._compositor.render_strips()]
        for line in describe(*app.shown, app.pane.size.width).plain.splitlines():
            assert line.strip() in lines or line.startswith(("memory", "heat", "CPU")), "those have lines of history"


@pytest.mark.parametrize("width", [36, 48, 64, 140])
def test_what_there_is_to_see_of_a_gpu(following: Following, width: int) -> None:
    """Memory, the run's share of it, load, heat and power, and what torch holds of it."""
    text = describe(reading_of(1), following, width).plain
    for words in ("4.1/8.0 GiB", "51%", "run 3.90 GiB", "RTX 4060", "busy", "87%", "62 °C", " W", "412 MiB · 187%"):
        assert words in text
    assert ("91/115 W" in text) is (width != 48)
    assert ("allocated 2.10 · reserved 3.60 · peak 3.20 GiB" in text) is (width > 60)
    assert "peak 3.2" in text and "alloc" in text


@pytest.mark.parametrize("width", [36, 48, 64, 140])
def test_without_a_gpu_there_is_no_empty_gauge(following: Following, width: int) -> None:
    text = describe(reading_of(0), following, width).plain
    assert "GPU" not in text and "busy" not in text
    for words in ("host", "5.2/16.0 GiB", "93% of 2 cores", "room for 5,408 checkpoints"):
        assert words in text


def test_of_several_gpus_the_run_s_own_is_first_and_named(following: Following) -> None:
    own, name, *rest = lines_of(reading_of(4), following, 64)
    assert own.startswith("GPU 3 ") and name.strip().startswith("this run's · run 3.90 GiB")
    others = [line for line in rest if line.startswith("GPU")]
    assert [line.split()[1] for line in others] == ["0", "1", "2"]
    assert all("51%   3% busy  62 °C  91 W" in line for line in others)


def test_many_gpus_take_little_room(following: Following) -> None:
    """Eight lines of gauges would leave nothing of a small screen for the sample."""
    lines = lines_of(reading_of(8), following, 48)
    assert len([line for line in lines if line.startswith("GPU")]) == 5
    assert "GPU 0 51% mem  3% busy   GPU 1 51% mem  3% busy" in lines


FIGURES: dict[str, tuple[dict[str, Any], str]] = {
    "memory": ({"used": None}, "4.1/8.0"),
    "total": ({"total": None}, "4.1/8.0"),
    "busy": ({"utilization": None}, "busy"),
    "heat": ({"temperature": None}, "°C"),
    "power": ({"watts": None}, " W"),
    "fan": ({"fan": None}, "fan"),
    "state": ({"state": None}, "P2"),
    "run": ({"process_used": None}, "run 3.90"),
}


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("gpus", [1, 4])
def test_what_a_driver_does_not_tell_is_left_out(following: Following, figure: str, gpus: int) -> None:
    """A figure that is not there is no 0 and no dash, and takes no other along."""
    changes, words = FIGURES[figure]
    whole = describe(reading_of(1), following, 80).plain
    reading = reading_of(gpus, **changes)
    reading = replace(reading, gpus=tuple(replace(gpu, **changes) for gpu in reading.gpus))
    text = describe(reading, following, 80).plain
    assert words in whole and words not in text
    for other, (_, kept) in FIGURES.items():
        assert kept in text or other == figure or kept == words, other


def test_one_that_tells_nothing_but_its_name(following: Following) -> None:
    """A virtual GPU."""
    assert describe(Reading(HOST, None, (GpuReading("GRID [b]"),)), following, 48).plain.startswith("GPU    GRID [b]\n")


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (DiskReading(412 * GIB, 78 << 20), "disk   412 GiB left · room for 5,408 checkpoints"),
        (DiskReading(412 * GIB, None), "disk   412 GiB left"),
        (DiskReading(3 << 40, 1 << 20), "disk   3.00 TiB left · room for 3.15M checkpoints"),
        (DiskReading(90 << 20, 78 << 20), "disk   ▲ 90 MiB left · room for 1 checkpoint"),
        (DiskReading(0, 78 << 20), "disk   ▲ 0 MiB left · room for 0 checkpoints"),
    ],
    ids=str,
)
def test_how_many_checkpoints_fit(following: Following, disk: DiskReading, words: str) -> None:
    """A disk on which few more fit is marked by more than colour."""
    lines = lines_of(Reading(HOST, None, (), disk), following, 64)
    assert lines[-1] == words
    assert lines_of(Reading(HOST, None, (), disk), following, 64, ascii=True)[-1] == words.replace("▲", "!")


@pytest.mark.parametrize(
    ("ended", "held", "words"),
    [("stopped", False, "used up to 412 MiB"), ("", True, "used up to 412 MiB")],
    ids=["over", "a process that cannot be seen"],
)
def test_a_run_whose_process_is_not_there(tmp_path: Path, ended: str, held: bool, words: str) -> None:
    """What it took at most is in its rows."""
    following = Following(recorded_run(tmp_path, ended=ended, steps=300))
    following.poll(held=held)
    assert lines_of(Reading(HOST), following, 64)[-1].split(maxsplit=1) == ["run", words]


async def test_the_pane_grows_when_a_gpu_answers(following: Following) -> None:
    """The driver is asked in a thread: its first answer may come after the pane stands."""
    app = MemoryApp(reading_of(0), following)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        pane = app.pane
        assert isinstance(pane, MemoryPane)
        before = pane.size.height
        pane.show_reading(reading_of(1), following)
        await pilot.pause()
        assert pane.size.height == before + 4
        pane.show_reading(reading_of(0), following)
        await pilot.pause()
        assert pane.size.height == before


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_history_shows_means_over_time_and_gaps() -> None:
    """Guards the order, the scale, and that a pane which was not fed for a while shows that it was not."""
    history = History()
    assert history.line(3, 0, 100) == "   "
    for time, value in [(0, 0.0), (1, 100.0), (SLOT, 100.0), (4 * SLOT, 0.0), (4 * SLOT + 1, None)]:
        history.take(value, time)
    assert history.line(7, 0, 100) == "  ▅█  ▁"
    assert history.line(7, 0, 100, ascii=True) == "  =#  _"
    assert history.line(2, 0, 100) == " ▁" and history.line(0, 0, 100) == ""
    history.take(1e9, 5 * SLOT)
    history.take(-1e9, 1e6 * SLOT)
    assert history.line(3, 0, 100) == "  ▁" and len(history.line(1000, 0, 100)) == 1000


async def test_a_history_line_stays_for_a_while(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a slow connection a line that moves with each look would cost more than all figures together."""
    app = MemoryApp(reading_of(1), following)
    async with app.run_test(size=(64, 24)) as pilot:
        pane = app.pane
        assert isinstance(pane, MemoryPane)
        pane._histories = Histories()
        await pilot.pause()
        drawn: list[str] = []
        for second in range(600):
            monkeypatch.setattr("tui.widgets.memory.monotonic", lambda now=second: float(now))
            pane.show_reading(reading_of(1, utilization=50 + second % 2), following)
            drawn.append(str(pane.content).splitlines()[2].partition("busy")[2][:-5])
        moved = sum(before != after for before, after in pairwise(drawn))
        assert 10 < moved <= 600 / SLOT
