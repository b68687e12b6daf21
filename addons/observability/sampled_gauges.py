"""Gauges that are looked at once a second, which costs nothing per request."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import Gauge

EVERY: Final = 1.0
"""Seconds from one look to the next."""


class SampledGauges:
    """Sets gauges to what is counted elsewhere."""

    def __init__(self, gauges: Mapping[Gauge, Callable[[], int]]) -> None:
        """Look at nothing yet.

        Args:
            gauges: What each is set to.
        """
        self._gauges = gauges
        self._task: asyncio.Task[None] | None = None

    def running(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._look())

    def done(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            for gauge, count in self._gauges.items():
                gauge.set(count())
            await asyncio.sleep(EVERY)
