import pytest

from attest_web.verify.nvidia.claims import check_gpu_claims
from attest_web.verify.primitives.checks import FailedError
from tests.attest_web.verify.nvidia.fake_nras import gpu_claims

UEID = "457723480349051719100670602112458195243836813799"


def test_valid_gpu_claims_return_the_ueid() -> None:
    claims = gpu_claims(UEID)
    assert check_gpu_claims(claims, "the token") == UEID
    assert check_gpu_claims(claims | {"x-nvidia-device-type": "gpu"}, "the token") == UEID
    del claims["x-nvidia-gpu-arch-check"]
    assert check_gpu_claims(claims, "the token") == UEID


@pytest.mark.parametrize(
    ("claim", "value", "why"),
    [
        ("measres", "fail", "measurements"),
        ("measres", "Success", "measurements"),
        ("measres", None, "measurements"),
        ("secboot", False, "securely"),
        ("secboot", "true", "securely"),
        ("secboot", None, "securely"),
        ("dbgstat", "enabled", "debugging"),
        ("dbgstat", None, "debugging"),
        ("x-nvidia-gpu-attestation-report-nonce-match", False, "nonce-match"),
        ("x-nvidia-gpu-attestation-report-signature-verified", None, "signature-verified"),
        ("x-nvidia-device-type", "nvswitch", "another device"),
        ("ueid", None, "no 'ueid'"),
        ("ueid", 4577, "not a string"),
        ("ueid", "", "decimal"),
        ("ueid", "0123", "decimal"),
        ("ueid", "12ab", "decimal"),
        ("ueid", "١٢", "decimal"),
        ("ueid", "9" * 65, "decimal"),
    ],
)
def test_invalid_gpu_claim_fails_with_the_reason(claim: str, value: object, why: str) -> None:
    with pytest.raises(FailedError, match=f"the token.*{why}"):
        check_gpu_claims(gpu_claims(UEID) | {claim: value}, "the token")


@pytest.mark.parametrize("claim", ["measres", "secboot", "dbgstat", "ueid"])
def test_missing_gpu_claim_fails(claim: str) -> None:
    claims = gpu_claims(UEID)
    del claims[claim]
    with pytest.raises(FailedError):
        check_gpu_claims(claims, "the token")
