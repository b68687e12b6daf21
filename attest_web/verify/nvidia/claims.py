"""NVIDIA's claims about one GPU, which are the same in the service's tokens and in a guest's own check at boot.

The claims are those of NVIDIA's claims guide for GPUs, versions 2.0 and 3.0 (docs.nvidia.com/attestation).
"""

import re

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.untrusted_json import JsonObject, text

_UEID = re.compile(r"[1-9][0-9]{0,63}")
_ABOUT_THE_EVIDENCE = (
    "x-nvidia-gpu-arch-check",
    "x-nvidia-gpu-attestation-report-nonce-match",
    "x-nvidia-gpu-attestation-report-parsed",
    "x-nvidia-gpu-attestation-report-signature-verified",
)


def check_gpu_claims(claims: JsonObject, what: str) -> str:
    """Check that the claims are those of a genuine GPU with known firmware, secure boot on and debugging off.

    Args:
        claims: The claims about one GPU.
        what: Name of their source, for the error.

    Returns:
        The GPU's `ueid` (RFC 9711, 4.2.1): the serial number of its certificate, in decimal digits.

    Raises:
        FailedError: They are not.
    """
    if claims.get("x-nvidia-device-type", "gpu") != "gpu":
        raise FailedError(f"{what} is about another device than a GPU")
    if claims.get("measres") != "success":
        raise FailedError(f"{what} says that the GPU's measurements are not the known ones")
    if claims.get("secboot") is not True:
        raise FailedError(f"{what} does not say that the GPU booted securely")
    if claims.get("dbgstat") != "disabled":
        raise FailedError(f"{what} does not say that debugging of the GPU is disabled")
    for name in _ABOUT_THE_EVIDENCE:
        # Not every version of the claims has all of them.
        if claims.get(name, True) is not True:
            raise FailedError(f"{what} has {name!r}, which is not true")
    ueid = text(claims, "ueid", what)
    if not _UEID.fullmatch(ueid):
        raise FailedError(f"'ueid' of {what} is not a decimal number")
    return ueid
