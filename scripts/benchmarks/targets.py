"""The programs that `scripts/bench` compares, each in front of a fake model server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.load import MODEL, TOKEN

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

_LISTENING = r"listening at 127\.0\.0\.1:(\d+)"
_SETTINGS = {
    "MODEL_NAME": MODEL,
    "TOKEN": TOKEN,
    "DEV": "1",
    "ATTEST_PORT": "0",
    "INSPECT_PLAINTEXT": "0",
    "RATE_LIMIT_PER_SECOND": "1000000",  # active, as in production, but never reached
    "RATE_LIMIT_BURST_SIZE": "1000000",
    "DRAIN_SECONDS": "1",
    "LISTEN_PORT": "0",
}


@dataclass(frozen=True)
class Target:
    """A program to be measured.

    Attributes:
        key: Its short name.
        name: Its name in reports.
        signs: Whether it signs.
        workers: Number of worker processes.
    """

    key: str
    name: str
    signs: bool
    workers: int = 1

    def command(self, upstream: str) -> list[str]:
        """Its command line."""
        if self.key.startswith("tee-signer"):
            many = ["--workers", str(self.workers)] if self.workers > 1 else []
            return [str(BIN / "tee-signer"), "--listen-host", "127.0.0.1", *many]
        mitmdump = [str(BIN / "mitmdump"), "--listen-host", "127.0.0.1", "-p", "0", "--mode", f"reverse:{upstream}"]
        return [*mitmdump, *(["-s", str(ROOT / "addons/tee_signer.py")] if self.signs else self._streaming())]

    @staticmethod
    def _streaming() -> list[str]:
        return ["--set", "stream_large_bodies=1"]


PLAIN = Target("mitmdump", "mitmdump, streaming, no addon", signs=False)
SCRIPT = Target("script", "mitmdump -s addons/tee_signer.py", signs=True)
LAUNCHER = Target("tee-signer", "tee-signer", signs=True)
TWO_WORKERS = Target("tee-signer-2", "tee-signer --workers 2", signs=True, workers=2)
TARGETS = (PLAIN, SCRIPT, LAUNCHER, TWO_WORKERS)


@dataclass(frozen=True)
class Running:
    """A running program.

    Attributes:
        pid: Its process id.
        port: The port for clients.
    """

    pid: int
    port: int


@contextmanager
def running(target: Target, upstream: str) -> Iterator[Running]:
    """Start a target in front of an upstream; yields when all its ports listen."""
    ready = f"(?s){_LISTENING}.*?side port" + ".*?side port" * (target.workers - 1) if target.signs else _LISTENING
    settings = _SETTINGS | {"VLLM_BASE_URL": upstream} if target.signs else {}
    with _started(target.command(upstream), ready, settings) as (pid, found):
        yield Running(pid, int(found[1]))


@contextmanager
def fake_vllm(delay: float, tokens: int) -> Iterator[tuple[str, int]]:
    """Start a fake model server; yields its address and port."""
    command = [sys.executable, str(ROOT / "scripts/stand_in_vllm.py"), "--model", MODEL]
    command += ["--delay", str(delay), "--tokens", str(tokens), "--keep-alive", "600"]
    with _started(command, r"http://127\.0\.0\.1:(\d+)", {}) as (_, found):
        yield found[0], int(found[1])


@contextmanager
def _started(command: Sequence[str], ready: str, settings: dict[str, str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Start a program; yields its process id and the match once its output matches `ready`."""
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    drain = None
    try:
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if match := re.search(ready, output):
                break
        else:
            sys.exit(f"bench: {' '.join(command)} did not start:\n{output}")
        # Read its further output, so that the pipe does not fill up.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield process.pid, match
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        if drain is not None:
            drain.wait(30)
