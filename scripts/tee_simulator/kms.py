"""The keys of a dstack guest, derived from a seed in place of a KMS's root secrets.

All keys are derived by HKDF-SHA256 with the salt `RATLS`:

    root secret ─ app id ‖ "app-key" → app key ─ path → a key that the app asks for

Only the path determines a key; purpose and algorithm do not change it. Both are in the signatures.
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum

from coincurve import PrivateKey
from Crypto.Hash import keccak
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY_SIZE = 32
_SALT = b"RATLS"


class UnknownAlgorithmError(ValueError):
    """A key was requested for an algorithm that dstack does not know."""


class KeyProviderKind(StrEnum):
    """Kinds of key providers, by dstack's names."""

    KMS = "kms"
    NONE = "none"
    LOCAL_SGX = "local-sgx"
    TPM = "tpm"


@dataclass(frozen=True)
class KeyProvider:
    """The secrets of a key provider.

    Attributes:
        kind: What it is.
        k256_root: The KMS's secp256k1 secret, 32 bytes: root of app keys and of signature chains.
        ca_key: The KMS's key for certificates, on P-256; without a KMS, the guest's own.
    """

    kind: KeyProviderKind
    k256_root: bytes = field(repr=False)
    ca_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def from_seed(cls, kind: KeyProviderKind, seed: bytes) -> "KeyProvider":
        """Derive them all.

        Args:
            kind: What it is.
            seed: The seed of its secrets: the same seed gives the same keys and the same id.
        """
        k256_root = derive_key(seed, b"simulated key provider: secp256k1 root")
        return cls(kind, k256_root, derive_p256(seed, b"simulated key provider: P-256 CA"))

    @property
    def id(self) -> bytes:
        """What stands for it in the event log.

        A KMS's is the SPKI of its P-256 CA key, DER, 91 bytes; that of the local SGX provider is its enclave's
        measurement, 32 bytes. The others have none.
        """
        match self.kind:
            case KeyProviderKind.KMS:
                return self.ca_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            case KeyProviderKind.LOCAL_SGX:
                return derive_key(self.k256_root, b"simulated enclave: MRENCLAVE")
        return b""

    @property
    def info(self) -> str:
        """What the event `key-provider` has for a payload, compact JSON."""
        return json.dumps({"name": self.kind.value, "id": self.id.hex()}, separators=(",", ":"))

    @property
    def k256_public_key(self) -> bytes:
        """The key that ends every signature chain, compressed, 33 bytes; empty without a KMS."""
        return PrivateKey(self.k256_root).public_key.format() if self.kind is KeyProviderKind.KMS else b""

    def app_keys(self, app_id: bytes) -> "AppKeys":
        """The keys of one app.

        Args:
            app_id: The app, 20 bytes.
        """
        secret = derive_key(self.k256_root, app_id, b"app-key")
        if self.kind is not KeyProviderKind.KMS:
            return AppKeys(secret, b"")
        issued = b"dstack-kms-issued:" + app_id + PrivateKey(secret).public_key.format()
        return AppKeys(secret, PrivateKey(self.k256_root).sign_recoverable(issued, _keccak256))


@dataclass(frozen=True)
class AppKeys:
    """An app's key in the guest, and all those below it.

    Attributes:
        secret: The app's secp256k1 secret, 32 bytes.
        issued: The KMS root's signature over `dstack-kms-issued:` ‖ app id ‖ the app's public key; empty without a KMS.
    """

    secret: bytes = field(repr=False)
    issued: bytes

    def get_key(self, path: str, purpose: str, algorithm: str = "") -> tuple[bytes, list[bytes]]:
        """A key of the app.

        Args:
            path: Which of the app's keys.
            purpose: What it is for.
            algorithm: `secp256k1` (or nothing, or `k256`) or `ed25519`.

        Returns:
            The key, 32 bytes, and its signature chain: the app key's signature over `{purpose}:{public key in hex}`,
            and `issued`. Both are recoverable, r ‖ s ‖ v with v 0 or 1, over keccak256.

        Raises:
            UnknownAlgorithmError: It is neither of those.
        """
        key = derive_key(self.secret, path.encode())
        said = f"{purpose}:{public_key(key, algorithm).hex()}"
        return key, [PrivateKey(self.secret).sign_recoverable(said.encode(), _keccak256), self.issued]


def public_key(key: bytes, algorithm: str) -> bytes:
    """The public key of a secret, 32 bytes: 33 (compressed) for secp256k1, 32 for Ed25519.

    Raises:
        UnknownAlgorithmError: The algorithm is neither.
    """
    if algorithm in ("", "secp256k1", "k256"):
        return PrivateKey(key).public_key.format()
    if algorithm == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    raise UnknownAlgorithmError("Unsupported algorithm")


def derive_key(secret: bytes, *context: bytes) -> bytes:
    """Derive a key as dstack does, by HKDF-SHA256 (RFC 5869), 32 bytes.

    Args:
        secret: Input key material.
        context: What the key is for; the parts are joined.
    """
    # As a secret of either curve, the result is out of range once in 2^32 or 2^128 secrets: the curve's library tells.
    return HKDF(hashes.SHA256(), KEY_SIZE, _SALT, b"".join(context)).derive(secret)


def derive_p256(secret: bytes, *context: bytes) -> ec.EllipticCurvePrivateKey:
    """The same derivation, as a key on P-256."""
    return ec.derive_private_key(int.from_bytes(derive_key(secret, *context)), ec.SECP256R1())


def _keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()
