"""The TLS key that a supervisor has dstack make for all its workers (`TLS_FROM_DSTACK=1`).

The agent makes another key at each call, so the supervisor asks, and hands what it got to every worker. SIGHUP keeps
it: old and new workers then show clients the same key while both serve, and a report of either binds it. Only other
names in `TLS_ALT_NAMES` have a new one made; the old workers keep theirs while they drain.
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
    """What there is in place of a key where the supervisor was told to stop while it waited for one."""

    STOPPED = "stopped"


STOPPED: Final = Stopped.STOPPED


def make_shared_tls_file(settings: Settings) -> MemoryFile | None:
    """Key and chain by the settings; None where they do not have dstack make any. Blocks.

    Raises:
        SettingsError: They cannot be had.
    """
    if not settings.tls_from_dstack:
        return None
    # A supervisor loads what talks to dstack only where it has to talk to it.
    from attest_web.dstack.guest_agent import Dstack  # noqa: PLC0415
    from attest_web.dstack.served_tls import make_tls_file  # noqa: PLC0415

    return make_tls_file(settings, Dstack())


async def first_tls_file(settings: Settings) -> MemoryFile | Literal[Stopped.STOPPED] | None:
    """Key and chain for the first workers.

    SIGTERM and SIGINT end the wait for it; SIGHUP does nothing meanwhile. The handlers stay until others are set.

    Raises:
        SettingsError: They cannot be had.
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
    """Key and chain for the workers to come.

    Args:
        current: What the present workers have.
        before: The settings by which it was made.
        settings: Those of the workers to come.

    Raises:
        SettingsError: They cannot be had.
    """
    if not settings.tls_from_dstack:
        return None
    if current is not None and settings.tls_names == before.tls_names:
        return current
    threads = DaemonThreads("dstack", 1)  # one that waits for a hung agent holds up no stop
    try:
        return await asyncio.wrap_future(threads.submit(make_shared_tls_file, settings))
    finally:
        threads.close()
