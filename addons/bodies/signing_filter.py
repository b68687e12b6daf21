"""The pipeline of a response that is signed: its last bytes are held back until the signature is there."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from addons.bodies.body_reader import BodyReader
from addons.bodies.pipeline import BodyPipeline
from addons.bodies.transform import Transform
from addons.exchange.token_times import TokenTimes


class SigningFilter(BodyPipeline):
    """Hashes a response body while it passes, and has it signed before its last bytes are released.

    Attributes:
        reader: Reads the bytes that are sent to the client.
    """

    def __init__(
        self,
        reader: BodyReader,
        sign: Callable[["SigningFilter"], Future[None] | None],
        size: int | None = None,
        times: TokenTimes | None = None,
        *,
        transforms: Sequence[Transform] = (),
        durable: bool = False,
    ) -> None:
        """Make the filter for one response.

        Args:
            reader: Decides when each byte is released.
            sign: Called once with this filter, when the message is complete, and never for a message that is cut
                short. Returns a future that is resolved once the signature can be fetched; None if that is at once.
            size: Bytes of the body as received, if known beforehand.
            times: Records when pieces arrive, if the body is an event stream.
            transforms: Applied to the body before it is read, in this order.
            durable: Whether the last bytes have to wait for the future that `sign` returns.
        """
        super().__init__(transforms)
        self.reader = reader
        self._sign = sign
        self.has_size = size is not None
        # Bytes still to be sent to the client; None if it cannot know the length.
        self._missing = None if self.changes_length else size
        self.may_pass_unread = not transforms and size is None
        self.durable = durable
        self._times = times
        self._last = b""

    @property
    def is_left_open(self) -> bool:
        """Whether the last event of a stream has arrived and the message has not ended."""
        return self.reader.finished and not self.complete

    def __call__(self, piece: bytes) -> bytes | list[bytes]:
        """Process a piece from mitmproxy, `b""` at the end of the message; return what is sent to the client.

        "Nothing" is an empty list: an empty piece would be the last chunk of a chunked body (RFC 9112, 7.1).
        """
        if not piece:
            if not self.complete:
                self.finish()
            return self._last or []
        if self._transforms is None:
            passing = piece
            self._sha256.update(piece)
        else:
            passing = self._transforms.feed(piece)
        if self._times is not None:
            self._times.came()
        if self.observer is not None:
            self.observer.passed(piece, passing)
        if not passing:
            return []
        released = self.reader.feed(passing)
        if self._missing is not None:
            self._missing -= len(passing)
            if self._missing <= 0:
                # A client that knows the length has the whole body with the last byte, even if the reader saw no end.
                released, self._last = released[:-1], released[-1:]
        if self.when_finished is not None and self.reader.finished:
            self.when_finished()
            self.when_finished = None
        return released or []

    def pass_unread(self, pieces: Sequence[bytes]) -> int:
        """Hash those of the next pieces that are sent to the client unread; see `BodyPipeline.pass_unread`."""
        taken = self.reader.passing(pieces) if self.may_pass_unread else 0
        if taken:
            self._sha256.update(pieces[0] if taken == 1 else b"".join(pieces[:taken]))
            if self._times is not None:
                self._times.came(taken)
            if self.observer is not None:
                for piece in pieces[:taken]:
                    self.observer.passed(piece, piece)
        return taken

    def finish(self) -> Future[None] | None:
        """Note that the message is complete, and have it signed; `self(b"")` then returns the last bytes.

        Returns:
            Resolved when they may be sent; None if they may be sent at once.
        """
        rest = self._end()
        if rest:
            self._last += self.reader.feed(rest)
        self._last += self.reader.end()
        sign, self._sign = self._sign, _done  # it refers to the flow, and the flow to this filter
        return sign(self)


def _done(_: SigningFilter) -> None:
    """Replaces `sign` once it has been called."""
