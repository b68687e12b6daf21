"""The TLS key that a supervisor gets from dstack for all its workers (`TLS_FROM_DSTACK=1`).

The guest agent makes another key at each call, so the supervisor calls it once, and passes the key to every worker.
SIGHUP keeps the key: old and new workers then serve clients with the same key at the same time, and the reports of both
bind it. A new key is made only if `TLS_ALT_NAMES` changes; the old workers keep the old one while they drain.
"""

import asyncio
import logging
import signal
from enum import Enum
from typing import Final, Literal

from attest_web.process.daemon_threads import DaemonThreads
from attest_web.process.memory_file import MemoryFile
from attest_web.settings import Settings

logger = logging.getLogger(__name__)


class Stopped(Enum):
    """Replaces the key if the supervisor is stopped while it waits for one."""

    STOPPED = "stopped"


STOPPED: Final = Stopped.STOPPED


def make_shared_tls_file(settings: Settings) -> MemoryFile | None:
    """Get key and chain from dstack; None unless the settings require it. Blocks.

    Raises:
        SettingsError: dstack does not return them.
    """
    if not settings.tls_from_dstack:
        return None
    # Imported only where it is needed.
    from attest_web.dstack.guest_agent import Dstack  # noqa: PLC0415
    from attest_web.dstack.served_tls import make_tls_file  # noqa: PLC0415

    return make_tls_file(settings, Dstack())


async def first_tls_file(settings: Settings) -> MemoryFile | Literal[Stopped.STOPPED] | None:
    """Get key and chain for the first workers.

    SIGTERM and SIGINT end the wait; SIGHUP has no effect meanwhile. The signal handlers stay until others are set.

    Raises:
        SettingsError: dstack does not return them.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for how in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(how, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, logger.warning, "SIGHUP: no worker runs yet; send it again later")
    asked = asyncio.create_task(next_tls_file(None, settings, settings))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({asked, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stopping.is_set():
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return STOPPED
    return asked.result()


async def next_tls_file(current: MemoryFile | None, before: Settings, settings: Settings) -> MemoryFile | None:
    """Key and chain for the next workers.

    Args:
        current: Key and chain of the current workers.
        before: The settings by which they were made.
        settings: The settings of the next workers.

    Raises:
        SettingsError: dstack does not return them.
    """
    if not settings.tls_from_dstack:
        return None
    if current is not None and settings.tls_names == before.tls_names:
        return current
    threads = DaemonThreads("dstack", 1)  # a thread that waits for a hung agent must not delay a stop
    try:
        return await asyncio.wrap_future(threads.submit(make_shared_tls_file, settings))
    finally:
        threads.close()
