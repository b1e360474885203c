"""The memory pane: what the GPUs, the host, the disk and the run itself use, now and in the last minutes."""

from collections import defaultdict
from collections.abc import Sequence
from time import monotonic

from textual.content import Content

from minigpt.gpus import GpuReading
from minigpt.inert import inert_line
from minigpt.telemetry import DiskReading, HostReading, Reading
from tui.charts.history import History
from tui.figures import short_count
from tui.run.following import Following
from tui.settings import DEFAULTS
from tui.widgets.progress import bar
from tui.widgets.status_line import StatusLine

_GIB = 1 << 30
_LABEL = 7
_GAP = 2
_PAIRED = 96  # cells, from which on two lines stand side by side
_FEW_CHECKPOINTS = 5
_COOL, _HOT = 20.0, 100.0  # °C, the ends of the line


class Histories(defaultdict[str, History]):
    """The lines of the pane by their names."""

    def __init__(self) -> None:
        super().__init__(History)

    def take(self, reading: Reading, now: float) -> None:
        """Note all figures that have a line."""
        host, taken = reading.host, {"cpu": reading.host.cpu_percent}
        told: dict[str, float | None] = {**taken, "host": 100 * host.used / host.total if host.total else None}
        for gpu in reading.gpus:
            told[f"busy {gpu.index}"] = gpu.utilization
            if gpu.own:
                told |= {"memory": _percent(gpu.used, gpu.total), "heat": gpu.temperature, "power": gpu.watts}
        for name in {*self, *told}:
            self[name].take(told.get(name), now)


class MemoryPane(StatusLine):
    """Gauges of what there is to measure; a machine without a GPU gets no empty gauge for one."""

    BORDER_TITLE = " memory "

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = 0
        self._reading: tuple[Reading, Following] | None = None
        self._histories = Histories()

    def show_reading(self, reading: Reading, following: Following) -> None:
        """Show what was measured, and the peaks that the run has recorded. Each reading goes into the history."""
        self._histories.take(reading, monotonic())
        self._reading = reading, following
        self._draw()

    def on_resize(self) -> None:
        self._draw()  # a run that is over is not measured again, and lines that are too long now would be wrapped

    def _draw(self) -> None:
        if self._reading is None:
            return
        reading, following = self._reading
        ascii = getattr(self.app, "settings", DEFAULTS).ascii
        content = describe(reading, following, self.size.width or 40, self._histories, ascii=ascii)
        lines = content.plain.count("\n") + 1
        self.show(content)
        if lines != self._lines:
            self._lines = lines
            self.refresh(layout=True)


def describe(
    reading: Reading, following: Following, width: int, histories: Histories | None = None, *, ascii: bool = False
) -> Content:
    """The text of the pane at a width."""
    drawing = _Drawing(width, Histories() if histories is None else histories, ascii)
    lines = drawing.gpus(reading.gpus, following.is_live)
    # What is short stands in two columns where there is room.
    half = _Drawing((width - _GAP) // 2, drawing.histories, ascii) if width >= _PAIRED else drawing
    cells = [
        half.allocator(following),
        half.gauge("host", reading.host.used, reading.host.total),
        half.cpu(reading.host),
        _line("run", _of_run(reading, following)),
        half.disk(reading.disk),
    ]
    shown = [cell for cell in cells if cell is not None]
    return Content("\n").join(lines + _in_columns(shown, width, 2 if half is not drawing else 1))


class _Drawing:
    """Lines of one width."""

    def __init__(self, width: int, histories: Histories, ascii: bool) -> None:
        self.width = width
        self.histories = histories
        self.ascii = ascii

    def gpus(self, gpus: Sequence[GpuReading], live: bool) -> list[Content]:
        if not gpus:
            return []
        own, *others = gpus
        label = f"GPU {own.index}" if others else "GPU"
        lines = []
        if own.used is not None and own.total is not None:
            lines.append(self.gauge(label, own.used, own.total))
            label = ""
        facts = ["this run's"] if others else []
        if own.process_used is not None:
            facts.append(f"run {_size(own.process_used)}")
        facts.append(inert_line(own.name.removeprefix("NVIDIA ").removeprefix("GeForce "), 40))
        if own.fan is not None:
            facts.append(f"fan {own.fan}%")
        if own.state is not None:
            facts.append(f"P{own.state}")
        if own.bandwidth is not None:
            facts.append(f"bandwidth {own.bandwidth}%")
        lines.append(_line(label, _as_many(facts, self.width - _LABEL)))
        lines += self.curves(own)
        if len(others) <= 3:
            return lines + [self.other(gpu) for gpu in others]
        columns = max(1, (self.width + _GAP) // 24)
        narrow = _Drawing((self.width + _GAP) // columns - _GAP, self.histories, self.ascii)
        return lines + _in_columns([narrow.other(gpu, short=True) for gpu in others], self.width, columns)

    def curves(self, own: GpuReading) -> list[Content]:
        """The last minutes of the run's own GPU."""
        limit = own.watts_limit
        watts = "" if own.watts is None else f"{own.watts:.0f} W"
        curves = [
            ("memory", _percent(own.used, own.total), "{:.0f}%", (0.0, 100.0)),
            ("busy", own.utilization, "{:.0f}%", (0.0, 100.0)),
            ("heat", own.temperature, "{:.0f} °C", (_COOL, _HOT)),
            ("power", own.watts, "{:.0f} W", (0.0, limit or max(own.watts or 0.0, 1.0))),
        ]
        told = [(label, form.format(value), ends) for label, value, form, ends in curves if value is not None]
        columns = 4 if self.width >= 96 else 2 if self.width >= 40 else 1
        room = (self.width - _GAP * (columns - 1)) // columns
        if watts and limit and room >= 30:
            told = [(label, f"{watts[:-2]}/{limit:.0f} W" if label == "power" else text, e) for label, text, e in told]
        cells = [
            self.curve(label, f"busy {own.index}" if label == "busy" else label, ends, text, room)
            for label, text, ends in told
        ]
        return _in_columns(cells, self.width, columns)

    def curve(self, label: str, name: str, ends: tuple[float, float], figure: str, room: int) -> Content:
        # As wide as the longest figure that is usual there, so that the line keeps its place.
        figure = figure.rjust(9 if "/" in figure else 6)
        line = self.histories[name].line(room - _LABEL - len(figure) - 1, *ends, ascii=self.ascii)
        return Content.assemble(_label(label), (line, "$primary"), " ", figure)

    def other(self, gpu: GpuReading, *, short: bool = False) -> Content:
        """Another GPU than the run's, in one line."""
        memory = _percent(gpu.used, gpu.total)
        label, figures = f"GPU {gpu.index}", ""
        if short:
            figures += "" if memory is None else f"{memory:2.0f}% mem "
            figures += "" if gpu.utilization is None else f"{gpu.utilization:2}% busy"
            return Content.assemble((f"{label:<6}", "$foreground 60%"), figures)
        if memory is not None:
            figures += f"{memory:4.0f}%"
        if gpu.utilization is not None:
            figures += f"{gpu.utilization:4.0f}% busy"
        if gpu.temperature is not None:
            figures += f"{gpu.temperature:4.0f} °C"
        if gpu.watts is not None and self.width >= 56:
            figures += f"{gpu.watts:4.0f} W"
        if memory is None:
            return Content.assemble(_label(label), figures[: max(0, self.width - _LABEL)])
        room = max(0, min(30, self.width - _LABEL - len(figures)))
        return Content.assemble(_label(label), bar(memory / 100, room, _style(memory), ascii=self.ascii), figures)

    def allocator(self, following: Following) -> Content | None:
        values = {name: following.latest(f"cuda_{name}") for name in ("allocated", "reserved", "peak")}
        told = {name: value / _GIB for name, value in values.items() if value is not None}
        if not told:
            return None
        brief = {"alloc" if name == "allocated" else name: value for name, value in told.items()}
        forms = [
            " · ".join(f"{name} {value:.2f}" for name, value in told.items()) + " GiB",
            " · ".join(f"{name} {value:.1f}" for name, value in brief.items()) + " GiB",
            " · ".join(f"{name} {value:.1f}" for name, value in brief.items() if name != "reserved") + " GiB",
        ]
        return _line("torch", _first_that_fits(forms, self.width - _LABEL))

    def gauge(self, label: str, used: int, total: int) -> Content:
        percent = _percent(used, total) or 0.0
        figures = f" {used / _GIB:.1f}/{total / _GIB:.1f} GiB {percent:3.0f}%"
        room = max(0, min(30, self.width - _LABEL - len(figures)))
        return Content.assemble(
            _label(label), bar(percent / 100, room, _style(percent), ascii=self.ascii), figures[: self.width - _LABEL]
        )

    def cpu(self, host: HostReading) -> Content:
        figures = f"{host.cpu_percent:3.0f}% of {host.cores} cores"
        if host.swap_used > _GIB // 10 and self.width >= 44:
            figures += f" · swap {host.swap_used / _GIB:.1f} GiB"
        room = max(0, min(30, self.width - _LABEL - len(figures) - 1))
        line = self.histories["cpu"].line(room, 0.0, 100.0, ascii=self.ascii)
        return Content.assemble(_label("CPU"), (line, "$primary"), " ", figures)

    def disk(self, disk: DiskReading | None) -> Content | None:
        if disk is None:
            return None
        left = f"{_size(disk.free)} left"
        if not disk.checkpoint:
            return _line("disk", left)
        fit = disk.free // disk.checkpoint
        words = f"{f'{fit:,}' if fit < 10_000 else short_count(fit)} checkpoint{'' if fit == 1 else 's'}"
        scarce = fit < _FEW_CHECKPOINTS
        # Without "room for" it would read as if so many had been saved.
        forms = [f"{left} · room for {words}", f"{_size(disk.free)} · room for {words}", f"room for {words}", left]
        text = _first_that_fits(forms, self.width - _LABEL - 2 * scarce)
        if not scarce:
            return _line("disk", text)
        return Content.assemble(_label("disk"), (f"{'!' if self.ascii else '▲'} {text}", "bold $warning"))


def _of_run(reading: Reading, following: Following) -> str:
    if reading.process is not None:
        process = reading.process
        return f"{_size(process.rss)} · {process.cpu_percent:.0f}% of a core"
    if following.starting:
        return "starting"
    peak = following.highest("memory_rss")
    if following.is_live and peak is None:
        return "not to be seen from here"
    return "not running" if peak is None else f"used up to {_size(peak)}"


def _in_columns(cells: Sequence[Content], width: int, columns: int) -> list[Content]:
    """The cells in rows, each column as wide as the others."""
    room = (width - _GAP * (columns - 1)) // columns
    rows = []
    for first in range(0, len(cells), columns):
        *row, last = cells[first : first + columns]
        padded = [cell.truncate(room, pad=True) for cell in row]
        rows.append(Content(" " * _GAP).join([*padded, last.truncate(room)]))
    return rows


def _label(label: str) -> tuple[str, str]:
    return f"{label:<{_LABEL}}", "$foreground 60%"


def _line(label: str, text: str) -> Content:
    return Content.assemble(_label(label), text)


def _as_many(parts: Sequence[str], width: int) -> str:
    """As many of the parts as fit, and the first in any case."""
    while len(parts) > 1 and len(" · ".join(parts)) > width:
        parts = parts[:-1]
    return inert_line(" · ".join(parts), max(1, width))


def _first_that_fits(forms: Sequence[str], width: int) -> str:
    return next((form for form in forms if len(form) <= width), forms[-1][: max(0, width)])


def _percent(used: int | None, total: int | None) -> float | None:
    return None if used is None or not total else 100 * used / total


def _style(percent: float) -> str:
    return "$error" if percent > 95 else "$warning" if percent > 85 else "$primary"


def _size(size: float) -> str:
    for unit, name in ((_GIB << 10, "TiB"), (_GIB, "GiB")):
        if (scaled := size / unit) >= 1:
            return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {name}"
    return f"{size / (1 << 20):.0f} MiB"
