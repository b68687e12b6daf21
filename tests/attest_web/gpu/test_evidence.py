"""The proxy's side of GPU evidence, against workers that do what workers should not."""

import base64
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from attest_web.gpu.evidence import GpuEvidenceError, GpuEvidenceWorker, find_gpu_python
from attest_web.gpu.spdm import evidence_nonce
from tests.support.limits import Deadline, limit

NONCE = "5a" * 32
OTHER = "a5" * 32

PRELUDE = """
import base64, json, os, signal, sys

starts = {starts!r}
with open(starts, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
start = len(open(starts).readlines())

def say(answer):
    print(json.dumps(answer), flush=True)

def requests():
    while line := sys.stdin.readline():
        yield json.loads(line)

def evidence(nonce):
    report = bytes([0x11, 0xe0, 1, 0xff]) + bytes.fromhex(nonce) + bytes(100)
    return [{{"certificate": "chain", "evidence": base64.b64encode(report).decode(), "arch": "HOPPER"}}]

def serve():
    for request in requests():
        say({{"id": request["id"], "evidence": evidence(request["nonce"])}})

"""
GOOD = "say({'ready': True})\nserve()"


class Workers:
    """Makes fake workers, and knows those that were started."""

    def __init__(self, path: Path) -> None:
        self._python = path / "python"
        self._starts = path / "starts"
        self._made: list[GpuEvidenceWorker] = []

    def make(self, script: str, timeout: float = 10, no_hw_mode: bool = False) -> GpuEvidenceWorker:
        self._python.write_text(f"#!{sys.executable}\n" + PRELUDE.format(starts=str(self._starts)) + script)
        self._python.chmod(0o755)
        self._made.append(GpuEvidenceWorker(self._python, no_hw_mode, timeout))
        return self._made[-1]

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._starts.read_text().splitlines()] if self._starts.exists() else []

    def close(self) -> None:
        for worker in self._made:
            worker.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    made.close()
    for pid in made.pids:
        wait_until(partial(is_gone, pid))


def wait_until(holds: Callable[[], bool], timeout: float = 5) -> None:
    deadline = Deadline(timeout)
    while not holds():
        assert deadline.left > 0, "it never came true"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether nothing is left of a process, a zombie included."""
    return not Path(f"/proc/{pid}").exists()


def test_gpu_payload_matches_the_wire_contract(workers: Workers) -> None:
    text = workers.make(GOOD).collect(NONCE)
    payload = json.loads(text)
    assert list(payload) == ["nonce", "evidence_list", "arch"]
    assert payload["nonce"] == NONCE
    assert payload["arch"] == "HOPPER"
    [evidence] = payload["evidence_list"]
    assert evidence.keys() == {"certificate", "evidence", "arch"}
    assert evidence_nonce(evidence["evidence"]).hex() == NONCE
    assert " " not in text


def test_the_payload_names_the_architecture_of_the_gpus(workers: Workers) -> None:
    script = """
say({"ready": True})
for request in requests():
    say({"id": request["id"], "evidence": [each | {"arch": "BLACKWELL"} for each in evidence(request["nonce"])]})
"""
    assert json.loads(workers.make(script).collect(NONCE))["arch"] == "BLACKWELL"


def test_gpu_worker_is_started_once_on_first_use(workers: Workers) -> None:
    worker = workers.make(GOOD)
    assert workers.pids == []
    for _ in range(3):
        worker.collect(NONCE)
    assert len(workers.pids) == 1


def test_gpu_worker_with_concurrent_threads_gives_each_its_own_evidence(workers: Workers) -> None:
    worker = workers.make(GOOD)
    nonces = [f"{number:064x}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        payloads = list(pool.map(worker.collect, nonces))
    assert [json.loads(payload)["nonce"] for payload in payloads] == nonces
    assert len(workers.pids) == 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "died before it had answered"),
        (
            "say({'ready': False, 'error': 'No module\\nnamed verifier'})",
            r"\(No module named verifier\).*scripts/setup",
        ),
        ("signal.pause()", "in time"),
        ("print('hello', flush=True)\nsignal.pause()", "no answer"),
        ("say({'ready': True})\nnext(requests())", "died before it had answered"),
        ("say({'ready': True})\nnext(requests())\nsignal.pause()", "in time"),
        ("say({'ready': True})\nnext(requests())\nprint('hello', flush=True)\nsignal.pause()", "no answer"),
        ("say({'ready': True})\nnext(requests())\nprint('[' * 100000, flush=True)\nsignal.pause()", "no answer"),
        ("say({'ready': True})\nnext(requests())\nsay([1])\nsignal.pause()", "no answer"),
        ("say({'ready': True})\nnext(requests())\nsay({'id': 7, 'evidence': evidence('00')})\nsignal.pause()", "else"),
        ("say({'ready': True})\nnext(requests())\nprint('x' * 17 * 2**20, flush=True)\nsignal.pause()", "16777216"),
    ],
    ids=[
        "no start",
        "not ready",
        "slow start",
        "noise",
        "dies",
        "hangs",
        "garbage",
        "deep",
        "list",
        "wrong id",
        "huge",
    ],
)
def test_broken_gpu_worker_is_ended_and_the_next_request_starts_a_new_one(
    workers: Workers, script: str, message: str
) -> None:
    broken = "\n".join(f"    {line}" for line in (script or "sys.exit()").splitlines())
    worker = workers.make(f"if start == 1:\n{broken}\nelse:\n    say({{'ready': True}})\n    serve()", timeout=2)
    with pytest.raises(GpuEvidenceError, match=message) as caught:
        worker.collect(NONCE)
    assert "\n" not in str(caught.value)
    assert is_gone(workers.pids[0])
    assert json.loads(worker.collect(NONCE))["nonce"] == NONCE
    assert len(workers.pids) == 2


def test_gpu_worker_that_died_while_idle_leaves_no_zombie_and_is_replaced(workers: Workers) -> None:
    worker = workers.make(GOOD)
    worker.collect(NONCE)
    os.kill(workers.pids[0], signal.SIGKILL)
    wait_until(lambda: is_gone(workers.pids[0]))
    worker.collect(NONCE)
    assert len(workers.pids) == 2


def test_an_error_of_the_library_is_one_line_and_the_worker_goes_on(workers: Workers) -> None:
    script = """
say({"ready": True})
for request in requests():
    say({"id": request["id"], "error": "No GPU\\nfound"})
"""
    worker = workers.make(script)
    for _ in range(2):
        with pytest.raises(GpuEvidenceError, match=r"no evidence: No GPU found; .*GPU_NO_HW_MODE=1"):
            worker.collect(NONCE)
    assert len(workers.pids) == 1


@pytest.mark.parametrize(
    "evidence",
    [
        [],
        None,
        {},
        ["evidence"],
        [{"certificate": "", "evidence": ""}],
        [{"certificate": "", "evidence": "", "arch": None}],
        [{"certificate": "", "evidence": "", "arch": "", "token": ""}],
    ],
)
def test_malformed_gpu_evidence_is_refused(workers: Workers, evidence: object) -> None:
    script = f"say({{'ready': True}})\nfor r in requests():\n    say({{'id': r['id'], 'evidence': {evidence!r}}})"
    with pytest.raises(GpuEvidenceError, match=r"no GPU|no evidence"):
        workers.make(script, no_hw_mode=True).collect(NONCE)


@pytest.mark.parametrize(
    "evidence", [f"evidence('{NONCE}') + evidence('{OTHER}')", "[evidence('')[0] | {'evidence': '?'}]"]
)
def test_evidence_for_another_nonce_is_refused_unless_it_is_canned(workers: Workers, evidence: str) -> None:
    script = f"say({{'ready': True}})\nfor r in requests():\n    say({{'id': r['id'], 'evidence': {evidence}}})"
    with pytest.raises(GpuEvidenceError, match="another nonce"):
        workers.make(script).collect(NONCE)
    assert json.loads(workers.make(script, no_hw_mode=True).collect(NONCE))["nonce"] == NONCE


@pytest.mark.parametrize("report", [b"", b"\x11\xe0" + bytes(35), b"\x11\x60" + bytes(100)])
def test_evidence_nonce_is_read_only_from_a_get_measurements_request(report: bytes) -> None:
    with pytest.raises(ValueError, match="GET_MEASUREMENTS"):
        evidence_nonce(base64.b64encode(report).decode())


def test_gpu_worker_timeout_includes_the_wait_for_a_turn(workers: Workers, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    worker = workers.make(f"say({{'ready': True}})\nnext(requests())\nopen({str(asked)!r}, 'w')\nsignal.pause()", 1.5)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(worker.collect, NONCE)
        wait_until(asked.exists)
        began = time.monotonic()
        with pytest.raises(GpuEvidenceError):
            worker.collect(OTHER)
        assert time.monotonic() - began < 2.5, "the second had its time for the worker on top of that for the turn"
        assert isinstance(first.exception(), GpuEvidenceError)


def test_gpu_worker_close_ends_a_request_at_once_and_refuses_others(workers: Workers, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    worker = workers.make(f"say({{'ready': True}})\nnext(requests())\nopen({str(asked)!r}, 'w')\nsignal.pause()", 30)
    failed = threading.Event()

    def ask() -> None:
        with pytest.raises(GpuEvidenceError):
            worker.collect(NONCE)
        failed.set()

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(asked.exists)
    worker.close()
    assert failed.wait(limit(5))
    thread.join()
    assert is_gone(workers.pids[0])
    with pytest.raises(GpuEvidenceError, match="stopping"):
        worker.collect(NONCE)
    worker.close()
    assert len(workers.pids) == 1


def test_gpu_worker_environment_has_no_secret_and_its_session_is_its_own(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKEN", "PYTHONPATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    seen = tmp_path / "seen"
    workers.make(f"open({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))\n{GOOD}").collect(NONCE)
    names = json.loads(seen.read_text()).keys() - {"LC_CTYPE"}  # which Python sets itself
    assert names <= {"PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
    assert {"PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"} <= names
    assert os.getsid(workers.pids[0]) != os.getsid(0)


def test_without_an_environment_the_error_names_the_setup_command(tmp_path: Path) -> None:
    with pytest.raises(GpuEvidenceError, match=r"missing: scripts/setup .* Python 3\.10 to 3\.12"):
        GpuEvidenceWorker(None, no_hw_mode=True).collect(NONCE)
    with pytest.raises(GpuEvidenceError, match=r"cannot be run \(No such file or directory\).*scripts/setup"):
        GpuEvidenceWorker(tmp_path / "python", no_hw_mode=True).collect(NONCE)


def test_gpu_environment_is_found_beside_the_checkout(tmp_path: Path) -> None:
    assert find_gpu_python(tmp_path) is None
    python = tmp_path / ".venv-gpu/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(tmp_path / "gone")
    assert find_gpu_python(tmp_path) is None
    (tmp_path / "gone").touch()
    assert find_gpu_python(tmp_path) == python
