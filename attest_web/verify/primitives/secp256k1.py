"""The canonical form of an ECDSA signature on secp256k1: of the two that verify, the one with the low s.

From a signature (r, s), the other one, (r, n - s), can be computed without the key. Software that compares signatures
by their bytes would take it for a second signature. So signers make the low s (BIP 62; EIP-2), and verifiers that
accept nothing else see a single signature.
"""

from attest_web.verify.primitives.checks import FailedError

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Order of the group, n (SEC 2, 2.4.1)."""

SCALAR_BYTES = 32


def check_scalars(signature: bytes, what: str) -> None:
    """Check r and s of a signature: from 1 to n - 1 (SEC 1, 4.1.4), and s in the lower half of that.

    Args:
        signature: r and s, 32 bytes each, big-endian; what follows is ignored.
        what: Name of the signature, for the error.

    Raises:
        FailedError: They are outside of that range.
    """
    r, s = (int.from_bytes(signature[at : at + SCALAR_BYTES]) for at in (0, SCALAR_BYTES))
    for name, value in (("r", r), ("s", s)):
        if not 0 < value < ORDER:
            raise FailedError(f"{name} is not between 1 and the order of the group in {what}")
    if s > ORDER // 2:
        raise FailedError(f"s is high in {what}: it can be computed from the real signature, which has a low s")
