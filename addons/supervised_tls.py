"""The TLS key that a supervisor has dstack make for all its workers (`TLS_FROM_DSTACK=1`).

The agent makes another key at each call, so the supervisor asks, and hands what it got to every worker. SIGHUP keeps
it: old and new workers then show clients the same key while both serve, and a report of either binds it. Only other
names in `TLS_ALT_NAMES` have a new one made; the old workers keep theirs while they drain.
"""

import asyncio

from attest_web.daemon_threads import DaemonThreads
from attest_web.memory_file import MemoryFile
from attest_web.settings import Settings


def make_shared_tls_file(settings: Settings) -> MemoryFile | None:
    """Key and chain by the settings; None where they do not have dstack make any. Blocks.

    Raises:
        SettingsError: They cannot be had.
    """
    if not settings.tls_from_dstack:
        return None
    # A supervisor loads what talks to dstack only where it has to talk to it.
    from attest_web.dstack import Dstack  # noqa: PLC0415
    from attest_web.dstack_tls import make_tls_file  # noqa: PLC0415

    return make_tls_file(settings, Dstack())


async def next_tls_file(current: MemoryFile | None, before: Settings, settings: Settings) -> MemoryFile | None:
    """Key and chain for the workers to come.

    Args:
        current: What the present workers have.
        before: The settings by which it was made.
        settings: Those of the workers to come.

    Raises:
        SettingsError: They cannot be had.
    """
    if current is not None and settings.tls_from_dstack and settings.tls_names == before.tls_names:
        return current
    threads = DaemonThreads("dstack", 1)  # one that waits for a hung agent holds up no stop
    try:
        return await asyncio.wrap_future(threads.submit(make_shared_tls_file, settings))
    finally:
        threads.close()
