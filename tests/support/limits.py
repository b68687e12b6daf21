"""How long a test waits for an event. A limit only ends a test that hangs, so it grows with the machine's load.

Where several processes want each of the CPUs, each of them takes so many times as long. The load average says how many
there have been in the last minute; beside it stands how many there are now, which is known before the average rises.
"""

import os
import time
from pathlib import Path

_LOAD = Path("/proc/loadavg")
MOST = 10.0
"""The largest factor of a limit: a test that hangs must end, also on the busiest machine."""


def load_factor(loadavg: str, cpus: int) -> float:
    """The estimated slowdown of this machine, compared with an idle one.

    Args:
        loadavg: The content of `/proc/loadavg` (proc_loadavg(5)): three averages, then `runnable/all`, and more.
        cpus: Number of CPUs.

    Returns:
        1 if no process has to wait for a CPU, and at most `MOST`.
    """
    last_minute, _, _, entities = loadavg.split()[:4]
    wanting = max(float(last_minute), float(entities.partition("/")[0]))
    return min(MOST, max(1.0, wanting / cpus))


def limit(seconds: float = 10) -> float:
    """A limit in seconds, scaled by the load, for an event that takes much less on an idle machine."""
    try:
        loadavg = _LOAD.read_text()
    except OSError:
        loadavg = f"{os.getloadavg()[0]} 0 0 0/0"
    return seconds * load_factor(loadavg, len(os.sched_getaffinity(0)))


class Deadline:
    """The deadline of a polling wait; it is extended if the machine becomes busy meanwhile."""

    def __init__(self, seconds: float = 10) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 or less after it."""
        return self._began + limit(self._seconds) - time.monotonic()
