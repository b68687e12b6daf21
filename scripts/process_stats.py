"""A process's statistics from the kernel: memory, threads, open files (proc(5))."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessStats:
    """Statistics of a process at one time.

    Attributes:
        resident: Memory that it holds, in bytes.
        threads: How many threads it has.
        sockets: How many sockets it has open.
        files: How many files it has open, including sockets.
    """

    resident: int
    threads: int
    sockets: int
    files: int


def process_stats(pid: int) -> ProcessStats:
    """The current statistics of a process.

    Raises:
        OSError: It has ended, or is another user's.
    """
    opened = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            opened.append(str(link.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    sockets = sum(target.startswith("socket:") for target in opened)
    return ProcessStats(_status(pid, "VmRSS") * 1024, _status(pid, "Threads"), sockets, len(opened))


def peak(pid: int) -> int:
    """Peak memory of a process since its start or since `forget_peak`, in bytes."""
    return _status(pid, "VmHWM") * 1024


def forget_peak(pid: int) -> int:
    """Reset the peak memory of a process; return its current memory, in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS") * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system; it may exclude threads that have ended."""
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except (OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = [
            child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in tree(int(child)))]


def _status(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f"process {pid} has ended")
    return int(found[1])
