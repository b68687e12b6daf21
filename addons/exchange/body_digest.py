"""The size and the SHA-256 of a body, taken while it passes."""

import hashlib


class BodyDigest:
    """SHA-256 of a body.

    Attributes:
        size: Bytes so far.
        complete: Whether the whole body has passed.
    """

    __slots__ = ("_sha256", "complete", "size")

    def __init__(self) -> None:
        self.size = 0
        self.complete = False
        self._sha256 = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Hash the next bytes of the body."""
        self.size += len(piece)
        self._sha256.update(piece)

    def end(self) -> None:
        """Note that the body is complete."""
        self.complete = True

    def hex(self) -> str:
        """The hash of the body so far, in lower-case hex."""
        return self._sha256.hexdigest()
