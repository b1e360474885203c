"""What the machine is doing: memory and load of the host, of the training process and of the GPUs, and the disk.

Never imports torch: a viewer that did would take GPU memory of its own.
"""

import os
import shutil
import stat
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from minigpt.gpus import GpuReading, Gpus

if TYPE_CHECKING:
    from minigpt.rundir import RunDirectory

_PATIENCE = 0.02  # seconds for which the GPUs are waited for: usually enough
_STALE = 10.0  # seconds after which what a driver said last is no longer told
_MOST_FILES = 50  # of a checkpoint; it has four


@dataclass(frozen=True)
class HostReading:
    """Bytes of memory in use and in all, and the share of all cores that is busy, 0 to 100."""

    used: int
    total: int
    cpu_percent: float
    cores: int
    swap_used: int = 0


@dataclass(frozen=True)
class ProcessReading:
    """Bytes of memory of one process, and its load in per cent of one core."""

    rss: int
    cpu_percent: float


@dataclass(frozen=True)
class DiskReading:
    """Bytes that are left where checkpoints go, and those of the newest checkpoint; None without one."""

    free: int
    checkpoint: int | None


@dataclass(frozen=True)
class Reading:
    """Everything at one moment; None or empty where there is nothing to read. The run's own GPU comes first."""

    host: HostReading
    process: ProcessReading | None = None
    gpus: tuple[GpuReading, ...] = ()
    disk: DiskReading | None = None


class Telemetry:
    """Reads the machine. `read` takes well under a millisecond without a GPU, at most some twenty with one.

    `pid` is the training process, `gpu_uuid` the device it computes on. Without a uuid the first device that
    CUDA_VISIBLE_DEVICES leaves is taken, when `wants_gpu` says that the run uses one. `run` is what is trained.
    """

    def __init__(
        self,
        *,
        pid: int | None = None,
        wants_gpu: bool = False,
        gpu_uuid: str | None = None,
        run: "RunDirectory | None" = None,
    ) -> None:
        self._process = _open_process(pid)
        self._gpus = _Watch(pid, gpu_uuid) if wants_gpu or gpu_uuid else None
        self._disk = None if run is None else _Disk(run)
        self._cores = psutil.cpu_count() or 1
        # psutil tells the load since the call before: the first one has nothing to compare with.
        psutil.cpu_percent()

    def read(self) -> Reading:
        """The state of things now; a process or device that has gone away is left out from then on."""
        memory = psutil.virtual_memory()
        # On Linux `used` leaves out what cannot be given back, which total − available counts.
        host = HostReading(
            memory.total - memory.available, memory.total, psutil.cpu_percent(), self._cores, _swap_used()
        )
        gpus = () if self._gpus is None else self._gpus.read()
        return Reading(host, self._read_process(), gpus, None if self._disk is None else self._disk.read())

    def _read_process(self) -> ProcessReading | None:
        if self._process is None:
            return None
        try:
            with self._process.oneshot():
                return ProcessReading(self._process.memory_info().rss, self._process.cpu_percent())
        except psutil.Error:
            self._process = None
            return None


def _open_process(pid: int | None) -> psutil.Process | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        process.cpu_percent()
    except (psutil.Error, ValueError):
        return None
    return process


def _swap_used() -> int:
    try:
        return int(psutil.swap_memory().used)
    except (OSError, RuntimeError, psutil.Error):  # a container may hide where it is told
        return 0


class _Watch:
    """Asks the GPUs in a thread: a driver takes its time to open, and one in trouble never answers."""

    def __init__(self, pid: int | None, uuid: str | None) -> None:
        self._of = pid, uuid
        self._gpus: Gpus | None = None
        self._thread: threading.Thread | None = None
        self._newest: tuple[float, tuple[GpuReading, ...]] = (0.0, ())

    def read(self) -> tuple[GpuReading, ...]:
        """What they say now, or what they said a moment ago if they take their time."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, name="gpus", daemon=True)
            self._thread.start()
        self._thread.join(_PATIENCE)
        at, gpus = self._newest
        return gpus if time.monotonic() - at < _STALE else ()

    def _ask(self) -> None:
        if self._gpus is None:
            self._gpus = Gpus(*self._of)
        self._newest = time.monotonic(), self._gpus.read()


class _Disk:
    """How much is left where a run's checkpoints go, and how large they are."""

    def __init__(self, run: "RunDirectory") -> None:
        self._run = run
        self._changed: int | None = None
        """When the directory of the checkpoints had changed as of the last measurement."""
        self._size: int | None = None

    def read(self) -> DiskReading | None:
        try:
            changed = self._run.checkpoints_dir.stat().st_mtime_ns
            free = shutil.disk_usage(self._run.checkpoints_dir).free
        except OSError:
            return None
        if changed != self._changed:
            self._changed = changed
            found = self._run.checkpoints()
            self._size = _size_of(found[-1].path) if found else None
        return DiskReading(free, self._size)


def _size_of(checkpoint: "os.PathLike[str]") -> int | None:
    size = 0
    try:
        with os.scandir(checkpoint) as entries:
            for _, entry in zip(range(_MOST_FILES), entries, strict=False):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    size += status.st_size
    except OSError:
        return None
    return size or None
