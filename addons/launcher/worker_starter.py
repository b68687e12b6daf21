"""Starts workers, and checks that all of them sign with the same keys."""

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from addons.launcher.worker_ipc import WorkerConfig
from addons.launcher.worker_process import READY_TIMEOUT, Worker
from attest_web.keys import random_secrets
from attest_web.process.memory_file import MemoryFile
from attest_web.settings import Settings

logger = logging.getLogger(__name__)

SLOW_START: Final = (
    "worker %d (process %d) did not begin within %g s and is killed: look at what it waits for, which is dstack's "
    "guest agent, the server of SIGNATURE_STORE, or a processor with too much to do"
)


@dataclass
class Generation:
    """What workers share until the settings are read again.

    Attributes:
        settings: The settings of this generation.
        tls_file: Key and chain of TLS, if dstack makes them.
        environment: The environment of the workers, from which the settings were read.
        addresses: The workers' signing addresses; None until the first worker is ready. They depend on the model.
    """

    settings: Settings
    tls_file: MemoryFile | None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    addresses: tuple[str, ...] | None = None


class WorkerStarter:
    """Starts workers.

    Attributes:
        alive: The workers that have not ended, including those that retire.
    """

    def __init__(self, arguments: Sequence[str], workers: int, directory: Path, stopping: Callable[[], bool]) -> None:
        """Make the starter.

        Args:
            arguments: The arguments of the command line, which the workers get, too.
            workers: Number of workers that serve at once.
            directory: The workers' shared directory: for metrics, and for signatures if no other store is set.
            stopping: Whether all workers are being stopped; a worker that is not ready yet then stops as they do.
        """
        self._arguments = arguments
        self._workers = workers
        self._directory = directory
        self._stopping = stopping
        ecdsa_secret, ed25519_seed = random_secrets()
        self._secrets = ecdsa_secret.hex(), ed25519_seed.hex()
        self.alive: set[Worker] = set()

    async def start(
        self, number: int, listeners: tuple[socket.socket, socket.socket], generation: Generation
    ) -> Worker | None:
        """Start a worker, and wait until it serves; None if it cannot start, or has other keys than the others.

        Args:
            number: Number of the slot.
            listeners: Sockets of the slot.
            generation: What the worker shares with others.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "addons.launcher.worker", str(theirs.fileno()), *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                env=generation.environment,
                pass_fds=[theirs.fileno()],
                process_group=0,  # so Ctrl-C reaches only the supervisor, which passes it on
            )
        worker = Worker(process, ours, next(n for n in itertools.count(1) if all(w.number != n for w in self.alive)))
        self.alive.add(worker)
        config = WorkerConfig(
            number,
            self._workers,
            f"sqlite://{self._directory}/signatures.db",
            f"{self._directory}/metrics",
            worker.number,
            self._secrets if generation.settings.dev else None,
        )
        with suppress(OSError):  # the worker has ended already
            config.send(ours, listeners, generation.tls_file)
        ours.setblocking(False)
        if await self._becomes_ready(worker, number, generation):
            return worker
        worker.send_signal(signal.SIGTERM if self._stopping() else signal.SIGKILL)
        await worker.ended()
        self.forget(worker)
        return None

    @staticmethod
    async def _becomes_ready(worker: Worker, number: int, generation: Generation) -> bool:
        try:
            if not await worker.ready():
                return False
        except TimeoutError:
            logger.error(SLOW_START, number, worker.pid, READY_TIMEOUT)
            return False
        if generation.addresses is None:
            generation.addresses = worker.addresses
        if generation.addresses != worker.addresses:
            logger.error("worker %d has other signing keys than the others", number)
            return False
        return True

    def forget(self, worker: Worker) -> None:
        """Note that a worker has ended."""
        self.alive.discard(worker)
        mark_process_dead(worker.number, str(self._directory / "metrics"))  # type: ignore[no-untyped-call]
