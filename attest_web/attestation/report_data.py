"""The 64 bytes that a quote is made over: they bind the signing key, and the TLS key if asked for, to a nonce.

report_data = address, padded with zeros to 32 bytes || nonce
report_data = sha256(address || sha256(SPKI in DER)) || nonce     with the TLS key
"""

import hashlib

NONCE_BYTES = 32


def report_data(address: bytes, nonce: bytes, spki_sha256: bytes | None = None) -> bytes:
    """The report_data of a report.

    Args:
        address: 20 bytes of an Ethereum address, or the 32 of an Ed25519 public key.
        nonce: 32 bytes.
        spki_sha256: SHA-256 of the TLS key's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER, to bind it too.

    Raises:
        ValueError: The nonce or the address has another length.
    """
    if len(nonce) != NONCE_BYTES or len(address) > NONCE_BYTES:
        raise ValueError("the nonce must be 32 bytes, and the address no more than that")
    bound = address.ljust(32, b"\0") if spki_sha256 is None else hashlib.sha256(address + spki_sha256).digest()
    return bound + nonce
