"""The pipeline that a body passes through in the proxy: transform, hash, hold back.

Each body that is hashed or changed has a pipeline of its own. It is the value of `flow.request.stream` or
`flow.response.stream`, and mitmproxy calls it with each piece. Its attributes tell the layers what they need to know:
whether the body's length changes, whether the body is held until it is complete, which pieces pass unread, and what its
end waits for. The pipeline of a body that is signed is an `addons.bodies.signing_filter.SigningFilter`.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from addons.bodies.transform import Transform, TransformChain


class BodyObserver(Protocol):
    """Observes the body at both sides of a pipeline, and changes nothing."""

    def passed(self, received: bytes, sent: bytes) -> None:
        """Note bytes that were received, and the bytes sent on for them; either may be empty."""

    def ended(self) -> None:
        """Note that the whole body has passed."""


class BodyPipeline:
    """The pipeline of one body.

    Attributes:
        hold_limit: Bytes up to which the body is held until it is complete; 0: it is sent on as it arrives.
        complete: Whether the whole body has passed.
        changes_length: Whether the length of the body may change. A length that the message's head announces is then
            not that of the body.
        has_size: Whether the head of the message as received tells how many bytes its body has.
        may_pass_unread: Whether `pass_unread` may ever take a piece.
        durable: Whether `finish` has to be called first, by a caller that can wait for the future that it returns.
        observer: Observes the body; None if there is no observer.
        when_finished: Called when the last event of a stream has arrived, which is before the message has ended.
    """

    def __init__(self, transforms: Sequence[Transform] = (), *, hold_limit: int = 0) -> None:
        """Begin before the first byte.

        Args:
            transforms: Applied to the body in this order. Without transforms, the body is hashed once for both sides.
            hold_limit: Bytes up to which the body is held until it is complete.
        """
        self.hold_limit = hold_limit
        self.complete = False
        self.has_size = False
        self.may_pass_unread = False
        self.durable = False
        self.observer: BodyObserver | None = None
        self.when_finished: Callable[[], None] | None = None
        self._sha256 = hashlib.sha256()
        self._transforms = TransformChain(transforms, self._sha256) if transforms else None
        self.changes_length = self._transforms is not None and self._transforms.changes_length

    @property
    def digests(self) -> tuple[str, str]:
        """The SHA-256 of the body as received, and as sent on, including what is held back; in lower-case hex."""
        if self._transforms is not None:
            return self._transforms.digests
        received = self._sha256.hexdigest()
        return received, received

    @property
    def is_left_open(self) -> bool:
        """Whether the last event of a stream has arrived and the message has not ended."""
        return False

    def __call__(self, piece: bytes) -> bytes | list[bytes]:
        """Process the next piece, `b""` at the end of the body; return what is sent on.

        "Nothing" is an empty list: an empty piece would be the last chunk of a chunked body (RFC 9112, 7.1).
        """
        if not piece:
            return self._end() or []
        if self._transforms is None:
            passing = piece
            self._sha256.update(piece)
        else:
            passing = self._transforms.feed(piece)
        if self.observer is not None:
            self.observer.passed(piece, passing)
        return passing or []

    def pass_unread(self, pieces: Sequence[bytes]) -> int:
        """Hash those of the next pieces, from the first on, that are sent on unchanged and need not be read.

        Args:
            pieces: Received pieces, each of one byte or more.

        Returns:
            How many were hashed; the caller has to pass the others to the pipeline.
        """
        del pieces
        return 0

    def finish(self) -> Future[None] | None:
        """Note that the message is complete; `self(b"")` then returns the last bytes.

        Returns:
            Resolved when they may be sent; None if they may be sent at once.
        """
        return None

    def _end(self) -> bytes:
        """End the transforms; return what they held back. A second call returns nothing."""
        if self.complete:
            return b""
        self.complete = True
        self.when_finished = None  # it refers to the layers, they to the flow, and the flow to this pipeline
        rest = self._transforms.end() if self._transforms is not None else b""
        if self.observer is not None:
            if rest:
                self.observer.passed(b"", rest)
            self.observer.ended()
        return rest


def pipeline_in(stream: object) -> BodyPipeline | None:
    """The pipeline of a message; None if it has none.

    Args:
        stream: The message's `stream` in mitmproxy: whether it streams, or the modifier of its body.
    """
    return stream if isinstance(stream, BodyPipeline) else None
