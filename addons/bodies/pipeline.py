"""The pipeline that a body passes on its way through the proxy: transform, hash, hold back.

There is one for each body of an exchange that is looked into, made for that body alone. It is what stands in
`flow.request.stream` and `flow.response.stream`, where mitmproxy calls it with each piece. What the layers have to know
of it, it says of itself: whether the body's length changes, whether it is held until it is complete, which pieces pass
unread, what its end waits for. A pipeline whose end is signed is an `addons.bodies.signing_filter.SigningFilter`.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from addons.bodies.transform import Transform, TransformChain


class BodyObserver(Protocol):
    """Is shown the body at both sides of a pipeline. It changes nothing."""

    def passed(self, received: bytes, sent: bytes) -> None:
        """Take note of bytes that have come, and of those that go on for them; either may be empty."""

    def ended(self) -> None:
        """Take note that the whole body has passed."""


class BodyPipeline:
    """The pipeline of one body.

    Attributes:
        hold_limit: Bytes up to which the body is held until it is complete; 0: it goes on as it comes.
        complete: Whether the whole body has passed.
        changes_length: Whether what goes on may have another length than what came. A length that the message's head
            announces is then not that of the body.
        has_size: Whether the head of the message as it came tells how many bytes its body has.
        may_pass_unread: Whether `pass_unread` may ever take anything.
        durable: Whether `finish` has to be called first, by a caller that can wait for what it returns.
        observer: Is shown what passes, where something wants to see it.
        when_finished: Called when the last event of a stream has come, which is before the message has ended.
    """

    def __init__(self, transforms: Sequence[Transform] = (), *, hold_limit: int = 0) -> None:
        """Begin before the first byte.

        Args:
            transforms: Change the body, in this order. Without any, it is hashed once for both sides.
            hold_limit: Bytes up to which the body is to be held until it is complete.
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
        """The SHA-256 of what has come, and of what goes on, held back or not; in lower-case hex."""
        if self._transforms is not None:
            return self._transforms.digests
        received = self._sha256.hexdigest()
        return received, received

    @property
    def is_left_open(self) -> bool:
        """Whether the last event has come, nothing speaks against its being the last, and the message has not ended."""
        return False

    def __call__(self, piece: bytes) -> bytes | list[bytes]:
        """Take the next piece, `b""` at the end of the body; return what goes on.

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
        """Hash those of the next pieces, from the first on, that go on as they are with nothing to note in them.

        Args:
            pieces: What has come, each of one byte or more.

        Returns:
            How many; the others are still to be given to the pipeline.
        """
        del pieces
        return 0

    def finish(self) -> Future[None] | None:
        """Take note that the message is complete; `self(b"")` then gives the last bytes.

        Returns:
            What is done when they may go out; None where they may at once.
        """
        return None

    def _end(self) -> bytes:
        """End the transforms; return what they had held back. The second time, nothing comes of it."""
        if self.complete:
            return b""
        self.complete = True
        self.when_finished = None  # it knows the layers, which know the flow, which knows this
        rest = self._transforms.end() if self._transforms is not None else b""
        if self.observer is not None:
            if rest:
                self.observer.passed(b"", rest)
            self.observer.ended()
        return rest


def pipeline_in(stream: object) -> BodyPipeline | None:
    """The pipeline of a message, None where it has none.

    Args:
        stream: The message's `stream`, as mitmproxy has it: whether it streams, or the modifier that it passes.
    """
    return stream if isinstance(stream, BodyPipeline) else None
