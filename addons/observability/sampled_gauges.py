"""Gauges that are sampled once a second, at no cost per request."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import Gauge

EVERY: Final = 1.0
"""Seconds between samples."""


class SampledGauges:
    """Sets gauges to values that other objects keep."""

    def __init__(self, gauges: Mapping[Gauge, Callable[[], int]]) -> None:
        """Make the addon; nothing is sampled yet.

        Args:
            gauges: The function that returns the value of each gauge.
        """
        self._gauges = gauges
        self._task: asyncio.Task[None] | None = None

    def running(self) -> None:
        """Start to sample."""
        self._task = asyncio.get_running_loop().create_task(self._look())

    def done(self) -> None:
        """Stop sampling."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            for gauge, count in self._gauges.items():
                gauge.set(count())
            await asyncio.sleep(EVERY)
