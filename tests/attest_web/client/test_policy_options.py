import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.client import attestation_policy
from attest_web.verify.collateral import DcapVerifier
from attest_web.verify.nvidia.evidence import GpuDemand
from tests.support.certificates import self_signed
from tests.support.limits import limit


def test_policy_by_default_requires_intel_and_nvidia_attestation() -> None:
    policy = attestation_policy()
    assert isinstance(policy.verify_quote, DcapVerifier)
    assert policy.verify_quote.trusts_intel
    assert (policy.gpu, policy.allow_dev) == (GpuDemand.REQUIRED, False)
    assert policy.ask_nvidia is not None
    assert policy.allowed_tcb == {"UpToDate"}
    assert not policy.pins_guest


def test_policy_has_every_requested_option(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    policy = attestation_policy(
        compose_hash="01" * 32,
        mrtd="02" * 48,
        rtmrs={0: "03" * 48, 1: "04" * 48, 2: "05" * 48},
        app_ids=["06" * 20, "07" * 20],
        allow_tcb_status=["OutOfDate"],
        gpu="unverified",
        dev_root=root,
    )
    assert policy.pins_guest
    assert (policy.compose_hash, policy.mrtd, policy.rtmrs[2]) == (b"\1" * 32, b"\2" * 48, b"\5" * 48)
    assert policy.app_ids == {b"\6" * 20, b"\7" * 20}
    assert policy.allowed_tcb == {"UpToDate", "OutOfDate"}
    assert policy.ask_nvidia is None
    assert policy.allow_dev
    assert isinstance(policy.verify_quote, DcapVerifier)
    assert not policy.verify_quote.trusts_intel


@pytest.mark.parametrize(
    ("demand", "named"),
    [
        ({"compose_hash": "12"}, "compose_hash"),
        ({"compose_hash": ""}, "compose_hash"),
        ({"mrtd": "xy" * 48}, "mrtd"),
        ({"app_ids": ["07" * 19]}, "app_ids takes 40 hex digits"),
        ({"app_ids": ["07" * 32]}, "app_ids takes 40 hex digits"),
        ({"app_ids": ["0x" + "07" * 20]}, "app_ids takes 40 hex digits"),
        ({"os_image_hashes": ["07" * 20]}, "os_image_hashes takes 64 hex digits"),
        ({"key_providers": ["07" * 31]}, "key_providers takes hex digits, 64 or more"),
        ({"rtmrs": {3: "00" * 48}}, "rtmrs"),
        ({"rtmrs": {0: "00"}}, "rtmrs"),
        ({"allow_tcb_status": ["Revoked"]}, "Revoked"),
        ({"gpu": "maybe"}, "required, bound, unverified, canned, none, not 'maybe'"),
        ({"dev_root": __file__}, "certificate"),
        ({"collateral": __file__}, "collateral"),
        ({"nras_url": "http://example.com"}, "https"),
    ],
    ids=str,
)
def test_policy_with_an_invalid_option_raises_value_error(demand: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        attestation_policy(**demand)


def test_imports_without_the_client_extra_fail_only_for_the_client() -> None:
    script = (
        "import sys; sys.modules.update(openai=None, httpx2=None)\n"
        "import attest_web.pages.app, attest_web.verify.command.cli, attest_web.verify.proof_file\n"
        "import attest_web.client"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=limit(30), check=False
    )
    assert done.stderr.splitlines()[-1].endswith("pip install 'tee-signer[client]'")
    assert "import attest_web.client" in done.stderr
