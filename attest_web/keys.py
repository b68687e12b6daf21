"""The two signing keys of this proxy and the addresses by which verifiers know them."""

import secrets
from dataclasses import dataclass, field

import coincurve
import nacl.signing
from Crypto.Hash import keccak

KEY_BYTES = 32
"""Size in bytes of the secp256k1 secret and of the Ed25519 seed."""


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it: the padding of the original submission, not that of SHA3-256."""
    return keccak.new(digest_bits=256, data=data).digest()


def checksum_address(address: bytes) -> str:
    """The EIP-55 form of a 20-byte Ethereum address: `0x` and 40 hex digits whose case is a checksum."""
    digits = address.hex()
    checksum = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit for digit, nibble in zip(digits, checksum, strict=False)
    )


@dataclass(frozen=True)
class SigningKeys:
    """An ECDSA (secp256k1) and an Ed25519 key, with their public forms.

    Attributes:
        ecdsa_public_key: 64 bytes, uncompressed, without the leading `04`.
        ecdsa_address: EIP-55 address of that key.
        ed25519_public_key: 32 bytes.
        ed25519_address: The public key in hex.
    """

    ecdsa: coincurve.PrivateKey = field(repr=False)
    ed25519: nacl.signing.SigningKey = field(repr=False)
    ecdsa_public_key: bytes
    ecdsa_address: str
    ed25519_public_key: bytes
    ed25519_address: str

    @classmethod
    def from_secrets(cls, ecdsa_secret: bytes, ed25519_seed: bytes) -> "SigningKeys":
        """Make the keys from 32 bytes each.

        Raises:
            ValueError: A secret has another length, or is not a secp256k1 scalar. The message does not quote it.
        """
        for name, secret in (("ecdsa", ecdsa_secret), ("ed25519", ed25519_seed)):
            if len(secret) != KEY_BYTES:
                raise ValueError(f"the {name} key must be {KEY_BYTES} bytes, not {len(secret)}")
        try:
            ecdsa = coincurve.PrivateKey(ecdsa_secret)
        except ValueError:
            raise ValueError("the ecdsa key is not a valid secp256k1 secret") from None
        ed25519 = nacl.signing.SigningKey(ed25519_seed)
        ecdsa_public_key = ecdsa.public_key.format(compressed=False)[1:]
        ed25519_public_key = bytes(ed25519.verify_key)
        return cls(
            ecdsa=ecdsa,
            ed25519=ed25519,
            ecdsa_public_key=ecdsa_public_key,
            ecdsa_address=checksum_address(keccak256(ecdsa_public_key)[-20:]),
            ed25519_public_key=ed25519_public_key,
            ed25519_address=ed25519_public_key.hex(),
        )

    @classmethod
    def random(cls) -> "SigningKeys":
        """Fresh random keys, for development: they are not attested."""
        return cls.from_secrets(*random_secrets())


def random_secrets() -> tuple[bytes, bytes]:
    """An ECDSA secret and an Ed25519 seed, fresh and random."""
    while True:
        ecdsa_secret = secrets.token_bytes(KEY_BYTES)
        try:
            coincurve.PrivateKey(ecdsa_secret)
        except ValueError:  # 1 in 2^128: not below the order of the group
            continue
        return ecdsa_secret, secrets.token_bytes(KEY_BYTES)
