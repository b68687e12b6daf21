"""Keys as dstack's KMS hands them out, derived from a seed.

The shapes and the chain of signatures are dstack's; the derivation is of its own, so no key from here is one that a
real KMS would give.
"""

import hashlib
import hmac

from coincurve import PrivateKey
from Crypto.Hash import keccak
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class UnknownAlgorithmError(ValueError):
    """A key was asked for an algorithm that dstack does not know."""


class SimulatedKms:
    """A KMS's root key, the key of one app under it, and the keys that the app asks for.

    Attributes:
        root_public_key: Compressed secp256k1 key that the last link of every signature chain is made with, 33 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        """Make a KMS.

        Args:
            seed: Whence all keys come: the same seed gives the same keys.
        """
        self._root = PrivateKey(_derived(seed, b"kms-root"))
        self._app_secret = _derived(seed, b"app")
        self._app = PrivateKey(self._app_secret)
        self.root_public_key = self._root.public_key.format()

    def get_key(self, app_id: bytes, path: str, purpose: str, algorithm: str = "") -> tuple[bytes, list[bytes]]:
        """A key of the app.

        As in dstack, path alone decides what the key is: neither purpose nor algorithm changes it. The purpose is in
        the signature, which binds the public key to it.

        Args:
            app_id: The app, 20 bytes.
            path: Which of the app's keys.
            purpose: What it is for.
            algorithm: `secp256k1` (or nothing, or `k256`) or `ed25519`.

        Returns:
            The key, 32 bytes, and its signature chain: the app key's signature over `{purpose}:{public key in hex}`,
            and the root key's over `dstack-kms-issued:` ‖ app id ‖ app's public key. Both are recoverable, r ‖ s ‖ v,
            over keccak256.

        Raises:
            UnknownAlgorithmError: It is neither of those.
        """
        secret = _derived(self._app_secret, b"path", path.encode())
        if algorithm in ("", "secp256k1", "k256"):
            public_key = PrivateKey(secret).public_key.format()
        elif algorithm == "ed25519":
            public = Ed25519PrivateKey.from_private_bytes(secret).public_key()
            public_key = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        else:
            raise UnknownAlgorithmError("Unsupported algorithm: ask for secp256k1 or ed25519")
        by_app = self._app.sign_recoverable(f"{purpose}:{public_key.hex()}".encode(), _keccak256)
        issued = b"dstack-kms-issued:" + app_id + self._app.public_key.format()
        return secret, [by_app, self._root.sign_recoverable(issued, _keccak256)]


def _derived(secret: bytes, *labels: bytes) -> bytes:
    # As a secp256k1 secret it is out of range once in 2^128 seeds: coincurve would say so.
    return hmac.digest(secret, b"dstack simulator:" + b":".join(labels), hashlib.sha256)


def _keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()
