"""A worker as its supervisor sees it: a process, and the channel to it."""

import asyncio
import signal
import socket
import time
from contextlib import suppress
from typing import Final

from addons.launcher.worker_ipc import MAX_PACKET, Ready, Retire

READY_TIMEOUT: Final = 60.0
"""Seconds that a worker may take to begin. dstack may take half of that for the keys: 30 s for all of its answers."""


class Worker:
    """A worker's process and the channel to it.

    Attributes:
        number: No other worker that is alive has it; those that are about to retire count.
    """

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket, number: int) -> None:
        self.number = number
        self._process = process
        self._channel = channel
        self.pid = process.pid
        self._ready_at: float | None = None
        self.addresses: tuple[str, ...] = ()
        self.told_to_stop = False

    async def ready(self) -> bool:
        """Wait until it serves; False where it never will.

        Raises:
            TimeoutError: It has not begun within `READY_TIMEOUT`.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(READY_TIMEOUT):
            try:
                self.addresses = Ready.read(await loop.sock_recv(self._channel, MAX_PACKET)).addresses
            except (OSError, ValueError):
                return False
        self._ready_at = time.monotonic()
        return True

    def served(self) -> float:
        """Seconds since it was ready; 0 where it is not."""
        return time.monotonic() - self._ready_at if self._ready_at is not None else 0.0

    def retire(self, how: Retire) -> None:
        """Tell it that another one has its slot."""
        with suppress(OSError):
            self._channel.send(how.packet())

    def send_signal(self, which: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        self.told_to_stop = True
        with suppress(ProcessLookupError):
            self._process.send_signal(which)

    async def ended(self) -> int:
        """Wait for its end; return the exit status, below 0 that of a signal."""
        status = await self._process.wait()
        self._channel.close()
        return status
