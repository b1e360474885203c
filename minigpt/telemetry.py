"""What the machine is doing: memory and load of the host, of the training process and of the GPU.

Never imports torch: a viewer that did would take GPU memory of its own.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class HostReading:
    """Bytes of memory in use and in all, and the share of all cores that is busy, 0 to 100."""

    used: int
    total: int
    cpu_percent: float
    cores: int


@dataclass(frozen=True)
class ProcessReading:
    """Bytes of memory of one process, and its load in per cent of one core."""

    rss: int
    cpu_percent: float


@dataclass(frozen=True)
class GpuReading:
    """One GPU; what a driver does not tell is None."""

    name: str
    used: int
    total: int
    utilization: int | None
    temperature: int | None
    watts: float | None


@dataclass(frozen=True)
class Reading:
    """Everything at one moment; `process` and `gpu` are None where there is none to read."""

    host: HostReading
    process: ProcessReading | None
    gpu: GpuReading | None


class Telemetry:
    """Reads the machine. `read` takes well under a millisecond without a GPU, a few with one.

    `pid` is the training process, `gpu_uuid` the device it computes on. Without a uuid the first device that
    CUDA_VISIBLE_DEVICES leaves is taken, when `wants_gpu` says that the run uses one.
    """

    def __init__(self, *, pid: int | None = None, wants_gpu: bool = False, gpu_uuid: str | None = None) -> None:
        self._process = _open_process(pid)
        self._nvml: Any = None
        self._device: Any = None
        if wants_gpu or gpu_uuid:
            self._nvml, self._device = _open_device(gpu_uuid)
        self._cores = psutil.cpu_count() or 1
        # psutil tells the load since the call before: the first one has nothing to compare with.
        psutil.cpu_percent()

    def read(self) -> Reading:
        """The state of things now; a process or device that has gone away is None from then on."""
        memory = psutil.virtual_memory()
        # On Linux `used` leaves out what cannot be given back, which total − available counts.
        host = HostReading(memory.total - memory.available, memory.total, psutil.cpu_percent(), self._cores)
        return Reading(host, self._read_process(), self._read_gpu())

    def _read_process(self) -> ProcessReading | None:
        if self._process is None:
            return None
        try:
            with self._process.oneshot():
                return ProcessReading(self._process.memory_info().rss, self._process.cpu_percent())
        except psutil.Error:
            self._process = None
            return None

    def _read_gpu(self) -> GpuReading | None:
        nvml, device = self._nvml, self._device
        if nvml is None:
            return None
        memory = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device))
        if memory is None:
            return None
        name = _ask(nvml, lambda: nvml.nvmlDeviceGetName(device)) or "GPU"
        watts = _ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(device))
        return GpuReading(
            name=name.decode(errors="replace") if isinstance(name, bytes) else str(name),
            used=int(memory.used),
            total=int(memory.total),
            utilization=_ask(nvml, lambda: int(nvml.nvmlDeviceGetUtilizationRates(device).gpu)),
            temperature=_ask(nvml, lambda: int(nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))),
            watts=None if watts is None else watts / 1000,
        )


def _open_process(pid: int | None) -> psutil.Process | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        process.cpu_percent()
    except (psutil.Error, ValueError):
        return None
    return process


def _ask(nvml: Any, question: Callable[[], _Value]) -> _Value | None:
    # A virtual or partitioned GPU answers only some questions.
    try:
        return question()
    except nvml.NVMLError:
        return None


def _open_device(uuid: str | None) -> tuple[Any, Any]:
    """NVML and its handle of the device; None for both where there is no NVIDIA driver or no such device."""
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        named = {_plain_uuid(pynvml.nvmlDeviceGetUUID(handle)): handle for handle in handles}
        if uuid is not None and uuid.startswith("MIG-"):
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)
        handle = _first_visible(handles, named) if uuid is None else named.get(_plain_uuid(uuid))
    except pynvml.NVMLError:
        return None, None
    return (pynvml, handle) if handle is not None else (None, None)


def _first_visible(handles: list[Any], named: dict[str, Any]) -> Any:
    """The device that CUDA calls 0. NVML itself knows nothing of CUDA_VISIBLE_DEVICES and counts them all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return handles[0] if handles else None
    first = visible.split(",")[0].strip()
    if first.isdecimal():
        return handles[int(first)] if int(first) < len(handles) else None
    wanted = _plain_uuid(first)
    # CUDA takes the beginning of a uuid too.
    return next((handle for uuid, handle in named.items() if wanted and uuid.startswith(wanted)), None)


def _plain_uuid(uuid: str | bytes) -> str:
    # torch leaves out the prefix that NVML writes.
    text = uuid.decode(errors="replace") if isinstance(uuid, bytes) else str(uuid)
    return text.removeprefix("GPU-").lower()
