"""Several workers of `tee-signer`, and the states of their processes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.support.processes import Proxy, start_proxy
from tests.support.limits import Deadline

WORKERS = 3


@contextmanager
def started(upstream: str, *arguments: str, workers: int = WORKERS, **settings: str) -> Iterator[Proxy]:
    """Workers that a test may stop itself. All of them serve."""
    process = start_proxy(upstream, "--workers", str(workers), *arguments, program="tee-signer", **settings)
    try:
        for number in range(1, workers + 1):
            ports = [
                process.wait_for(rf"worker {number}: .*{what}(\d+)|{what}(\d+).*\"worker\": {number}\b")  # or as JSON
                for what in (r"listening at 127\.0\.0\.1:", "proof pages on side port ")
            ]
        port, side_port = (int(found[1] or found[2]) for found in ports)
        yield Proxy(process, port, side_port)
    finally:
        pids = children(process.popen.pid)
        if process.popen.poll() is None:
            process.stop()
        for pid in pids:
            until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        assert "Traceback" not in process.output


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Poll for a condition that no event reports."""
    deadline = Deadline(seconds)
    while not condition():
        assert deadline.left > 0, "it never came to that"
        time.sleep(0.02)
