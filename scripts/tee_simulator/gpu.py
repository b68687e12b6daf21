"""A guest's record of the GPUs that it attested at boot.

Format: the output of NVIDIA's `nvattest`, which dstack keeps unchanged and whose digest it puts into its event log. The
tokens in it are unsigned (`alg` none), like those of NVIDIA's local verifier; here, there is no GPU either.
"""

import base64
import hashlib
import json
from typing import Any

_ISSUED = 1784207862
_CERTIFICATE = {
    "x-nvidia-cert-expiration-date": "9999-12-31T23:59:59Z",
    "x-nvidia-cert-ocsp-nonce-matches": True,
    "x-nvidia-cert-ocsp-response-valid": True,
    "x-nvidia-cert-ocsp-status": "good",
    "x-nvidia-cert-revocation-reason": None,
    "x-nvidia-cert-status": "valid",
}


def gpu_attestation(seed: bytes, count: int) -> str:
    """The text that the guest keeps, and `GpuInfo` gives: indented JSON with a line end behind it.

    Args:
        seed: The seed of the GPUs' ids.
        count: Number of GPUs; 0 gives an empty text.
    """
    if count == 0:
        return ""
    nonce = hashlib.sha256(b"GPU nonce" + seed).hexdigest()
    claims = [_claims(hashlib.sha256(b"GPU %d" % number + seed).digest(), nonce) for number in range(count)]
    times = {"exp": _ISSUED + 3600, "iat": _ISSUED, "iss": "NVAT-LOCAL-VERIFIER"}
    tokens = {
        f"GPU-{number}": _unsigned_token(of_gpu | times | {"jti": hashlib.sha256(of_gpu["ueid"].encode()).hexdigest()})
        for number, of_gpu in enumerate(claims)
    }
    digests = {name: ["DIGEST", ["SHA256", hashlib.sha256(jwt.encode()).hexdigest()]] for name, jwt in tokens.items()}
    overall: dict[str, Any] = {
        "eat_nonce": nonce,
        **times,
        "jti": hashlib.sha256(nonce.encode()).hexdigest(),
        "sub": "NVIDIA-PLATFORM-ATTESTATION",
        "submods": digests,
        "x-nvidia-overall-att-result": True,
        "x-nvidia-ver": "3.0",
    }
    output = {
        "claims": claims,
        "detached_eat": [["JWT", _unsigned_token(overall)], tokens],
        "result_code": 0,
        "result_message": "Ok",
    }
    return json.dumps(output, indent=2) + "\n"


def gpu_attestation_event(text: str, count: int) -> bytes:
    """The payload of the event `gpu-attestation`, compact JSON.

    Args:
        text: What `gpu_attestation` gives.
        count: How many GPUs it is of.
    """
    event = {
        "version": 2,
        "provider": "nvidia",
        "devices": count,
        "cc_mode": "on",
        "devtools": False,
        "evidence_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _claims(identity: bytes, nonce: str) -> dict[str, Any]:
    """NVIDIA's claims (version 3.0) of one GPU that has passed all checks."""
    report, driver, vbios = (f"x-nvidia-gpu-{of}" for of in ("attestation-report", "driver-rim", "vbios-rim"))
    claims: dict[str, Any] = {
        "dbgstat": "disabled",
        "eat_nonce": nonce,
        "hwmodel": "GH100 A01 GSP BROM",
        "measres": "success",
        "oemid": "5703",
        "secboot": True,
        "ueid": str(int.from_bytes(identity[:20])),
        "x-nvidia-device-type": "gpu",
        "x-nvidia-gpu-arch-check": True,
        f"{report}-cert-chain": _CERTIFICATE,
        f"{report}-cert-chain-fwid-match": True,
        f"{report}-nonce-match": True,
        f"{report}-parsed": True,
        f"{report}-signature-verified": True,
        "x-nvidia-gpu-claims-version": "3.0",
        "x-nvidia-gpu-driver-version": "580.159.03",
        "x-nvidia-gpu-vbios-index-no-conflict": True,
        "x-nvidia-gpu-vbios-version": "96.00.D9.00.01",
        "x-nvidia-mismatch-measurement-records": None,
    }
    for rim in (driver, vbios):
        claims[f"{rim}-cert-chain"] = _CERTIFICATE
        claims |= {
            f"{rim}-{what}": True
            for what in ("fetched", "measurements-available", "signature-verified", "version-match")
        }
    return dict(sorted(claims.items()))


def _unsigned_token(claims: dict[str, Any]) -> str:
    """A JWT (RFC 7519) without a signature."""
    parts = [{"alg": "none"}, dict(sorted(claims.items()))]
    encoded = [base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts]
    return ".".join(part.rstrip(b"=").decode() for part in encoded) + "."
