"""The modifier through which a signed response streams (`flow.response.stream`): hash, read, hold back the end."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

from addons.exchange.token_times import TokenTimes
from addons.exchange.usage import Usage


class BodyReader(Protocol):
    """Reads a body as it passes, and says when each byte of it may be sent on."""

    @property
    def id(self) -> str | None:
        """The response id, once it has passed, where there is one."""

    @property
    def finished(self) -> bool:
        """Whether the last event of a stream has come."""

    @property
    def usage(self) -> Usage | None:
        """The tokens, when the message is complete, where it has told of them."""

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece, of one byte or more; return what may be sent on now, perhaps nothing."""

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, `feed` would return as they are, with nothing to note."""

    def end(self) -> bytes:
        """Take note that the message is complete; return the rest."""


class ResponseTap:
    """Hashes a response body on its way, and has it signed before its last bytes are given out.

    Attributes:
        has_size: Whether the head of the message tells how many bytes its body has.
        when_finished: Called when the reader has found the last event, which is before the message has ended.
    """

    def __init__(
        self,
        reader: BodyReader,
        complete: Callable[[str, BodyReader], Future[None] | None],
        size: int | None = None,
        times: TokenTimes | None = None,
    ) -> None:
        """Make a tap for one response.

        Args:
            reader: Decides what goes out when.
            complete: Called once, when the message is complete, with the SHA-256 of the whole body in hex and the
                reader. Returns what is done when they may know of the signature who have the last bytes; None: at once.
                Never called for a message that is cut short.
            size: Bytes of the body, where that is known beforehand, to the client too.
            times: Is told when pieces come, where these are events.
        """
        self._reader = reader
        self._complete = complete
        self.has_size = size is not None
        self._missing = size
        self._times = times
        self._last = b""
        self._sha256 = hashlib.sha256()
        self.when_finished: Callable[[], None] | None = None
        self._completed = False

    @property
    def is_left_open(self) -> bool:
        """Whether the last event has come, nothing speaks against its being the last, and the message has not ended."""
        return self._reader.finished and not self._completed

    def watch(self, watched: Callable[[BodyReader], BodyReader]) -> None:
        """Have the body read by another reader, which reads it by this one's and sees what passes."""
        self._reader = watched(self._reader)

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Take a piece from mitmproxy, `b""` at the end of the message; return what goes to the client.

        "Nothing" is an empty list: an empty piece would be the last chunk of a chunked body (RFC 9112, 7.1).
        """
        if piece:
            self._sha256.update(piece)
            if self._times is not None:
                self._times.came()
            released = self._reader.feed(piece)
            if self._missing is not None:
                self._missing -= len(piece)
                if self._missing <= 0:
                    # A client that counts knows by the last byte that it has all, whatever the reader makes of it.
                    released, self._last = released[:-1], released[-1:]
            if self._reader.finished and self.when_finished is not None:
                self.when_finished()
                self.when_finished = None
            return released or []
        if not self._completed:
            self.finish()
        return self._last or []

    def take(self, pieces: Sequence[bytes]) -> int:
        """Take those of the next pieces, from the first on, that go to the client as they are; return how many."""
        taken = self._reader.passing(pieces) if self._missing is None else 0
        if taken:
            self._sha256.update(pieces[0] if taken == 1 else b"".join(pieces[:taken]))
            if self._times is not None:
                self._times.came(taken)
        return taken

    def finish(self) -> Future[None] | None:
        """Take note that the message is complete, and have it signed; `self(b"")` then gives the last bytes.

        Returns:
            What is done when they may go out; None where they may at once.
        """
        self._completed = True
        self._last += self._reader.end()
        complete, self._complete = self._complete, _done  # it knows the flow, which knows this
        return complete(self._sha256.hexdigest(), self._reader)


class AwaitedTap(ResponseTap):
    """One whose `finish` has to be called first, by who can wait for what it returns."""


def _done(_: str, __: BodyReader) -> None:
    """What is left of `complete` when it has been called."""
