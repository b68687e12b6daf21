"""A worker's process in its supervisor, and the channel to it."""

import asyncio
import signal
import socket
import time
from contextlib import suppress
from typing import Final

from addons.launcher.worker_ipc import MAX_PACKET, Ready, Retire

READY_TIMEOUT: Final = 60.0
"""Seconds that a worker may take to start. dstack may take half of them: 30 s for all of its responses."""


class Worker:
    """A worker's process and the channel to it.

    Attributes:
        number: Its number, which no other living worker has, those that retire included.
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
        """Wait until the worker serves; return False if it ended before.

        Raises:
            TimeoutError: It was not ready within `READY_TIMEOUT`.
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
        """Seconds since the worker was ready; 0 if it is not."""
        return time.monotonic() - self._ready_at if self._ready_at is not None else 0.0

    def retire(self, how: Retire) -> None:
        """Notify the worker that another one has its slot."""
        with suppress(OSError):
            self._channel.send(how.packet())

    def send_signal(self, which: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        self.told_to_stop = True
        with suppress(ProcessLookupError):
            self._process.send_signal(which)

    async def ended(self) -> int:
        """Wait for the end of the process; return the exit status, or the negative number of a signal."""
        status = await self._process.wait()
        self._channel.close()
        return status
