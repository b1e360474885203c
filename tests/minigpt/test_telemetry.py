"""Reading the machine: with GPUs, without, with half an answer, and never through torch."""

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from minigpt.gpus import Gpus
from minigpt.rundir import RunDirectory
from minigpt.telemetry import Telemetry


class FakeNVMLError(Exception):
    pass


TRAINER = 4242
CALLS = {
    "nvmlInit": lambda: True,
    "nvmlDeviceGetName": lambda _: b"RTX 4060",
    "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=handle + 1, total=100),  # tells which one was asked
    "nvmlDeviceGetPowerUsage": lambda _: 91_400,
    "nvmlDeviceGetEnforcedPowerLimit": lambda _: 115_000,
    "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=87, memory=40),
    "nvmlDeviceGetTemperature": lambda *_: 62,
    "nvmlDeviceGetFanSpeed": lambda _: 30,
    "nvmlDeviceGetPerformanceState": lambda _: 2,
    "nvmlDeviceGetComputeRunningProcesses": lambda _: [
        SimpleNamespace(pid=1, usedGpuMemory=5),
        SimpleNamespace(pid=TRAINER, usedGpuMemory=7),
    ],
}


def refuse(*_arguments):
    raise FakeNVMLError


def fake_nvml(uuids, **calls):
    """NVML with devices of these uuids."""
    module = SimpleNamespace(NVMLError=FakeNVMLError, NVML_TEMPERATURE_GPU=0)
    module.nvmlDeviceGetCount = lambda: len(uuids)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetHandleByUUID = uuids.index
    module.nvmlDeviceGetUUID = lambda handle: uuids[handle]
    vars(module).update({**CALLS, **calls})
    return module


@pytest.fixture
def install_nvml(monkeypatch):
    def install(uuids, **calls):
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(uuids, **calls))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


UUIDS = ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3"]


def test_host_and_own_process():
    reading = Telemetry(pid=os.getpid()).read()
    assert 0 < reading.host.used < reading.host.total
    assert reading.host.cores >= 1
    assert reading.process is not None
    assert reading.process.rss > 1 << 20
    assert reading.gpus == () and reading.disk is None


def test_a_process_that_has_gone_is_none():
    """The numbers of a run that ended must not stay on the screen as if it went on."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    telemetry = Telemetry(pid=process.pid)
    assert telemetry.read().process is not None
    process.communicate()
    assert telemetry.read().process is None
    assert Telemetry(pid=process.pid).read().process is None


def used_by(gpus):
    return [gpu.used for gpu in gpus.read()]


def test_without_a_gpu_in_use_no_driver_is_asked(install_nvml):
    """Opening NVML takes tens of milliseconds, and a gauge for a GPU that the run does not use says nothing."""
    asked = []
    install_nvml(UUIDS, nvmlInit=lambda: asked.append(1))
    assert Telemetry().read().gpus == ()
    assert not asked


@pytest.mark.parametrize("uuid", ["GPU-bbbb-2", "bbbb-2", "GPU-BBBB-2"])
def test_the_run_s_device_is_found_by_uuid_and_comes_first(install_nvml, monkeypatch, uuid):
    """torch writes uuids without NVML's prefix; and NVML's numbers are not CUDA's under CUDA_VISIBLE_DEVICES."""
    install_nvml(UUIDS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    own, other = Gpus(TRAINER, uuid).read()
    assert (own.index, own.own, own.used, own.total, own.process_used) == (1, True, 2, 100, 7)
    assert (own.name, own.utilization, own.temperature, own.fan) == ("RTX 4060", 87, 62, 30)
    assert (own.bandwidth, own.state) == (40, 2)
    assert (own.watts, own.watts_limit) == (pytest.approx(91.4), pytest.approx(115.0))
    assert (other.index, other.own, other.used) == (0, False, 1)


@pytest.mark.parametrize(
    ("visible", "used"),
    [
        (None, [1, 2, 3]),
        ("2,0", [3, 1]),
        ("GPU-cccc-3", [3]),
        ("GPU-bb, 0", [2, 1]),
        ("0,7,1", [1]),
        ("1,1", [2]),
        ("", []),
        ("7", []),
        ("-1", []),
    ],
)
def test_without_a_uuid_the_first_visible_device_is_taken(install_nvml, monkeypatch, visible, used):
    """Guards CUDA's own reading of the variable: its order, and that an invalid entry ends it."""
    install_nvml(UUIDS)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Gpus(None, None)
    assert used_by(gpus) == used
    assert [gpu.own for gpu in gpus.read()] == [True, False, False][: len(used)]


FIGURES = {
    "nvmlDeviceGetMemoryInfo": ("used", "total"),
    "nvmlDeviceGetPowerUsage": ("watts",),
    "nvmlDeviceGetEnforcedPowerLimit": ("watts_limit",),
    "nvmlDeviceGetUtilizationRates": ("utilization", "bandwidth"),
    "nvmlDeviceGetPerformanceState": ("state",),
    "nvmlDeviceGetTemperature": ("temperature",),
    "nvmlDeviceGetFanSpeed": ("fan",),
    "nvmlDeviceGetComputeRunningProcesses": ("process_used",),
}


@pytest.mark.parametrize("call", FIGURES)
@pytest.mark.parametrize("failure", [refuse, None, lambda *_: None, lambda *_: "?"], ids=["raises", "no", "None", "?"])
def test_what_a_driver_refuses_is_left_out(install_nvml, call, failure):
    """A partitioned GPU tells its memory and nothing else, an old driver lacks functions: all else must stay."""
    install_nvml(UUIDS[:1])
    whole = vars(Gpus(TRAINER, None).read()[0])
    install_nvml(UUIDS[:1], **({call: failure} if failure else {}))
    if failure is None:
        delattr(sys.modules["pynvml"], call)
    left = vars(Gpus(TRAINER, None).read()[0])
    assert {name for name in whole if left[name] is None} == set(FIGURES[call])
    assert all(left[name] == whole[name] for name in whole if name not in FIGURES[call])


def test_a_gpu_that_is_lost_is_left_out(install_nvml):
    """It falls off the bus in the middle of the night: from then on each call raises."""
    install_nvml(UUIDS[:1])
    gpus = Gpus(TRAINER, None)
    assert used_by(gpus) == [1]
    vars(sys.modules["pynvml"]).update(dict.fromkeys(FIGURES, refuse))
    assert gpus.read() == ()


def test_a_performance_state_that_is_none(install_nvml):
    """A driver says 32 where it does not know."""
    install_nvml(UUIDS[:1], nvmlDeviceGetPerformanceState=lambda _: 32)
    assert Gpus(TRAINER, None).read()[0].state is None


def test_memory_of_a_process_that_the_driver_cannot_tell(install_nvml):
    """Some drivers say all ones, or nothing, for it: 16 EiB stood there."""
    for memory in (2**64 - 1, None):
        processes = [SimpleNamespace(pid=TRAINER, usedGpuMemory=memory)]
        install_nvml(UUIDS[:1], nvmlDeviceGetComputeRunningProcesses=lambda _, told=processes: told)
        assert Gpus(TRAINER, None).read()[0].process_used is None


@pytest.mark.parametrize(
    ("uuids", "calls", "asked"),
    [
        (UUIDS, {"nvmlInit": refuse}, None),
        ([], {}, None),
        (UUIDS, {}, "GPU-dddd-4"),
        (UUIDS, {}, "MIG-dddd-4"),
        (UUIDS, {"nvmlDeviceGetCount": refuse}, None),
    ],
    ids=["no driver", "no device", "unknown uuid", "unknown part", "broken driver"],
)
def test_without_such_a_device_there_is_no_gauge(install_nvml, uuids, calls, asked):
    install_nvml(uuids, **calls)
    assert Gpus(None, asked).read() == ()


def test_a_driver_that_does_not_answer_holds_nobody_up(install_nvml):
    """The screen stood still while a driver opened; one in trouble, and each look would begin another thread."""
    answer, asked = threading.Event(), []

    def waits():
        asked.append(1)
        answer.wait(30)

    install_nvml(UUIDS, nvmlInit=waits)
    telemetry = Telemetry(wants_gpu=True)
    assert [telemetry.read().gpus for _ in range(3)] == [(), (), ()]
    answer.set()
    end = time.monotonic() + 20
    while not (gpus := telemetry.read().gpus):
        assert time.monotonic() < end, "never heard of it again"
    assert [gpu.used for gpu in gpus] == [1, 2, 3]
    assert asked == [1]


def test_the_disk_and_the_newest_checkpoint(tmp_path, monkeypatch):
    """Guards the number of checkpoints that still fit; it is measured again only when one has come or gone."""
    run = RunDirectory(tmp_path)
    telemetry = Telemetry(run=run)
    assert telemetry.read().disk is None
    run.checkpoints_dir.mkdir()
    disk = telemetry.read().disk
    assert disk is not None and disk.free > 0 and disk.checkpoint is None
    for step, size in ((5, 10), (12, 2000)):
        checkpoint = run.checkpoints_dir / f"step-{step:08d}"
        checkpoint.mkdir()
        (checkpoint / "model.safetensors").write_bytes(bytes(size))
        (checkpoint / "checkpoint.json").write_text("{}")
        (checkpoint / "link").symlink_to(__file__)
    os.utime(run.checkpoints_dir, (1, 1))
    assert telemetry.read().disk.checkpoint == 2002
    monkeypatch.setattr(RunDirectory, "checkpoints", lambda _: 1 / 0)
    assert telemetry.read().disk.checkpoint == 2002


def test_it_never_imports_torch():
    """A viewer that imported torch.cuda would take GPU memory of its own."""
    code = "import sys; from minigpt.telemetry import Telemetry; Telemetry(wants_gpu=True).read(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
