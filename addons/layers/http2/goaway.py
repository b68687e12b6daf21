"""The graceful end of an HTTP/2 connection (RFC 9113, 6.8): a GOAWAY that refuses nothing yet, and then the final one.

    OPEN ── announce ──> ANNOUNCED ── conclude ──> CONCLUDED
      └────────────── client_goes ─────────────────────^

A request may be on its way to the server while the GOAWAY is on its way to the client. So the first one names the
highest stream that there can be, and goes out with a PING. When the PING has come back, or the client has had its time,
the second one names the last stream that was taken. Whatever comes behind it is refused, and was not acted upon: the
client may repeat it on another connection.

Sans-I/O: frames out. hyper-h2 takes a connection that has sent a GOAWAY for closed, so its own is of no use here.
"""

import enum
from typing import Final

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, PingFrame

HIGHEST_STREAM: Final = 2**31 - 1
"""The last stream that the first GOAWAY names."""

PING_TIMEOUT: Final = 2.0
"""Seconds that a client has to answer the PING."""

_PING: Final = b"shutdown"
"""8 bytes, to tell the acknowledgement of this PING from those of others."""


class State(enum.Enum):
    """How far the end has come."""

    OPEN = "nothing has been said of an end"
    ANNOUNCED = "the client knows that the connection is to end; what it has under way is taken yet"
    CONCLUDED = "no new stream is taken any more"


class GracefulEnd:
    """How one connection ends.

    Attributes:
        state: How far it has come.
        last_stream_id: The last stream that was taken, in `CONCLUDED`; None before.
    """

    def __init__(self) -> None:
        self.state = State.OPEN
        self.last_stream_id: int | None = None

    def announce(self) -> bytes:
        """Go from `OPEN` to `ANNOUNCED`; return the frames that tell the client."""
        self.state = State.ANNOUNCED
        # The PING goes first: clients built on hyper-h2 fail at any frame but a GOAWAY that comes behind a GOAWAY, and
        # an idle one would then not repeat its next request. Both go out in one piece, so that the client has both.
        return PingFrame(0, opaque_data=_PING).serialize() + _goaway(HIGHEST_STREAM)

    def is_awaited_ack(self, ping_data: bytes) -> bool:
        """Whether the acknowledgement of a PING is the one that the final GOAWAY waits for."""
        return self.state is State.ANNOUNCED and ping_data == _PING

    def conclude(self, last_stream_id: int) -> bytes:
        """Go from `ANNOUNCED` to `CONCLUDED`; return the frame that tells the client.

        Args:
            last_stream_id: The highest stream that the client has opened; 0 where it has opened none.
        """
        self.state = State.CONCLUDED
        self.last_stream_id = last_stream_id
        return _goaway(last_stream_id)

    def client_goes(self, last_stream_id: int) -> None:
        """Go to `CONCLUDED`, as the client has sent a GOAWAY: it opens no new streams, and reads those that it has.

        Some do so as soon as they get one.

        Args:
            last_stream_id: As for `conclude`.
        """
        if self.state is not State.CONCLUDED:
            self.state = State.CONCLUDED
            self.last_stream_id = last_stream_id

    def refuses(self, stream_id: int) -> bool:
        """Whether a stream that the client opens comes too late."""
        return self.last_stream_id is not None and stream_id > self.last_stream_id


def _goaway(last_stream_id: int) -> bytes:
    return GoAwayFrame(0, last_stream_id=last_stream_id, error_code=ErrorCodes.NO_ERROR).serialize()
