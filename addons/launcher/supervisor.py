"""`tee-signer --workers N`: several proxies at the same ports, and one process that supervises them.

Each worker has a slot: a socket for the port that clients use and one for the side port. All slots' sockets share
their port (SO_REUSEPORT), and the kernel distributes the connections over them. The supervisor keeps all of them open,
so that a connection that has not been accepted yet waits for the next worker in that slot. It handles no traffic itself
and does not run mitmproxy, so that it has fewer causes of failure.

- A worker that ends is replaced; after repeated failures, with growing pauses. If no worker ever lives, the supervisor
  gives up.
- SIGTERM and SIGINT are passed to all workers; the supervisor ends after the last of them.
- SIGHUP replaces the workers, one slot after the other. A new one takes the slot when it serves, and only then does
  the old one retire (`addons.lifecycle.drain`). If one cannot start, the others stay.
- All workers serve the same TLS key, also if dstack makes it (`addons.launcher.supervised_tls`).
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from addons.launcher.restarts import MAX_FIRST_ATTEMPTS, SHORT_LIFE, Restarts
from addons.launcher.supervised_tls import STOPPED, first_tls_file, next_tls_file
from addons.launcher.worker_ipc import Retire
from addons.launcher.worker_process import Worker
from addons.launcher.worker_starter import Generation, WorkerStarter
from addons.observability.log_output import LogOutput
from attest_web.dstack.endpoint import quiet_libraries, warn_of_simulator
from attest_web.process.core_dumps import forbid_core_dumps
from attest_web.process.json_log import json_formatter
from attest_web.process.listening import listen_reuseport
from attest_web.process.memory_file import MemoryFile
from attest_web.process.shared_directory import shared_directory
from attest_web.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

GRACE: Final = 15.0
"""Seconds that a worker may take to end, in addition to `DRAIN_SECONDS`."""


@dataclass(frozen=True)
class SupervisorConfig:
    """The configuration of a supervisor.

    Attributes:
        arguments: The arguments of the command line, which the workers get, too.
        workers: Number of workers.
        listen_host: Address to listen at; empty for all addresses of this machine.
        verbosity: Log level; None for that of the settings.
        read_settings: Reads the current settings, from the environment and its file. Raises SettingsError.
    """

    arguments: Sequence[str]
    workers: int
    listen_host: str
    verbosity: str | None
    read_settings: Callable[[], Settings]


@dataclass
class Slot:
    """The sockets of one worker, and the worker.

    Attributes:
        number: The slot's number, from 1.
        listeners: The sockets for the port that clients use, and for the side port.
        worker: The worker in the slot; None while the slot is empty.
        restarts: Decides when the next attempt to fill the slot is made.
    """

    number: int
    listeners: tuple[socket.socket, socket.socket]
    worker: Worker | None = None
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    """Starts, replaces and stops the workers."""

    def __init__(
        self,
        config: SupervisorConfig,
        settings: Settings,
        slots: Sequence[Slot],
        directory: Path,
        tls_file: MemoryFile | None,
    ) -> None:
        """Make the supervisor; nothing is started yet.

        Args:
            config: The configuration.
            settings: The current settings.
            slots: The slots of the workers.
            directory: The workers' shared directory: for metrics, and for signatures if no other store is set.
            tls_file: Key and chain of TLS, if dstack makes them.
        """
        self._config = config
        self._generation = Generation(settings, tls_file)
        self._slots = slots
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._starter = WorkerStarter(config.arguments, config.workers, directory, self._stopping.is_set)
        self._replacing: asyncio.Task[None] | None = None
        self._replace_again = False
        self._has_served = False
        self._gives_up = False

    async def run(self) -> int:
        """Run the workers until a signal stops the supervisor; return the exit status."""
        loop = asyncio.get_running_loop()
        for how in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(how, self._stop, how)
        loop.add_signal_handler(signal.SIGHUP, self._on_sighup)
        # The first worker is started alone, so that a problem of the settings is logged once.
        if not await self._fill(self._slots[0]) and not self._stopping.is_set():
            await self._end()
            return 1
        for slot in self._slots[1:]:
            self._begin(self._keep_filled(slot))
        await self._stopping.wait()
        await self._end()
        return int(self._gives_up)

    def _stop(self, how: signal.Signals) -> None:
        self._stopping.set()
        for slot in self._slots:  # a connection must not wait where it will not be accepted
            for listener in slot.listeners:
                listener.close()
        for worker in self._starter.alive:
            worker.send_signal(how)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for worker in self._starter.alive:
            if not worker.told_to_stop:  # it was just being started
                worker.send_signal(signal.SIGTERM)
        ends = [asyncio.create_task(worker.ended()) for worker in self._starter.alive]
        if not ends:
            return
        _, late = await asyncio.wait(ends, timeout=self._generation.settings.drain_seconds + GRACE)
        if late:
            logger.warning("%d workers do not end: killing them", len(late))
            for worker in self._starter.alive:
                worker.send_signal(signal.SIGKILL)
            await asyncio.wait(late)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_filled(self, slot: Slot) -> None:
        """Fill an empty slot, with as many attempts as it takes."""
        while not self._stopping.is_set() and not await self._fill(slot):
            slot.restarts.failed()
            logger.error("worker %d cannot start; another attempt follows in %g s", slot.number, slot.restarts.pause)
            await self._pause(slot)

    async def _pause(self, slot: Slot) -> None:
        """Wait until the next attempt to fill a slot is due; or give up, if no worker has ever lived long."""
        self._has_served = self._has_served or any(worker.served() >= SHORT_LIFE for worker in self._starter.alive)
        if slot.restarts.exhausted and not self._has_served:
            logger.error(
                "no worker has lived for %g s after it was ready, in %d attempts: giving up. What is above says why",
                SHORT_LIFE,
                MAX_FIRST_ATTEMPTS,
            )
            self._gives_up = True
            self._stop(signal.SIGTERM)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), slot.restarts.pause)

    async def _fill(self, slot: Slot) -> bool:
        """Start a worker for a slot, and give it the slot when it serves; return False if it cannot start."""
        worker = await self._starter.start(slot.number, slot.listeners, self._generation)
        if worker is None:
            return False
        slot.worker, before = worker, slot.worker
        if before is not None:
            before.retire(Retire(self._generation.settings.token))
        self._begin(self._watch(slot, worker))
        return True

    async def _watch(self, slot: Slot, worker: Worker) -> None:
        """Wait for a worker's end, and fill its slot if no other worker has it."""
        status = await worker.ended()
        self._starter.forget(worker)
        if slot.worker is not worker or self._stopping.is_set():
            return
        slot.worker = None
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        slot.restarts.ended(worker.served())
        self._has_served = self._has_served or worker.served() >= SHORT_LIFE
        after = f" in {slot.restarts.pause:g} s" if slot.restarts.pause else ""
        logger.error(
            "worker %d (process %d) ended %s; another one takes its place%s", slot.number, worker.pid, how, after
        )
        await self._pause(slot)
        await self._keep_filled(slot)

    def _on_sighup(self) -> None:
        if self._replacing is None or self._replacing.done():
            self._replacing = self._begin(self._replace_all())
        else:
            self._replace_again = True

    async def _replace_all(self) -> None:
        again = True
        while again and not self._stopping.is_set():
            self._replace_again = False
            await self._replace_once()
            again = self._replace_again

    async def _replace_once(self) -> None:
        before = self._generation
        try:
            settings = self._config.read_settings()
            tls_file = await next_tls_file(before.tls_file, before.settings, settings)
        except SettingsError as error:
            for problem in error.problems:
                logger.error("SIGHUP: %s", problem)
            logger.error("SIGHUP: the workers stay as they are")
            return
        for name in ("listen_port", "attest_port"):
            if getattr(settings, name) != getattr(before.settings, name):
                logger.warning("SIGHUP: %s stays as it is; restart to change it", name.upper())
        self._generation = Generation(settings, tls_file)
        for slot in self._slots:
            if not await self._fill(slot):
                if slot is self._slots[0]:
                    self._generation = before
                logger.error("SIGHUP: a new worker %d does not start; the others stay as they are", slot.number)
                return
        logger.info("SIGHUP: all workers are new")


def supervise(config: SupervisorConfig) -> int:
    """Run workers until a signal stops them; return the exit status.

    Raises:
        SettingsError: A setting is missing or wrong, a port cannot be opened, or dstack returns no TLS key.
    """
    logging.basicConfig(
        level=(config.verbosity or "info").upper(),
        format="[%(asctime)s] %(message)s",
        datefmt="%H:%M:%S",
        stream=LogOutput(sys.stdout.fileno()),
    )
    settings = config.read_settings()
    logging.getLogger().setLevel((config.verbosity or settings.log_level).upper())
    if settings.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(json_formatter())
    forbid_core_dumps()
    quiet_libraries()
    warn_of_simulator(dev=settings.dev)
    return asyncio.run(_supervise(config, settings))


async def _supervise(config: SupervisorConfig, settings: Settings) -> int:
    # The ports are opened after this: clients that connected earlier would have to wait for the key.
    tls_file = await first_tls_file(settings)
    if tls_file is STOPPED:
        return 0
    ports = [("LISTEN_PORT", settings.listen_port), ("ATTEST_PORT", settings.attest_port)]
    listeners = [_listen(name, config.listen_host, port, config.workers) for name, port in ports]
    slots = [Slot(number, pair) for number, pair in enumerate(zip(*listeners, strict=True), 1)]
    with shared_directory() as directory:
        supervisor = Supervisor(config, settings, slots, directory, tls_file)
        del tls_file  # so that the supervisor can free it when it gets another one
        return await supervisor.run()


def _listen(name: str, host: str, port: int, how_many: int) -> list[socket.socket]:
    try:
        return listen_reuseport(host, port, how_many)
    except OSError as error:
        problem = f"{name} {port} cannot be opened: {error.strerror}. Free it or set another"
        raise SettingsError([problem]) from None
