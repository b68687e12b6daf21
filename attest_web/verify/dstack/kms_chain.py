"""The signature chain of a key that dstack's KMS has issued: app key over signing key, KMS root over app key.

Both signatures are secp256k1, recoverable (r ‖ s ‖ v, v 0 or 1), over keccak256 of

    purpose ":" hex(public key)                       by the app key; the public key compressed, or raw for Ed25519
    "dstack-kms-issued:" ‖ app id ‖ app public key    by the KMS's root key

Recovery yields a key for any signature, so only the comparison with a root that the verifier knows proves anything.
"""

from collections.abc import Collection, Sequence

import coincurve

from attest_web.dstack.key_chain import recovered_key
from attest_web.signatures import SigningAlgo
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.secp256k1 import check_scalars

PURPOSE = "signing"
"""The purpose of the signing keys, in `GetKey`."""

ROOT_BYTES = 33
"""Size in bytes of a KMS root key: a compressed secp256k1 point."""

_ISSUED = b"dstack-kms-issued:"


def recover(message: bytes, signature: bytes) -> bytes:
    """Recover the compressed public key, 33 bytes, from a signature over a message.

    Raises:
        FailedError: It is not such a signature.
    """
    try:
        key = recovered_key(message, signature)
    except ValueError as error:
        raise FailedError(str(error)) from None
    check_scalars(signature, "a signature in the chain")
    return key


def check_chain(
    algo: SigningAlgo, public_key: bytes, app_id: bytes, chain: Sequence[bytes], roots: Collection[bytes]
) -> str:
    """Check that a KMS with a known root has issued a signing key to an app; return what was found.

    Args:
        algo: The algorithm of the signing key.
        public_key: 64 bytes, uncompressed without `04` (ECDSA), or 32 (Ed25519).
        app_id: 20 bytes, the app's id in the boot log.
        chain: Signature by the app key, then by the root.
        roots: Accepted root keys, 33 bytes each.

    Raises:
        FailedError: The chain leads to another root, or is malformed.
    """
    if len(chain) != 2:
        raise FailedError(f"the signature chain has {len(chain)} signatures, not 2")
    try:
        named = coincurve.PublicKey(b"\4" + public_key).format() if algo == "ecdsa" else public_key
    except ValueError:
        raise FailedError("the signing key is not a point of secp256k1's curve") from None
    app_key = recover(f"{PURPOSE}:{named.hex()}".encode(), chain[0])
    root = recover(_ISSUED + app_id + app_key, chain[1])
    if root not in roots:
        raise FailedError(f"the signature chain leads to the root {root.hex()}, which is not the expected one")
    return f"the KMS with the root {root.hex()} has issued this key to the app {app_id.hex()}"
