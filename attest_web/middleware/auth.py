"""Bearer tokens (RFC 6750) and their comparison in constant time."""

import hashlib
import hmac
from collections.abc import Iterable


class Tokens:
    """The valid bearer tokens.

    Only SHA-256 digests are kept: comparing digests of one length reveals nothing about the length of a token, and a
    repr or a dump of this object holds no token.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = _digests_of(tokens)

    def replace(self, tokens: Iterable[str]) -> None:
        """Replace the tokens, with effect for the next request; from any thread.

        Raises:
            ValueError: There is none; the old tokens stay valid.
        """
        self._digests = _digests_of(tokens)

    def accept(self, authorization: bytes | None) -> bool:
        """Whether an `Authorization` header value, as received, carries one of the tokens.

        Takes the same time whichever token matches, and whether one does.
        """
        return self.credential(authorization) is not None

    def credential(self, authorization: bytes | None) -> str | None:
        """The id of the credential in an `Authorization` header value, which does not reveal the token.

        Args:
            authorization: As received.

        Returns:
            16 hex digits of the token's SHA-256, or None where it is none of the tokens. Takes the same time whichever
            token matches, and whether one does.
        """
        scheme, _, token = (authorization or b"").strip().partition(b" ")
        digest = hashlib.sha256(token.strip()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest[:8].hex() if any(matches) and scheme.lower() == b"bearer" else None

    def knows(self, credential: str) -> bool:
        """Whether a credential, as `credential` gives it, is that of a valid token."""
        return any(digest[:8].hex() == credential for digest in self._digests)


def _digests_of(tokens: Iterable[str]) -> list[bytes]:
    digests = [hashlib.sha256(token.encode()).digest() for token in tokens]
    if not digests:
        raise ValueError("at least one token is needed")
    return digests
