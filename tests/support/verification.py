"""Checks signatures with other libraries than those that make them."""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from eth_keys.backends.native.main import NativeECCBackend
from eth_keys.constants import SECPK1_N
from eth_keys.main import KeyAPI
from eth_utils.crypto import keccak


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def recovered_address(text: str, signature: str) -> str:
    """The EIP-55 address that an ECDSA signature, `0x` and r, s, v, was made with."""
    assert signature.startswith("0x")
    raw = bytes.fromhex(signature[2:])
    assert len(raw) == 65
    assert raw[64] in (27, 28)
    assert int.from_bytes(raw[32:64]) <= SECPK1_N // 2, "s is high"
    api = KeyAPI(NativeECCBackend)
    message = text.encode()
    digest = keccak(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)
    key = api.Signature(raw[:64] + bytes([raw[64] - 27])).recover_public_key_from_msg_hash(digest)
    return key.to_checksum_address()


def check_ed25519(text: str, signature: str, address: str) -> None:
    """Raise InvalidSignature unless the signature is one of the text by this address."""
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(address)).verify(bytes.fromhex(signature), text.encode())


def check(answer: dict[str, str], request_body: bytes, response_body: bytes) -> None:
    """Check the response of `/v1/signature/{id}` against the bytes that a client sent and received."""
    assert answer["text"] == f"{sha256(request_body)}:{sha256(response_body)}"
    if answer["signing_algo"] == "ecdsa":
        assert recovered_address(answer["text"], answer["signature"]) == answer["signing_address"]
    else:
        assert answer["signing_algo"] == "ed25519"
        check_ed25519(answer["text"], answer["signature"], answer["signing_address"])
