"""The GPU worker with NVIDIA's own package, which needs no GPU for its canned evidence; and with noisier ones."""

import ast
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attest_web.gpu.evidence import WORKER, GpuEvidenceError, GpuEvidenceWorker, find_gpu_python
from attest_web.gpu.spdm import evidence_nonce
from tests.e2e.support.processes import ROOT, Process, clean_env

NONCE = "5a" * 32


@pytest.fixture
def gpu_python() -> Path:
    """The Python that has NVIDIA's package."""
    python = find_gpu_python(ROOT)
    if python is None:
        pytest.skip("there is no .venv-gpu: scripts/setup makes it where it finds a Python 3.10 to 3.12")
    return python


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a Python with a library of the same name as NVIDIA's, that does as it is told."""

    def make(collect: str) -> Path:
        package = tmp_path / "verifier"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "cc_admin.py").write_text(
            "import os, signal, subprocess, sys, types\nBaseSettings = types.SimpleNamespace()\n"
            "def collect_gpu_evidence_remote(nonce, no_gpu_mode, ppcie_mode):\n"
            + "".join(f"    {line}\n" for line in collect.splitlines())
            + "    return [{'certificate': 'chain', 'evidence': nonce, 'arch': 'HOPPER'}]\n"
        )
        python = tmp_path / "python"
        # The worker is isolated (-I) from the packages that this test puts in its way.
        python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return python

    return make


@contextmanager
def running(python: Path) -> Iterator[subprocess.Popen[str]]:
    command: list[str | Path] = [python, "-I", WORKER, "--no-hw-mode"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], request: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()


def next_answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def end_of(pid: int) -> int:
    """A descriptor that becomes readable when the process ends."""
    return os.pidfd_open(pid)


def has_ended(pidfd: int, timeout: float = 10) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def worker_of(pid: int) -> int:
    """The GPU worker that is a process's child."""
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    [worker] = [child for child in children if WORKER.name in Path(f"/proc/{child}/cmdline").read_text()]
    return int(worker)


def test_canned_evidence_comes_with_the_callers_nonce(gpu_python: Path) -> None:
    worker = GpuEvidenceWorker(gpu_python, no_hw_mode=True)
    try:
        for nonce in (NONCE, "c3" * 32):
            payload = json.loads(worker.collect(nonce))
            assert payload["nonce"] == nonce
            assert payload["arch"] == "HOPPER"
            [evidence] = payload["evidence_list"]
            assert evidence.keys() == {"certificate", "evidence", "arch"}
            assert len(evidence_nonce(evidence["evidence"])) == 32
    finally:
        worker.close()


def test_collection_without_a_gpu_fails_at_once_with_the_reason(gpu_python: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    worker = GpuEvidenceWorker(gpu_python, no_hw_mode=False, timeout=10)
    try:
        with pytest.raises(GpuEvidenceError, match="NVML"):
            worker.collect(NONCE)
    finally:
        worker.close()


def test_nvidia_package_output_stays_out_of_the_protocol(gpu_python: Path) -> None:
    with running(gpu_python) as process:
        ask(process, {"id": 1, "nonce": NONCE})
        assert next_answer(process) == {"ready": True}
        assert next_answer(process)["id"] == 1
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.close()
        assert process.stdout.read() == ""
        assert "Fetching GPU 0" in process.stderr.read(), "it printed nothing, so this test shows nothing"


def test_c_code_and_subprocesses_cannot_write_to_or_read_from_the_protocol(
    fake_python: Callable[[str], Path],
) -> None:
    collect = """
print("from Python", flush=True)
os.write(1, b"from C" * 100_000)
sys.__stdout__.write("kept by Python for later")
subprocess.run(["sh", "-c", "echo from a program; cat; echo more >&2"], check=True)
sys.stdin.read()
"""
    worker = GpuEvidenceWorker(fake_python(collect), no_hw_mode=True, timeout=10)
    try:
        for _ in range(3):
            assert json.loads(worker.collect(NONCE))["evidence_list"][0]["evidence"] == NONCE
    finally:
        worker.close()


def test_nvidia_package_error_is_reported_with_its_cause(fake_python: Callable[[str], Path]) -> None:
    collect = """
try:
    raise ValueError("the driver\\n said no")
except ValueError as error:
    raise Exception("collecting failed") from error
"""
    with running(fake_python(collect)) as process:
        assert next_answer(process) == {"ready": True}
        for request in ({"id": 1, "nonce": NONCE}, {"id": 2, "nonce": NONCE}):
            ask(process, request)
            assert next_answer(process) == {"id": request["id"], "error": "collecting failed: the driver said no"}
        ask(process, [])
        assert "error" in next_answer(process)
        ask(process, {"id": 3})
        assert next_answer(process)["id"] == 3


def test_worker_without_the_nvidia_package_reports_not_ready_and_exits() -> None:
    with running(Path(sys.executable)) as process:
        answer = next_answer(process)
        assert answer == {"ready": False, "error": "No module named 'verifier'"}
        assert process.wait(10) == 0


def test_worker_killed_mid_request_fails_that_request_and_serves_the_next(gpu_python: Path) -> None:
    worker = GpuEvidenceWorker(gpu_python, no_hw_mode=True, timeout=10)
    try:
        worker.collect(NONCE)
        pid = worker_of(os.getpid())
        os.kill(pid, signal.SIGSTOP)  # so that the request is in flight for as long as need be
        # Until it has stopped, it may still read what comes.
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        ended = end_of(pid)
        with ThreadPoolExecutor(1) as pool:
            request = pool.submit(worker.collect, NONCE)
            sent = select.poll()
            fd = os.open(f"/proc/{pid}/fd/{requests_fd(pid)}", os.O_RDONLY | os.O_NONBLOCK)
            sent.register(fd, select.POLLIN)
            assert sent.poll(5000)
            os.kill(pid, signal.SIGKILL)
            assert isinstance(request.exception(10), GpuEvidenceError)
        os.close(fd)
        assert has_ended(ended)
        os.close(ended)
        assert json.loads(worker.collect(NONCE))["nonce"] == NONCE
    finally:
        worker.close()


def requests_fd(pid: int) -> int:
    """The descriptor from which the worker reads requests: not 0, which it has given up."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        flags = int(Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0], 8)
        if int(link.name) > 2 and str(link.readlink()).startswith("pipe:") and flags & os.O_ACCMODE == os.O_RDONLY:
            found.append(int(link.name))
    [fd] = found
    return fd


PARENT = """
import signal, sys
from pathlib import Path
from attest_web.gpu.evidence import GpuEvidenceWorker
worker = GpuEvidenceWorker(Path(sys.argv[1]), no_hw_mode=True)
worker.collect("5a" * 32)
print("asked", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_worker_ends_when_the_proxy_is_killed_or_terminated(gpu_python: Path, how: signal.Signals) -> None:
    parent = Process([sys.executable, "-c", PARENT, gpu_python], clean_env(), cwd=ROOT)
    parent.wait_for("asked")
    pid = worker_of(parent.popen.pid)
    ended = end_of(pid)
    assert not has_ended(ended, timeout=0)
    parent.stop(how)
    assert has_ended(ended)
    os.close(ended)


def test_worker_blocked_in_the_driver_ends_when_the_proxy_is_killed(
    fake_python: Callable[[str], Path], tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    os.mkfifo(asked)
    python = fake_python(f"open({str(asked)!r}, 'w').close()\nimport threading; threading.Event().wait()")
    parent = Process([sys.executable, "-c", PARENT, python], clean_env(), cwd=ROOT)
    asked.read_text()  # until the library is being asked
    pid = worker_of(parent.popen.pid)
    ended = end_of(pid)
    assert not has_ended(ended, timeout=0)
    parent.stop(signal.SIGKILL)
    assert has_ended(ended)
    os.close(ended)


def test_worker_source_parses_as_python_3_10() -> None:
    ast.parse(WORKER.read_text(), feature_version=(3, 10))


def test_worker_blocked_in_an_import_ends_when_its_stdin_closes() -> None:
    program = (
        "import importlib, runpy, sys, time\n"
        "importlib.import_module = lambda name: time.sleep(3600)\n"
        f"sys.argv = ['evidence_worker']\nrunpy.run_path({str(WORKER)!r}, run_name='__main__')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
