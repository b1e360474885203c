"""What NVIDIA GPUs are doing, as their driver tells. Never imports torch."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_MOST = 16  # GPUs that are asked each time
# What NVML answers where a driver knows that a process is there, but not what it holds.
_NOT_AVAILABLE = 2**64 - 1


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment; what its driver does not tell is None. Memory in bytes, shares in per cent."""

    name: str
    used: int | None = None
    total: int | None = None
    utilization: int | None = None
    """How much of the time a kernel ran."""
    temperature: int | None = None
    """In °C."""
    watts: float | None = None
    watts_limit: float | None = None
    fan: int | None = None
    bandwidth: int | None = None
    """How much of the time its memory was read or written."""
    state: int | None = None
    """Its performance state, from 0, full speed, to 15."""
    process_used: int | None = None
    """Memory of the process that trains."""
    index: int = 0
    """Its number among all of the machine, as nvidia-smi counts."""
    own: bool = True
    """Whether the run computes on it."""


@dataclass(frozen=True)
class _Device:
    handle: Any
    name: str
    index: int
    own: bool
    total: int | None
    watts_limit: float | None


class Gpus:
    """Reads the GPUs that CUDA_VISIBLE_DEVICES leaves, the run's own first.

    `uuid` is the device that the run computes on, `pid` its process; without a uuid it is the first one. Opening takes
    tens of milliseconds and more, reading some for each GPU, and a driver in trouble may not answer at all: not for a
    thread that somebody waits for.
    """

    def __init__(self, pid: int | None, uuid: str | None) -> None:
        self._pid = pid
        self._nvml: Any = None
        self._devices: list[_Device] = []
        try:
            import pynvml
        except ImportError:
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._devices = [self._open(*one) for one in _chosen(pynvml, uuid)[:_MOST]]
        except Exception:  # noqa: BLE001 - no driver, a broken one, or one of another version than the library
            self._devices = []

    def read(self) -> tuple[GpuReading, ...]:
        """The state of each now; one that answers nothing at all is left out."""
        readings = (self._read(device) for device in self._devices)
        return tuple(reading for reading in readings if reading is not None)

    def _open(self, handle: Any, index: int, own: bool) -> _Device:
        nvml = self._nvml
        name = _ask(lambda: nvml.nvmlDeviceGetName(handle)) or "GPU"
        limit = _ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)
        memory = _ask(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total))
        shown = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return _Device(handle, shown, index, own, memory, limit)

    def _read(self, device: _Device) -> GpuReading | None:
        nvml, handle = self._nvml, device.handle
        used = _ask(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used))
        rates: Any = _ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        utilization = _ask(lambda: int(rates.gpu))
        temperature = _ask(lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))
        watts = _ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        if used is utilization is temperature is watts is None:
            return None
        return GpuReading(
            name=device.name,
            used=used,
            total=device.total,
            utilization=utilization,
            temperature=temperature,
            watts=watts,
            watts_limit=device.watts_limit,
            fan=_ask(lambda: int(nvml.nvmlDeviceGetFanSpeed(handle))),
            bandwidth=_ask(lambda: int(rates.memory)),
            state=_ask(lambda: _known_state(nvml.nvmlDeviceGetPerformanceState(handle))),
            process_used=_ask(lambda: self._memory_of_process(handle)),
            index=device.index,
            own=device.own,
        )

    def _memory_of_process(self, handle: Any) -> int | None:
        # In a container the driver may tell the numbers that processes have outside of it: then none is the run's.
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle) if self._pid is not None else ():
            memory = process.usedGpuMemory
            if process.pid == self._pid and isinstance(memory, int) and memory != _NOT_AVAILABLE:
                return memory
        return None


def _known_state(state: int) -> int | None:
    return int(state) if 0 <= state <= 15 else None  # 32 stands for unknown


def _ask(question: Callable[[], _Value]) -> _Value | None:
    # A partitioned GPU answers only some questions, an old driver lacks the function, a lost GPU answers none.
    try:
        return question()
    except Exception:  # noqa: BLE001
        return None


def _chosen(nvml: Any, uuid: str | None) -> list[tuple[Any, int, bool]]:
    """Handle and index of each device to be read, and whether it is the run's; empty if the run's is not here."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    # One that does not tell its uuid is still one of those that CUDA_VISIBLE_DEVICES counts.
    uuids = [_plain_uuid(_ask(lambda h=handle: nvml.nvmlDeviceGetUUID(h)) or "") for handle in handles]  # type: ignore[misc]
    visible = _visible(uuids)
    if uuid is not None and uuid.startswith("MIG-"):
        part = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return [(part, 0, True), *((handles[index], index, False) for index in visible)]
    own = visible[0] if visible else None
    if uuid is not None:
        own = uuids.index(_plain_uuid(uuid)) if _plain_uuid(uuid) in uuids else None
    if own is None:
        return []
    return [(handles[index], index, index == own) for index in [own, *(index for index in visible if index != own)]]


def _visible(uuids: list[str]) -> list[int]:
    """The devices that CUDA counts, in its order. NVML itself knows nothing of CUDA_VISIBLE_DEVICES."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for entry in map(str.strip, named.split(",")):
        if entry.isdecimal():
            index = int(entry) if int(entry) < len(uuids) else None
        else:  # CUDA takes the beginning of a uuid too
            wanted = _plain_uuid(entry)
            index = next((place for place, uuid in enumerate(uuids) if wanted and uuid.startswith(wanted)), None)
        if index is None or index in found:
            break  # as CUDA does: what follows an entry that is none is not looked at
        found.append(index)
    return found


def _plain_uuid(uuid: str | bytes) -> str:
    # torch leaves out the prefix that NVML writes.
    text = uuid.decode(errors="replace") if isinstance(uuid, bytes) else str(uuid)
    return text.removeprefix("GPU-").lower()
