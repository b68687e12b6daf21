"""How long a test waits for what has to come. A limit only ends a test that hangs, so it grows with the machine's load.

Where several processes want each of the CPUs, each of them takes so many times as long. The load average says how many
there have been in the last minute; beside it stands how many there are now, which is known before the average rises.
"""

import os
import time
from pathlib import Path

_LOAD = Path("/proc/loadavg")
MOST = 10.0
"""What a limit is multiplied by at most: what hangs must end some time, on the busiest machine, too."""


def load_factor(loadavg: str, cpus: int) -> float:
    """How many times as long as on an idle machine something takes.

    Args:
        loadavg: As `/proc/loadavg` has it (proc_loadavg(5)): three averages, then `runnable/all`, and more.
        cpus: How many CPUs there are.

    Returns:
        1 where nothing has to wait for a CPU, and at most `MOST`.
    """
    last_minute, _, _, entities = loadavg.split()[:4]
    wanting = max(float(last_minute), float(entities.partition("/")[0]))
    return min(MOST, max(1.0, wanting / cpus))


def limit(seconds: float = 10) -> float:
    """How long to wait, in seconds, for what takes much less than so many on an idle machine."""
    try:
        loadavg = _LOAD.read_text()
    except OSError:
        loadavg = f"{os.getloadavg()[0]} 0 0 0/0"
    return seconds * load_factor(loadavg, len(os.sched_getaffinity(0)))


class Deadline:
    """The end of a wait that looks again and again; it moves away where the machine becomes busy meanwhile."""

    def __init__(self, seconds: float = 10) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until then; not above 0 when it has come."""
        return self._began + limit(self._seconds) - time.monotonic()
