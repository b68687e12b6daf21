"""`Sign` and `Verify` of the guest agent: Ed25519 (RFC 8032), and ECDSA on secp256k1 with RFC 6979's nonces, low s."""

import hashlib
from typing import Final

from coincurve import PrivateKey, PublicKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from scripts.tee_simulator.kms import UnknownAlgorithmError

SECP256K1 = ("secp256k1", "k256")
PREHASHED: Final = "secp256k1_prehashed"
ED25519: Final = "ed25519"

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DIGEST_SIZE = 32
_SIGNATURE_SIZE = 64


class MalformedError(ValueError):
    """What is to be signed, or a key or signature, is malformed."""


def key_algorithm(algorithm: str) -> str:
    """The algorithm of the key that an algorithm of signatures takes."""
    return "secp256k1" if algorithm == PREHASHED else algorithm


def sign(key: bytes, algorithm: str, data: bytes) -> bytes:
    """Sign.

    Args:
        key: Secret, 32 bytes.
        algorithm: `ed25519`, `secp256k1` (or `k256`) over the data's SHA-256, or `secp256k1_prehashed` over the data.
        data: What to sign.

    Returns:
        64 bytes; of ECDSA r ‖ s, big-endian.

    Raises:
        MalformedError: The data is no digest, where it must be one.
        UnknownAlgorithmError: It is none of those.
    """
    if algorithm == ED25519:
        return Ed25519PrivateKey.from_private_bytes(key).sign(data)
    return PrivateKey(key).sign_recoverable(_digest(algorithm, data), hasher=None)[:_SIGNATURE_SIZE]


def verify(public_key: bytes, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Whether a signature is one of a key over the data.

    Args:
        public_key: Ed25519's 32 bytes, or a point on secp256k1 (SEC 1).
        algorithm: See `sign`.
        data: What is said to be signed.
        signature: 64 bytes.

    Raises:
        MalformedError: Key or signature cannot be one.
        UnknownAlgorithmError: The algorithm is none of `sign`'s.
    """
    if algorithm == ED25519:
        return _verify_ed25519(public_key, data, signature)
    if algorithm not in (*SECP256K1, PREHASHED):
        raise UnknownAlgorithmError("Unsupported algorithm")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key = PublicKey(public_key)
    except ValueError:
        raise MalformedError("signature error") from None
    if len(signature) != _SIGNATURE_SIZE or not 0 < r < _ORDER or not 0 < s < _ORDER:
        raise MalformedError("signature error")
    return key.verify(encode_dss_signature(r, s), _digest(algorithm, data), hasher=None)


def _verify_ed25519(public_key: bytes, data: bytes, signature: bytes) -> bool:
    if len(public_key) != 32:
        raise MalformedError("invalid public key")
    if len(signature) != _SIGNATURE_SIZE:
        raise MalformedError("signature error")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _digest(algorithm: str, data: bytes) -> bytes:
    if algorithm in SECP256K1:
        return hashlib.sha256(data).digest()
    if algorithm != PREHASHED:
        raise UnknownAlgorithmError("Unsupported algorithm")
    if len(data) != _DIGEST_SIZE:
        raise MalformedError(f"Pre-hashed signing requires a 32-byte digest, but received {len(data)} bytes")
    return data
