"""What the GPUs are doing, by a stand-in for NVML; and by NVML itself, where there is one."""

import threading
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from attest_web.gpu import metrics as gpu_metrics
from attest_web.gpu.metrics import GpuFigures


class NvmlError(Exception):
    pass


class Nvml:
    """Two GPUs, of which the second one does not tell its power."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *, is_there: bool = True) -> None:
        self._is_there = is_there
        self.may_answer = threading.Event()
        self.may_answer.set()

    def nvmlInit(self) -> None:  # noqa: N802
        if not self._is_there:
            raise NvmlError

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self.may_answer.wait()
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=40 + gpu)

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=2**30, total=2**36)

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:  # noqa: N802
        if gpu:
            raise NvmlError
        return 350_500

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:  # noqa: N802
        return 60 + gpu


def figures(collector: GpuFigures) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels["gpu"]): sample.value for family in collector.collect() for sample in family.samples
    }


def test_every_gpu_has_metrics_in_base_units() -> None:
    assert figures(GpuFigures(Nvml())) == {
        ("tee_gpu_utilization_ratio", "0"): 0.40,
        ("tee_gpu_utilization_ratio", "1"): 0.41,
        ("tee_gpu_memory_used_bytes", "0"): 2**30,
        ("tee_gpu_memory_used_bytes", "1"): 2**30,
        ("tee_gpu_memory_total_bytes", "0"): 2**36,
        ("tee_gpu_memory_total_bytes", "1"): 2**36,
        ("tee_gpu_power_watts", "0"): 350.5,
        ("tee_gpu_temperature_celsius", "0"): 60,
        ("tee_gpu_temperature_celsius", "1"): 61,
    }


def test_gpu_metrics_without_a_gpu_are_empty(caplog: pytest.LogCaptureFixture) -> None:
    assert figures(GpuFigures(Nvml(is_there=False))) == {}
    assert caplog.text == ""


def test_a_driver_that_hangs_does_not_block_a_scrape(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu_metrics, "NVML_WAIT", 0.05)
    nvml = Nvml()
    collector = GpuFigures(nvml)
    nvml.may_answer.clear()
    assert figures(collector) == {}
    assert figures(collector) == {}
    assert "NVML does not answer" in caplog.text
    nvml.may_answer.set()
    monkeypatch.setattr(gpu_metrics, "NVML_WAIT", 10)
    assert figures(collector)


def test_nvml_itself_is_queried_without_errors() -> None:
    for (name, _), value in figures(GpuFigures(pynvml)).items():
        assert name.startswith("tee_gpu_")
        assert value >= 0
