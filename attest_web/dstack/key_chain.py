"""The signature chains with which dstack's KMS vouches for the signing keys, as reports show them.

GetKey answers with a key and two recoverable secp256k1 signatures (65 bytes, r ‖ s ‖ v with v 0 or 1): the app key's
over the signing key, and the KMS root's over the app key. The first is over

    keccak256(purpose ":" hex(public key))      the public key compressed (secp256k1) or raw (Ed25519)

Recovery yields some public key for nearly any signature, so a chain is compared with the other key's: both have to come
from the same app key. Agents of dstack OS 0.5.5 and before sign an Ed25519 key as if it were a secp256k1 one; the chain
of the secp256k1 key is right on every version.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import coincurve

from attest_web.keys import SigningKeys, keccak256

logger = logging.getLogger(__name__)

SIGNATURE_BYTES = 65
_SIGNATURE = rf"[0-9A-Fa-f]{{{2 * SIGNATURE_BYTES}}}"

Chain = tuple[str, str]
"""Two signatures in hex, the app key's and the KMS root's; the latter is empty where there is no KMS."""


@dataclass(frozen=True)
class KeyChains:
    """The chains that lead from the signing keys to the app key; None where there is none to show.

    Attributes:
        ecdsa: Of the secp256k1 key.
        ed25519: Of the Ed25519 key.
    """

    ecdsa: Chain | None = None
    ed25519: Chain | None = None


def app_key(chain: Chain, purpose: str, public_key: bytes) -> bytes:
    """The app key that a chain leads to.

    Args:
        chain: The chain.
        purpose: The purpose that the key was requested with.
        public_key: The key that is signed: 33 bytes compressed (secp256k1), or 32 raw (Ed25519).

    Returns:
        The public key, 33 bytes compressed.

    Raises:
        ValueError: The first signature is none of secp256k1's.
    """
    return recovered_key(f"{purpose}:{public_key.hex()}".encode(), bytes.fromhex(chain[0]))


def recovered_key(message: bytes, signature: bytes) -> bytes:
    """The public key, 33 bytes compressed, by which a recoverable signature over keccak256 of a message is.

    Raises:
        ValueError: It is no such signature.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"a signature in the chain is {len(signature)} bytes long, not {SIGNATURE_BYTES}")
    try:
        return coincurve.PublicKey.from_signature_and_message(signature, message, keccak256).format()
    except ValueError:
        raise ValueError("a signature in the chain is none of secp256k1's") from None


def checked_chains(keys: SigningKeys, purpose: str, ecdsa: Sequence[str], ed25519: Sequence[str] | None) -> KeyChains:
    """The chains that a report may show; those that are left out are logged with the reason.

    Args:
        keys: The keys that they must be of.
        purpose: The purpose that the keys were requested with.
        ecdsa: GetKey's `signature_chain` of the secp256k1 key.
        ed25519: That of the Ed25519 key; None where the agent has none.
    """
    ecdsa_chain = _parsed(ecdsa)
    try:
        if ecdsa_chain is None:
            raise ValueError("it is not two signatures of 65 bytes in hex")
        expected = app_key(ecdsa_chain, purpose, keys.ecdsa.public_key.format())
    except ValueError as error:
        logger.warning("reports go without signature chains: dstack's for the ecdsa key is unusable: %s", error)
        return KeyChains()
    if ed25519 is None:
        logger.info("reports on the ed25519 key go without a signature chain: dstack OS before 0.5.7 gives none for it")
        return KeyChains(ecdsa=ecdsa_chain)
    ed25519_chain = _parsed(ed25519)
    try:
        if ed25519_chain is None:
            raise ValueError("it is not two signatures of 65 bytes in hex")
        if app_key(ed25519_chain, purpose, keys.ed25519_public_key) != expected:
            raise ValueError("it does not lead to the app key that the ecdsa key's leads to")
    except ValueError as error:
        logger.warning("reports on the ed25519 key go without a signature chain: dstack's is unusable: %s", error)
        return KeyChains(ecdsa=ecdsa_chain)
    return KeyChains(ecdsa=ecdsa_chain, ed25519=ed25519_chain)


def _parsed(chain: Sequence[str]) -> Chain | None:
    match chain:
        case (app_signature, root_signature) if re.fullmatch(_SIGNATURE, app_signature):
            if not root_signature or re.fullmatch(_SIGNATURE, root_signature):
                return app_signature, root_signature
    return None
