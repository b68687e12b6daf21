"""Everything pinned, over a certificate that the guest agent has made: tee-verify and the verified client."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.client import attestation_policy, proof_of, verified_openai
from attest_web.gpu.evidence import find_gpu_python
from attest_web.verify.audit import CANNED_GPU, DEV_ROOT
from tests.e2e.support.processes import (
    BIN,
    MODEL,
    ROOT,
    TOKEN,
    Proxy,
    Simulator,
    clean_env,
    running_proxy,
    running_simulator,
)
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

pytestmark = pytest.mark.skipif(
    find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see what scripts/setup says"
)

CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


@dataclass(frozen=True)
class Guest:
    """A simulated guest with one GPU, and what a verifier is to expect of it."""

    simulator: Simulator
    identity: dict[str, Any]

    def expected(self, **bent: str) -> list[str]:
        """tee-verify's options for all of it, in one way or another bent."""
        same = ("compose_hash", "app_id", "os_image_hash", "kms_root", "gpu_policy_hash")
        known = {name: self.identity[name] for name in same}
        known["key_provider"] = self.identity["key_provider_id"]
        options = [f"--expect-{name.replace('_', '-')}={value}" for name, value in (known | bent).items()]
        files = [f"--dev-root={self.simulator.root}", f"--collateral={self.simulator.collateral}"]
        return [*options, *files, "--require-mr-config-id", "--gpu=canned"]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    where = tmp_path_factory.mktemp("guest")
    with running_simulator(where, "--gpus", "1", "--identity", str(where / "identity.json")) as simulator:
        yield Guest(simulator, json.loads((where / "identity.json").read_text()))


@pytest.fixture(scope="module")
def proxy(fake_vllm: str, guest: Guest) -> Iterator[Proxy]:
    with running_proxy(fake_vllm, DEV="0", TLS_FROM_DSTACK="1", **guest.simulator.settings) as running:
        yield running


def https(proxy: Proxy) -> str:
    return proxy.url.replace("http:", "https:")


def verify(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [str(BIN / "tee-verify"), "--json", *arguments]
    done = subprocess.run(
        command, env=clean_env(TOKEN=TOKEN), capture_output=True, text=True, timeout=limit(60), check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_tee_verify_with_everything_pinned_leaves_only_simulator_warnings(guest: Guest, proxy: Proxy) -> None:
    status, said = verify("--url", https(proxy), "--ra-tls", *guest.expected())
    left = {check["name"] for check in said["checks"] if check["status"] != "passed"}
    assert (status, said["ok"]) == (0, True), said
    assert set(said["warnings"]) == {CANNED_GPU, DEV_ROOT}
    passed = {check["name"] for check in said["checks"]} - left
    for what in ("", " OS image", " app id", " key provider", " MRCONFIGID"):
        assert f"certificate{what}" in passed
    for algo in ("ecdsa", "ed25519"):
        for what in (
            "TLS key",
            "OS image",
            "app id",
            "key provider",
            "key chain",
            "MRCONFIGID",
            "GPU policy",
            "boot log",
        ):
            assert f"{algo} {what}" in passed
        assert f"{algo} GPU attested at boot" in passed
        assert f"{algo} GPU boot evidence" in passed


@pytest.mark.parametrize(
    ("bent", "what"),
    [
        ({"compose_hash": "00" * 32}, "compose hash"),
        ({"os_image_hash": "00" * 32}, "OS image"),
        ({"app_id": "00" * 20}, "app id"),
        ({"key_provider": "00" * 32}, "key provider"),
    ],
)
def test_tee_verify_sends_nothing_to_a_guest_with_an_unexpected_certificate(
    guest: Guest, proxy: Proxy, bent: dict[str, str], what: str
) -> None:
    status, said = verify("--url", https(proxy), "--ra-tls", "--model", MODEL, *guest.expected(**bent))
    failed = {check["name"]: check["detail"] for check in said["checks"] if check["status"] == "failed"}
    assert status == 1
    assert set(failed) == {"chat", f"certificate {what}"}
    assert "nothing was sent" in failed["chat"]


@pytest.mark.parametrize(
    ("bent", "what"),
    [({"kms_root": "02" + "11" * 32}, "key chain"), ({"gpu_policy_hash": "00" * 32}, "GPU policy")],
)
def test_unexpected_kms_root_or_gpu_policy_fails_the_report_checks(
    guest: Guest, proxy: Proxy, bent: dict[str, str], what: str
) -> None:
    status, said = verify("--url", https(proxy), "--ra-tls", *guest.expected(**bent))
    assert status == 1
    failed = {check["name"] for check in said["checks"] if check["status"] == "failed"}
    assert failed == {f"ecdsa {what}", f"ed25519 {what}"}


def test_tee_verify_refuses_a_certificate_without_an_attestation(fake_vllm: str, guest: Guest, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, both = tmp_path / "cert.pem", tmp_path / "tls.pem"
    certificate.write_bytes(self_signed(key))
    both.write_bytes(key_pem(key) + self_signed(key))
    settings = guest.simulator.settings | {"TLS_CERT_PATH": str(certificate)}
    with running_proxy(fake_vllm, "--certs", str(both), DEV="0", **settings) as running:
        status, said = verify("--url", https(running), "--ra-tls", "--model", MODEL, *guest.expected())
        assert "/v1/chat/completions" not in running.process.output
    assert status == 1
    assert "no attestation in it" in json.dumps(said)


def test_verified_client_accepts_an_ra_tls_certificate_without_a_ca(guest: Guest, proxy: Proxy) -> None:
    policy = attestation_policy(
        compose_hash=guest.identity["compose_hash"],
        os_image_hashes=[guest.identity["os_image_hash"]],
        app_ids=[guest.identity["app_id"]],
        key_providers=[guest.identity["key_provider_id"]],
        kms_roots=[guest.identity["kms_root"]],
        gpu_policy_hashes=[guest.identity["gpu_policy_hash"]],
        require_mr_config_id=True,
        dev_root=guest.simulator.root,
        collateral=guest.simulator.collateral,
        gpu="canned",
    )
    with verified_openai(f"{https(proxy)}/v1", api_key=TOKEN, policy=policy, ra_tls=True) as client:
        proof = proof_of(client.chat.completions.create(**CHAT))
    assert "ecdsa key chain" in {check.name for check in proof.checks if check.holds}
    assert set(proof.warnings) == {CANNED_GPU, DEV_ROOT}
