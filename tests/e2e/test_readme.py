"""Every command in the README is run, as a reader would."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attest_web.gpu.evidence import find_gpu_python
from attest_web.settings import Settings
from attest_web.verify.primitives.secp256k1 import ORDER
from tests.e2e.support.processes import BIN, ROOT, Process, clean_env
from tests.support.limits import limit

README = (ROOT / "README.md").read_text()
BASH = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def block(beginning: str) -> str:
    """The one block that begins so."""
    [found] = [str(text) for text in BASH if text.startswith(beginning)]
    return found


def test_readme_code_blocks_are_all_covered_by_a_test() -> None:
    beginnings = [
        "scripts/run ",
        "export TOKEN",
        "echo ",
        "TOKEN=my-token .venv/bin/tee-verify",
        "VLLM_BASE_URL=",
        "MODEL_NAME=",
    ]
    assert all(any(text.startswith(beginning) for beginning in beginnings) for text in BASH)
    assert (len(BASH), len(PYTHON)) == (6, 1)


def test_readme_scripts_exist_and_are_executable() -> None:
    for line in block("scripts/run ").splitlines():
        [script] = shlex.split(line, comments=True)
        assert os.access(ROOT / script, os.X_OK)


@dataclass(frozen=True)
class Run:
    """A running `scripts/run`."""

    port: int
    files: str
    """Where the simulator's files are."""


@pytest.fixture
def run(free_ports: list[int]) -> Iterator[Run]:
    """The README's own `scripts/run`, on other ports."""
    command = re.search(r"`(TOKEN=my-token scripts/run)`", README)
    assert command
    env = clean_env(LISTEN_PORT=str(free_ports[0]), ATTEST_PORT=str(free_ports[1]))
    process = Process(["setsid", "bash", "-c", f"exec env {command[1]}"], env, cwd=ROOT)
    try:
        files = process.wait_for(r"(?s)Try it:.*--dev-root (\S+)/root\.pem", timeout=120)[1]
        yield Run(free_ports[0], files)
    finally:
        process.stop()


@pytest.mark.skipif(find_gpu_python(ROOT) is None, reason="no .venv-gpu: see what scripts/setup says")
def test_readme_tee_verify_command_verifies_a_chat(run: Run) -> None:
    command = block("TOKEN=my-token .venv/bin/tee-verify")
    for written, meant in (
        ("localhost:8000", f"localhost:{run.port}"),
        ("root.pem", f"{run.files}/root.pem"),
        ("collateral.json", f"{run.files}/collateral.json"),
        (".venv/bin/", f"{BIN}/"),
    ):
        command = command.replace(written, meant)
    done = subprocess.run(
        ["bash", "-c", command],
        env=clean_env(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ ecdsa quote signature" in done.stdout


def test_readme_python_verifies_a_chat_and_rejects_tampering(run: Run, tmp_path: Path) -> None:
    def bash(script: str) -> None:
        script = script.replace("localhost:8000", f"localhost:{run.port}")
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=clean_env(), cwd=tmp_path, timeout=limit(30), check=True
        )

    def verify() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PYTHON[0]]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=limit(30), check=False)

    bash(block("export TOKEN") + block("echo "))
    verified = verify()
    assert verified.returncode == 0, verified.stderr
    assert re.fullmatch(r"signed by 0x[0-9a-fA-F]{40}\n", verified.stdout)
    signed = tmp_path / "signature.json"
    true = signed.read_text()
    answer = json.loads(true)
    raw = bytes.fromhex(answer["signature"][2:])
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:64])).to_bytes(32) + bytes([27 + 28 - raw[64]])
    signed.write_text(json.dumps(answer | {"signature": f"0x{twin.hex()}"}))
    assert "its s is high" in verify().stderr
    signed.write_text(true)
    response = tmp_path / "response.json"
    response.write_bytes(response.read_bytes().replace(b"Say", b"say"))
    assert "not the bytes that were signed" in verify().stderr


@pytest.mark.parametrize(
    "command",
    [text for text in BASH if text.startswith(("VLLM_BASE_URL=", "MODEL_NAME="))],
    ids=["run", "dump"],
)
def test_readme_start_commands_start_a_proxy_for_a_given_upstream(
    command: str, fake_vllm: str, free_ports: list[int]
) -> None:
    # This test's ports and interpreter, as the reader would put in theirs.
    for written, meant in (
        ("http://localhost:9000", fake_vllm),
        ("-p 8000", f"-p {free_ports[0]}"),
        (".venv/bin/", f"{BIN}/"),
    ):
        command = command.replace(written, meant)
    env = clean_env(LISTEN_PORT=str(free_ports[0]), ATTEST_PORT=str(free_ports[1]))
    process = Process(["setsid", "bash", "-c", f"exec env {command}"], env, cwd=ROOT)
    try:
        process.wait_for(rf"reverse proxy to {fake_vllm} listening at \*:{free_ports[0]}", timeout=60)
        process.wait_for(f"proof pages on side port {free_ports[1]}")
    finally:
        process.stop()


def test_readme_links_and_anchors_resolve() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", README)
    assert len(links) > 8
    for target, heading in links:
        text = (ROOT / target).read_text()
        headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
        assert not heading or heading in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


def test_readme_settings_table_lists_every_setting_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE))
    assert sorted(rows) == sorted(field.upper() for field in Settings.model_fields)
    for field, info in Settings.model_fields.items():
        shown = rows[field.upper()].strip("`")
        if info.is_required():
            assert shown == "required"
        elif info.default is not None:
            default = int(info.default) if isinstance(info.default, bool) else info.default
            assert shown == str(default)
