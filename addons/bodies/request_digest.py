"""The hash of a request body, taken while it passes."""

import hashlib


class RequestDigest:
    """SHA-256 of a request body; a modifier through which the body may stream (`flow.request.stream`).

    Attributes:
        complete: Whether the whole body has passed.
    """

    def __init__(self, given: str | None = None) -> None:
        """Begin.

        Args:
            given: A hash, in hex, that stands for the body's own.
        """
        self.complete = False
        self._given = given
        self._sha256 = hashlib.sha256()

    def __call__(self, piece: bytes) -> bytes:
        """Take the next piece in and let it pass. It is empty at the end of the body."""
        self._sha256.update(piece)
        self.complete = self.complete or not piece
        return piece

    def hex(self) -> str:
        """The hash, in lower-case hex."""
        return self._given or self._sha256.hexdigest()
