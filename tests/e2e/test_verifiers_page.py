"""Every command in docs/verifiers.md that needs nobody's service is run, as a reader would, and finds a lie."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest_web.gpu.evidence import find_gpu_python
from tests.e2e.support.doc_blocks import Page, with_replaced
from tests.e2e.support.processes import BIN, MODEL, ROOT, TOKEN, Proxy, Simulator, clean_env, running_proxy
from tests.support.limits import limit

PAGE = Page("verifiers.md")
pytestmark = [
    pytest.mark.skipif(find_gpu_python(ROOT) is None, reason="no .venv-gpu: see what scripts/setup says"),
    pytest.mark.skipif(not all(map(shutil.which, ("curl", "openssl", "basenc"))), reason="no curl, openssl or basenc"),
]
STEPS = (
    "export URL",
    'echo \'{"model"',
    "field()",
    "unhex()",
    "nonce=",
    ".venv/bin/tee-verify",
)


@pytest.fixture(scope="module")
def attesting(fake_vllm: str, simulator: Simulator) -> Iterator[Proxy]:
    with running_proxy(fake_vllm, program="tee-signer", DEV="0", **simulator.settings) as proxy:
        yield proxy


def script(proxy: Proxy, simulator: Simulator) -> str:
    """All of the page's steps, with this test's proxy, token and simulated TEE."""
    return with_replaced(
        "".join(PAGE.block("bash", beginning) for beginning in STEPS),
        ("http://localhost:8000", proxy.url),
        ("my-token", TOKEN),
        ('"stand-in"', f'"{MODEL}"'),
        (".venv/bin/", f"{BIN}/"),
        ("root.pem", str(simulator.root)),
        ("collateral.json", str(simulator.collateral)),
    )


def bash(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        env=clean_env(),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=limit(50),
        check=False,
    )


def replayed(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PAGE.blocks("python")[0]]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=limit(20), check=False)


def test_page_steps_verify_a_chat_down_to_the_compose_file(
    attesting: Proxy, simulator: Simulator, tmp_path: Path
) -> None:
    done = bash(f"set -euo pipefail\n{script(attesting, simulator)}", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    for line in (
        "the bytes are those that were signed",
        "Signature Verified Successfully",
        "the quote is for this key and nonce",
    ):
        assert line in said
    assert any(line.startswith("verified: all ") for line in said)
    log = replayed(tmp_path)
    assert log.returncode == 0, log.stderr
    assert "this was started: {" in log.stdout


def test_page_steps_detect_a_tampered_response_and_report(
    attesting: Proxy, simulator: Simulator, tmp_path: Path
) -> None:
    steps = script(attesting, simulator)
    fetched, checked = steps.split("field()", 1)
    tampered = f"{fetched}sed -i s/Say/say/ response.json\nfield(){checked}"
    done = bash(
        tampered.replace("-o report.json", "-o report.json\nsed -i s/compose-hash/compose_hash/ report.json"), tmp_path
    )
    assert done.returncode == 1
    assert "the bytes are" not in done.stdout
    assert "Signature Verified Successfully" not in done.stdout
    assert "NOT verified" in done.stdout
    assert "the log is not what happened" in replayed(tmp_path).stderr


def test_page_code_block_counts_are_those_that_these_tests_cover() -> None:
    assert len(PAGE.blocks("bash")) == len(STEPS)
    assert len(PAGE.blocks("python")) == 1
    assert len(PAGE.blocks("sh")) == 6


def test_page_links_resolve() -> None:
    assert [link for link in PAGE.links() if not link.exists()] == []
