"""GPU evidence for the attestation report, collected by a process with NVIDIA's library.

That library cannot share the proxy's environment, writes to standard output and calls a driver that may hang. So it
runs in a process of its own, `attest_web/gpu/evidence_worker.py`, which is started on first use, gets one request at a
time over pipes, and is killed and restarted when it fails.
"""

import json
import os
import select
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from attest_web.gpu.spdm import evidence_nonce

WORKER = Path(__file__).with_name("evidence_worker.py")

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of one line from the worker at most. A GPU's evidence is some 12 KB."""

KILL_TIMEOUT = 5.0
"""Seconds to wait for a killed worker. One that is stuck in the driver is reaped when the driver returns."""

_READ = 64 * 1024
_PASSED_ON = (
    "PATH",
    "HOME",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)
"""By name: there are variables that begin alike and hold secrets, NVIDIA_API_KEY for one."""
_EVIDENCE_FIELDS = {"certificate", "evidence", "arch"}


class GpuEvidenceError(Exception):
    """There is no GPU evidence. The message, one line, says why and what to do; it may be in a report."""


def find_gpu_python(root: Path) -> Path | None:
    """The Python that has NVIDIA's library, where `scripts/setup` made one in this checkout."""
    python = root / ".venv-gpu" / "bin" / "python"
    return python if python.is_file() else None


class GpuEvidenceWorker:
    """Collects evidence, one nonce at a time. Thread-safe; the methods block."""

    def __init__(self, python: Path | None, no_hw_mode: bool, timeout: float = 30) -> None:
        """Keep the settings; no process starts yet.

        Args:
            python: Python of the environment that has NVIDIA's library; None where there is none.
            no_hw_mode: Whether to return the library's canned evidence instead of the GPUs'.
            timeout: Seconds that `collect` takes at most, with the wait for the lock and the start of the worker.
        """
        self._python = python
        self._no_hw_mode = no_hw_mode
        self._timeout = timeout
        self._turn = threading.Lock()
        # Guards the two below, and is never held for long: close must not wait for the other lock.
        self._state = threading.Lock()
        self._process: _WorkerProcess | None = None
        self._closed = False

    def collect(self, nonce: str) -> str:
        """Fresh evidence from every GPU for a nonce.

        Canned evidence is the same for every nonce: it has one of its own.

        Args:
            nonce: 32 bytes as 64 hex digits.

        Returns:
            The report's `nvidia_payload`, JSON: `{"nonce", "evidence_list", "arch"}`.

        Raises:
            ValueError: The nonce is not hex.
            GpuEvidenceError: There is none, for the reason given.
        """
        wanted = bytes.fromhex(nonce)
        deadline = time.monotonic() + self._timeout
        if not self._turn.acquire(timeout=self._timeout):
            raise GpuEvidenceError(f"no turn at the GPU within {self._timeout:g} s; ask again later")
        try:
            evidence = self._ask(nonce, deadline)
        finally:
            self._turn.release()
        if not self._no_hw_mode and not all(_bears(each["evidence"], wanted) for each in evidence):
            raise GpuEvidenceError("the GPU's evidence bears another nonce than the one asked for; ask again")
        payload = {"nonce": nonce, "evidence_list": evidence, "arch": evidence[0]["arch"]}
        return json.dumps(payload, separators=(",", ":"))

    def close(self) -> None:
        """End the worker, even during a request, which then fails. No evidence is collected any more."""
        with self._state:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        # The thread that holds the lock notices at once, and drops the process.
        if self._turn.acquire(timeout=KILL_TIMEOUT):
            self._discard()
            self._turn.release()

    def _ask(self, nonce: str, deadline: float) -> list[dict[str, str]]:
        try:
            process = self._process
            if process is None or not process.send(nonce):
                self._discard()
                process = self._start(deadline)
                if not process.send(nonce):
                    raise GpuEvidenceError("the GPU worker died as soon as it had started; ask again")
            answer = process.receive(deadline)
            if answer.get("id") != process.sent:
                raise GpuEvidenceError("the GPU worker answered something else than it was asked; ask again")
        except GpuEvidenceError:
            self._discard()
            raise
        if "error" in answer:
            raise GpuEvidenceError(
                f"NVIDIA's library gives no evidence: {_one_line(answer['error'])}; see that this machine's GPUs are in"
                " confidential-computing mode, or set GPU_NO_HW_MODE=1 to try without"
            )
        return _checked(answer.get("evidence"))

    def _start(self, deadline: float) -> "_WorkerProcess":
        if self._python is None:
            raise GpuEvidenceError(
                "the environment for NVIDIA's library is missing: scripts/setup makes it where it finds a Python 3.10"
                " to 3.12; install one, remove .venv-gpu and run scripts/setup again, or name one with GPU_PYTHON"
            )
        with self._state:
            if self._closed:
                raise GpuEvidenceError("the proxy is stopping; ask again when it is back")
            try:
                process = self._process = _WorkerProcess(self._python, self._no_hw_mode)
            except OSError as error:
                raise GpuEvidenceError(
                    f"{self._python} cannot be run ({error.strerror}); remove .venv-gpu and run scripts/setup again"
                ) from error
        greeting = process.receive(deadline)
        if greeting.get("ready") is not True:
            raise GpuEvidenceError(
                f"NVIDIA's library cannot be loaded ({_one_line(greeting.get('error'))}); remove .venv-gpu and run"
                " scripts/setup again"
            )
        return process

    def _discard(self) -> None:
        """End and forget the worker; only for the thread that holds the lock."""
        with self._state:
            process, self._process = self._process, None
        if process is not None:
            process.end()


class _WorkerProcess:
    """One running worker. All but `kill` is only for the thread that holds the lock."""

    def __init__(self, python: Path, no_hw_mode: bool) -> None:
        """Start it, without waiting until it is ready.

        Raises:
            OSError: There is no such program.
        """
        self.sent = 0
        self._received = bytearray()
        # -I: neither the directory of the worker, whose modules would shadow others, nor the user's packages.
        self._popen = subprocess.Popen(  # noqa: S603 - an operator's path and constants
            [str(python), "-I", str(WORKER), *(["--no-hw-mode"] if no_hw_mode else [])],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            # Ctrl-C in a terminal is for the proxy, which may still have reports to finish. The worker ends when its
            # standard input does, so it cannot outlive the proxy, however that ends.
            start_new_session=True,
        )
        self._requests = cast("IO[bytes]", self._popen.stdin)
        self._answers = cast("IO[bytes]", self._popen.stdout)
        # Waited for at once, so that a worker that dies while idle is no zombie until the next request.
        threading.Thread(target=self._popen.wait, name="GPU worker", daemon=True).start()

    def send(self, nonce: str) -> bool:
        """Send a request, a line that fits in the empty pipe. False where the worker has died, or does not read."""
        self.sent += 1
        request = {"id": self.sent, "nonce": nonce}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next line of its output, a JSON object.

        Raises:
            GpuEvidenceError: There was none in time, or it was none, or too long a one, or the worker died.
        """
        output = self._answers.fileno()
        poll = select.poll()
        poll.register(output, select.POLLIN)
        while (end := self._received.find(b"\n", max(0, len(self._received) - _READ))) < 0:
            if len(self._received) > MAX_ANSWER:
                raise GpuEvidenceError(f"the GPU worker said more than {MAX_ANSWER} bytes; ask again")
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise GpuEvidenceError("the GPU worker did not answer in time and was ended; ask again")
            piece = os.read(output, _READ)
            if not piece:
                raise GpuEvidenceError("the GPU worker died before it had answered; ask again")
            self._received += piece
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise GpuEvidenceError("the GPU worker said something that is no answer; ask again")
        return answer

    def kill(self) -> None:
        """Kill it, from any thread."""
        self._popen.kill()

    def end(self) -> None:
        """Kill it and close its pipes."""
        self._popen.kill()
        self._requests.close()
        self._answers.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(KILL_TIMEOUT)


def _checked(evidence: object) -> list[dict[str, str]]:
    if not isinstance(evidence, list) or not evidence:
        raise GpuEvidenceError("NVIDIA's library found no GPU; see that this machine's GPUs are passed through to it")
    for each in evidence:
        if not isinstance(each, dict) or each.keys() != _EVIDENCE_FIELDS or not all(map(_is_str, each.values())):
            raise GpuEvidenceError("NVIDIA's library gave no evidence that we know; see which version .venv-gpu has")
    return evidence


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _bears(evidence: str, nonce: bytes) -> bool:
    try:
        return evidence_nonce(evidence) == nonce
    except ValueError:
        return False


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:500]
