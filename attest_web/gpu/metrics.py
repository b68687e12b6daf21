"""Metrics of this machine's GPUs, by NVIDIA's management library (NVML).

NVML comes with the driver. Without it, there are no metrics and no warning. A driver that hangs does not block a
scrape: the metrics are left out then.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from attest_web.process.daemon_threads import DaemonThreads

logger = logging.getLogger(__name__)

NVML_WAIT = 2.0
"""Seconds that a scrape waits for NVML."""


@dataclass(frozen=True)
class _Figure:
    name: str
    help: str
    read: Callable[[Any, Any], float]


_FIGURES = (
    _Figure(
        "tee_gpu_utilization_ratio",
        "Part of the last sample period in which a kernel was running.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    _Figure("tee_gpu_memory_used_bytes", "Memory in use.", lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    _Figure(
        "tee_gpu_memory_total_bytes", "Memory there is.", lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total
    ),
    _Figure("tee_gpu_power_watts", "Power drawn.", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    _Figure(
        "tee_gpu_temperature_celsius",
        "Temperature of the GPU.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
)


class GpuFigures(Collector):
    """Queries NVML when metrics are collected."""

    def __init__(self, nvml: Any) -> None:
        """Keep the library; nothing is queried yet.

        Args:
            nvml: The module `pynvml`, or one like it.
        """
        self._nvml = nvml
        self._thread = DaemonThreads("nvml", 1)
        self._lock = threading.Lock()
        self._asking: Future[list[Metric]] | None = None
        self._is_there: bool | None = None

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without a query."""
        return iter([GaugeMetricFamily(figure.name, figure.help, labels=["gpu"]) for figure in _FIGURES])

    def collect(self) -> Iterator[Metric]:
        """Query NVML, and wait for `NVML_WAIT` seconds."""
        with self._lock:  # a query that hangs is not repeated until it returns
            if self._asking is None or self._asking.done():
                self._asking = self._thread.submit(self._ask)
            asking = self._asking
        try:
            return iter(asking.result(NVML_WAIT))
        except TimeoutError:
            logger.warning("NVML does not answer within %g s: no figures of the GPU", NVML_WAIT)
            return iter([])

    def _ask(self) -> list[Metric]:
        nvml = self._nvml
        if self._is_there is None:
            try:
                nvml.nvmlInit()
                self._is_there = True
            except nvml.NVMLError:
                self._is_there = False
        if not self._is_there:
            return []
        families: list[Metric] = []
        for figure in _FIGURES:
            family = GaugeMetricFamily(figure.name, figure.help, labels=["gpu"])
            for number in range(nvml.nvmlDeviceGetCount()):
                try:
                    family.add_metric([str(number)], figure.read(nvml, nvml.nvmlDeviceGetHandleByIndex(number)))
                except nvml.NVMLError:
                    continue  # not every GPU, and no virtual one, reports everything
            families.append(family)
        return families

    def close(self) -> None:
        """Stop the thread."""
        self._thread.close()
