"""Reading the machine: with a GPU, without, with half an answer, and never through torch."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from minigpt.telemetry import Telemetry


class FakeNVMLError(Exception):
    pass


def fake_nvml(uuids, **answers):
    """NVML with devices of these uuids; an answer given as None is one that the driver refuses."""

    def answer(name, value):
        def function(*_arguments):
            chosen = answers.get(name, value)
            if chosen is None:
                raise FakeNVMLError(name)
            return chosen

        return function

    module = SimpleNamespace(NVMLError=FakeNVMLError, NVML_TEMPERATURE_GPU=0)
    module.nvmlInit = answer("init", True)
    module.nvmlDeviceGetCount = lambda: len(uuids)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetHandleByUUID = uuids.index
    module.nvmlDeviceGetUUID = lambda handle: uuids[handle]
    # The memory in use tells which device was asked.
    module.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(used=handle + 1, total=100)
    module.nvmlDeviceGetName = answer("name", "RTX 4060")
    module.nvmlDeviceGetPowerUsage = answer("power", 91_400)
    module.nvmlDeviceGetUtilizationRates = answer("utilization", SimpleNamespace(gpu=87))
    module.nvmlDeviceGetTemperature = answer("temperature", 62)
    return module


@pytest.fixture
def install_nvml(monkeypatch):
    def install(uuids, **answers):
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(uuids, **answers))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


UUIDS = ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3"]


def test_host_and_own_process():
    reading = Telemetry(pid=os.getpid()).read()
    assert 0 < reading.host.used < reading.host.total
    assert reading.host.cores >= 1
    assert reading.process is not None
    assert reading.process.rss > 1 << 20
    assert reading.gpu is None


def test_a_process_that_has_gone_is_none():
    """The numbers of a run that ended must not stay on the screen as if it went on."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    telemetry = Telemetry(pid=process.pid)
    assert telemetry.read().process is not None
    process.communicate()
    assert telemetry.read().process is None
    assert Telemetry(pid=process.pid).read().process is None


def test_without_a_gpu_in_use_no_driver_is_asked(install_nvml):
    """Opening NVML takes tens of milliseconds, and a gauge for a GPU that the run does not use says nothing."""
    install_nvml(UUIDS, init=None)
    assert Telemetry().read().gpu is None


@pytest.mark.parametrize("uuid", ["GPU-bbbb-2", "bbbb-2", "GPU-BBBB-2"])
def test_the_device_is_found_by_uuid(install_nvml, monkeypatch, uuid):
    """torch writes uuids without NVML's prefix; and NVML's numbers are not CUDA's under CUDA_VISIBLE_DEVICES."""
    install_nvml(UUIDS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpu = Telemetry(gpu_uuid=uuid).read().gpu
    assert gpu is not None
    assert (gpu.used, gpu.utilization, gpu.temperature, gpu.watts) == (2, 87, 62, pytest.approx(91.4))


@pytest.mark.parametrize(
    ("visible", "used"),
    [(None, 1), ("2,0", 3), ("GPU-cccc-3", 3), ("GPU-bb", 2), ("", None), ("7", None), ("-1", None)],
)
def test_without_a_uuid_the_first_visible_device_is_taken(install_nvml, monkeypatch, visible, used):
    install_nvml(UUIDS)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = Telemetry(wants_gpu=True).read().gpu
    assert (gpu.used if gpu else None) == used


def test_what_a_driver_refuses_is_none(install_nvml):
    """A partitioned GPU tells its memory and nothing else."""
    install_nvml(UUIDS, utilization=None, temperature=None, power=None)
    gpu = Telemetry(wants_gpu=True).read().gpu
    assert gpu is not None
    assert (gpu.used, gpu.utilization, gpu.temperature, gpu.watts) == (1, None, None, None)


@pytest.mark.parametrize(
    ("uuids", "answers", "asked"),
    [(UUIDS, {"init": None}, None), ([], {}, None), (UUIDS, {}, "GPU-dddd-4")],
    ids=["no driver", "no device", "unknown uuid"],
)
def test_without_such_a_device_there_is_no_gauge(install_nvml, uuids, answers, asked):
    install_nvml(uuids, **answers)
    assert Telemetry(wants_gpu=True, gpu_uuid=asked).read().gpu is None


def test_it_never_imports_torch():
    """A viewer that imported torch.cuda would take GPU memory of its own."""
    code = "import sys; from minigpt.telemetry import Telemetry; Telemetry(wants_gpu=True).read(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
