"""Real processes, started and stopped; their output is read as it is written."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.limits import Deadline, limit

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "addons" / "tee_signer.py"
BIN = Path(sys.executable).parent
TOKEN = "s3cret-token"
MODEL = "demo-model"
START_TIMEOUT = 30.0

PROGRAM = os.environ.get("PROXY_PROGRAM", "mitmdump")
"""The default program of the proxy: `PROXY_PROGRAM=tee-signer scripts/test tests/e2e`."""

PROGRAMS = ("mitmdump", "tee-signer")
"""The programs that have to behave alike."""


class Process:
    """A running program, and everything it has written to its standard output and error."""

    def __init__(self, command: Sequence[str | Path], env: dict[str, str], cwd: Path | None = None) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.popen = subprocess.Popen(
            [str(part) for part in command],
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = START_TIMEOUT) -> re.Match[str]:
        """Wait until the output has a match; fail if there is none in time. The limit is that of an idle machine."""
        deadline = Deadline(timeout)
        with self._changed:
            while True:
                text = "".join(self._lines)
                if found := re.search(pattern, text):
                    return found
                if self._ended or deadline.left <= 0:
                    raise AssertionError(f"{pattern!r} never came in:\n{text}")
                self._changed.wait(max(0.0, deadline.left))

    def wait(self, timeout: float = START_TIMEOUT) -> int:
        """Wait for the end; return the exit status. The limit is that of an idle machine."""
        status = self.popen.wait(limit(timeout))
        self._reader.join(limit(timeout))
        return status

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = 15) -> int:
        """Send a signal and wait for the end; return the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise


def clean_env(**settings: str) -> dict[str, str]:
    """This process's environment without settings of the proxy, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "LANG", "PYENV_ROOT", "TMPDIR") or name.startswith(("PIP_", "SSL_", "COVERAGE_"))
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | settings


@dataclass(frozen=True)
class Proxy:
    """A running proxy and where it listens."""

    process: Process
    port: int
    side_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def side_url(self) -> str:
        return f"http://127.0.0.1:{self.side_port}"


def start_proxy(
    upstream: str, *arguments: str, program: str | None = None, script: str = str(SCRIPT), **given: str
) -> Process:
    """Start a program with the addon; do not wait until it is ready.

    Args:
        upstream: Base URL of the model server.
        arguments: What else is on its command line.
        program: `tee-signer`, or one of mitmproxy's; by default `PROGRAM`.
        script: What mitmproxy's programs are given for the addon.
        given: Settings; an empty one is left out.
    """
    program = program or PROGRAM
    settings = {
        "MODEL_NAME": MODEL,
        "TOKEN": f"other-token,{TOKEN}",
        "DEV": "1",
        "ATTEST_PORT": "0",
        "INSPECT_PLAINTEXT": "0",
        "DRAIN_SECONDS": "1",  # requests that a test leaves under way are not awaited
        "RATE_LIMIT_PER_SECOND": "0",  # all of a test's clients are one address
    } | given
    command: list[str | Path] = [BIN / program, "--listen-host", "127.0.0.1"]
    if program == "tee-signer":
        settings = {"VLLM_BASE_URL": upstream, "LISTEN_PORT": "0"} | settings
    else:
        command += ["-s", script, "--mode", f"reverse:{upstream}", "-p", "0"]
    return Process([*command, *arguments], clean_env(**{k: v for k, v in settings.items() if v}))


@contextmanager
def running_proxy(
    upstream: str, *arguments: str, program: str | None = None, script: str = str(SCRIPT), **settings: str
) -> Iterator[Proxy]:
    """A proxy in front of an upstream, for as long as the context lasts. It must start and stop cleanly."""
    process = start_proxy(upstream, *arguments, program=program, script=script, **settings)
    try:
        side_port = int(process.wait_for(r"proof pages on side port (\d+)")[1])
        port = int(process.wait_for(r"listening at 127\.0\.0\.1:(\d+)")[1])
        yield Proxy(process, port, side_port)
    finally:
        status = process.stop()
    assert status == 0, f"it ended with status {status}:\n{process.output}"
    assert "Traceback" not in process.output
    assert "has crashed" not in process.output


@dataclass(frozen=True)
class Simulator:
    """A running dstack simulator and what it wrote."""

    process: Process
    socket: Path
    root: Path
    collateral: Path

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which a proxy uses it, with NVIDIA's canned evidence."""
        return {"DSTACK_SIMULATOR_ENDPOINT": str(self.socket), "GPU_NO_HW_MODE": "1"}


@contextmanager
def running_simulator(where: Path, *arguments: str) -> Iterator[Simulator]:
    """A dstack simulator with its socket and files in a directory, for as long as the context lasts."""
    socket, root, collateral = where / "dstack.sock", where / "root.pem", where / "collateral.json"
    script = ROOT / "scripts" / "dstack_simulator.py"
    files: list[str | Path] = ["--socket", socket, "--root", root, "--collateral", collateral]
    process = Process([sys.executable, script, *files, *arguments], clean_env())
    try:
        process.wait_for("listening at")
        yield Simulator(process, socket, root, collateral)
    finally:
        assert process.stop() == 0, process.output


@contextmanager
def running_fake_vllm(*arguments: str) -> Iterator[str]:
    """The fake vLLM, for as long as the context lasts; yields its address."""
    script = ROOT / "scripts" / "stand_in_vllm.py"
    process = Process([sys.executable, script, "--model", MODEL, "--delay", "0", *arguments], clean_env())
    try:
        yield process.wait_for(r"http://\S+")[0]
    finally:
        process.stop()
