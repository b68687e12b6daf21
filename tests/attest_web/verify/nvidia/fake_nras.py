"""A stand-in for NVIDIA's attestation service: answers of its form, signed with a key of the tests' own.

key = signing_key()
answer = nras_answer(nonce.hex(), ["4577"], key)
check_verdict(answer, nonce, NvidiaKeys.parse(jwks(key)), now=time.time(), gpus=1)
"""

import base64
import datetime
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attest_web.verify.nvidia.tokens import ISSUER

KEY_ID = "nv-eat-kid-test-20260101000000000"
LIFETIME = 3600


def signing_key(curve: EllipticCurve | None = None) -> EllipticCurvePrivateKey:
    """A key as NVIDIA signs with."""
    return generate_private_key(curve or SECP384R1())


def certificate(key: EllipticCurvePrivateKey, begins: float = 0.0, ends: float = 4_000_000_000.0) -> bytes:
    """A certificate for a key, in DER, valid between these times in seconds since 1970."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in for NVIDIA's attestation service")])
    start, end = (datetime.datetime.fromtimestamp(at, datetime.UTC) for at in (begins, ends))
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, end)
    return made.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def jwk(key: EllipticCurvePrivateKey, kid: str = KEY_ID) -> dict[str, Any]:
    """The public half of a key as NVIDIA publishes it."""
    numbers, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": f"P-{key.key_size}",
        "kid": kid,
        "x5c": [base64.b64encode(certificate(key)).decode()],
        "x": _base64url(numbers.x.to_bytes(size)),
        "y": _base64url(numbers.y.to_bytes(size)),
    }


def jwks(key: EllipticCurvePrivateKey, kid: str = KEY_ID) -> bytes:
    """A key set with one key: what `/.well-known/jwks.json` answers."""
    return json.dumps({"keys": [jwk(key, kid)]}).encode()


def token(claims: Mapping[str, Any], key: EllipticCurvePrivateKey, kid: str = KEY_ID) -> str:
    """A token with these claims."""
    return signed(json.dumps(claims).encode(), key, kid)


def signed(payload: bytes, key: EllipticCurvePrivateKey, kid: str = KEY_ID) -> str:
    """A signed token with any payload. NVIDIA's have no `typ`."""
    return jwt.PyJWS().encode(payload, key, "ES384", {"kid": kid, "typ": None})


def registered_claims(nonce_hex: str, now: float | None = None, issuer: str = ISSUER) -> dict[str, Any]:
    """What every token of NVIDIA's says."""
    issued = int(time.time() if now is None else now)
    return {"iss": issuer, "iat": issued, "nbf": issued, "exp": issued + LIFETIME, "eat_nonce": nonce_hex}


def gpu_claims(ueid: str) -> dict[str, Any]:
    """What NVIDIA says about a GPU that holds, shortened: claims version 2.0, as `/v3/attest/gpu` gives them."""
    return {
        "ueid": ueid,
        "oemid": "5703",
        "hwmodel": "GH100 A01 GSP BROM",
        "measres": "success",
        "secboot": True,
        "dbgstat": "disabled",
        "x-nvidia-attestation-warning": None,
        "x-nvidia-gpu-arch-check": True,
        "x-nvidia-gpu-attestation-report-nonce-match": True,
        "x-nvidia-gpu-attestation-report-parsed": True,
        "x-nvidia-gpu-attestation-report-signature-verified": True,
    }


def bundle(overall: Mapping[str, Any], gpus: Mapping[str, str], key: EllipticCurvePrivateKey) -> bytes:
    """An answer with an overall token that has the digests of the others, where it does not have `submods` already."""
    submods = {name: ["DIGEST", ["SHA-256", hashlib.sha256(gpu.encode()).hexdigest()]] for name, gpu in gpus.items()}
    return json.dumps([["JWT", token({"submods": submods, **overall}, key)], dict(gpus)]).encode()


def overall_claims(nonce_hex: str, result: object = True, **registered: Any) -> dict[str, Any]:
    """What the overall token says, besides its `submods`."""
    return {
        "sub": "NVIDIA-PLATFORM-ATTESTATION",
        "x-nvidia-ver": "2.0",
        "x-nvidia-overall-att-result": result,
        **registered_claims(nonce_hex, **registered),
    }


def nras_answer(
    nonce_hex: str,
    ueids: Sequence[str],
    key: EllipticCurvePrivateKey,
    result: object = True,
    *,
    now: float | None = None,
    issuer: str = ISSUER,
) -> bytes:
    """What `/v3/attest/gpu` answers.

    Args:
        nonce_hex: The nonce of the evidence.
        ueids: The serial number of each GPU, in decimal digits.
        key: What to sign with.
        result: What the overall token says about all of them.
        now: When it is made, in seconds since 1970; now where it is None.
        issuer: What the service names itself.
    """
    gpus = {
        f"GPU-{n}": token(gpu_claims(ueid) | registered_claims(nonce_hex, now, issuer), key)
        for n, ueid in enumerate(ueids)
    }
    return bundle(overall_claims(nonce_hex, result, now=now, issuer=issuer), gpus, key)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
