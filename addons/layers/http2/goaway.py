"""The graceful end of an HTTP/2 connection (RFC 9113, 6.8): a first GOAWAY that rejects nothing, and a final one.

    OPEN ── announce ──> ANNOUNCED ── conclude ──> CONCLUDED
      └────────────── client_goes ─────────────────────^

A client may send a request before it has received the GOAWAY. So the first one names the highest possible stream, and
is sent with a PING. When the PING is acknowledged, or after a timeout, the second one names the last accepted stream.
Later streams are refused without being processed: the client may repeat these requests on another connection.

Sans-I/O: it returns frames. hyper-h2 treats a connection that has sent GOAWAY as closed, so its own GOAWAY is not used.
"""

import enum
from typing import Final

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, PingFrame

HIGHEST_STREAM: Final = 2**31 - 1
"""The last stream that the first GOAWAY names."""

PING_TIMEOUT: Final = 2.0
"""Seconds that a client has to acknowledge the PING."""

_PING: Final = b"shutdown"
"""8 bytes that identify the acknowledgement of this PING."""


class State(enum.Enum):
    """State of a connection's end."""

    OPEN = "no GOAWAY was sent"
    ANNOUNCED = "the first GOAWAY was sent; new streams are still accepted"
    CONCLUDED = "new streams are refused"


class GracefulEnd:
    """The graceful end of one connection.

    Attributes:
        state: The current state.
        last_stream_id: The last accepted stream, in `CONCLUDED`; None before.
    """

    def __init__(self) -> None:
        self.state = State.OPEN
        self.last_stream_id: int | None = None

    def announce(self) -> bytes:
        """Go from `OPEN` to `ANNOUNCED`; return the frames for the client."""
        self.state = State.ANNOUNCED
        # The PING is first: clients built on hyper-h2 fail at any other frame after a GOAWAY, and an idle client would
        # then not repeat its next request. Both are sent in one piece, so that the client receives them together.
        return PingFrame(0, opaque_data=_PING).serialize() + _goaway(HIGHEST_STREAM)

    def is_awaited_ack(self, ping_data: bytes) -> bool:
        """Whether the acknowledgement of a PING is the one that the final GOAWAY waits for."""
        return self.state is State.ANNOUNCED and ping_data == _PING

    def conclude(self, last_stream_id: int) -> bytes:
        """Go from `ANNOUNCED` to `CONCLUDED`; return the frame for the client.

        Args:
            last_stream_id: The highest stream that the client has opened; 0 if it has opened none.
        """
        self.state = State.CONCLUDED
        self.last_stream_id = last_stream_id
        return _goaway(last_stream_id)

    def client_goes(self, last_stream_id: int) -> None:
        """Go to `CONCLUDED`, as the client has sent a GOAWAY: it opens no new streams, and reads the open ones.

        Some clients send one as soon as they receive one.

        Args:
            last_stream_id: As for `conclude`.
        """
        if self.state is not State.CONCLUDED:
            self.state = State.CONCLUDED
            self.last_stream_id = last_stream_id

    def refuses(self, stream_id: int) -> bool:
        """Whether a new stream of the client is too late, and has to be refused."""
        return self.last_stream_id is not None and stream_id > self.last_stream_id


def _goaway(last_stream_id: int) -> bytes:
    return GoAwayFrame(0, last_stream_id=last_stream_id, error_code=ErrorCodes.NO_ERROR).serialize()
