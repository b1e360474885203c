"""The memory pane: what the GPU, the host and the run itself use."""

from textual.content import Content

from minigpt.inert import inert_line
from minigpt.telemetry import GpuReading, Reading
from tui.following import Following
from tui.widgets.progress import StatusLine, bar

_GIB = 1 << 30
_LABEL = 6


class MemoryPane(StatusLine):
    """Gauges of what there is to measure; a machine without a GPU gets no empty gauge for one."""

    BORDER_TITLE = " memory "

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = 0

    def show_reading(self, reading: Reading, following: Following) -> None:
        """Show what was measured, and the peaks that the run has recorded."""
        content = describe(reading, following, self.size.width or 40)
        lines = content.plain.count("\n") + 1
        self.show(content)
        if lines != self._lines:
            self._lines = lines
            self.refresh(layout=True)


def describe(reading: Reading, following: Following, width: int) -> Content:
    """The text of the pane at a width."""
    lines = []
    if reading.gpu is not None:
        lines += _gpu_lines(reading.gpu, width)
    torch_line = _allocator_line(following)
    if torch_line:
        lines.append(torch_line)
    host = reading.host
    lines.append(_gauge("host", host.used, host.total, width))
    lines.append(_line("CPU", f"{host.cpu_percent:.0f}% of {host.cores} cores"))
    lines.append(_run_line(reading, following))
    return Content("\n").join(lines)


def _gpu_lines(gpu: GpuReading, width: int) -> list[Content]:
    facts = [inert_line(gpu.name, 40)]
    if gpu.utilization is not None:
        facts.append(f"{gpu.utilization}% busy")
    if gpu.temperature is not None:
        facts.append(f"{gpu.temperature} °C")
    if gpu.watts is not None:
        facts.append(f"{gpu.watts:.0f} W")
    return [_gauge("GPU", gpu.used, gpu.total, width), _line("", " · ".join(facts))]


def _allocator_line(following: Following) -> Content | None:
    parts = []
    for name, label in (("cuda_allocated", "now"), ("cuda_peak", "peak"), ("cuda_reserved", "reserved")):
        value = following.latest(name)
        if value is not None:
            parts.append(f"{label} {value / _GIB:.2f}")
    return _line("torch", " · ".join(parts) + " GiB") if parts else None


def _run_line(reading: Reading, following: Following) -> Content:
    if reading.process is not None:
        process = reading.process
        return _line("run", f"{_size(process.rss)} · {process.cpu_percent:.0f}% of a core")
    if following.starting:
        return _line("run", "starting")
    peak = following.highest("memory_rss")
    if following.is_live and peak is None:
        return _line("run", "not to be seen from here")
    return _line("run", "not running" if peak is None else f"used up to {_size(peak)}")


def _gauge(label: str, used: int, total: int, width: int) -> Content:
    share = used / total if total else 0.0
    figures = f" {used / _GIB:.1f}/{total / _GIB:.1f} GiB {share:4.0%}"
    room = max(0, min(30, width - _LABEL - len(figures)))
    style = "$error" if share > 0.95 else "$warning" if share > 0.85 else "$primary"
    return Content.assemble((f"{label:<{_LABEL}}", "$foreground 60%"), bar(share, room, style), figures)


def _line(label: str, text: str) -> Content:
    return Content.assemble((f"{label:<{_LABEL}}", "$foreground 60%"), text)


def _size(size: float) -> str:
    return f"{size / _GIB:.2f} GiB" if size >= _GIB else f"{size / (1 << 20):.0f} MiB"
