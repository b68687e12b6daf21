"""The requests under way on an HTTP/2 connection, and their limits of time and memory.

Sans-I/O: the caller reports what was received and sent; the table tells which streams exceed a limit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from mitmproxy import http

from addons.access.body_pace import BodyPace, BodyTimes

MAX_HELD: Final = 64 * 1024 * 1024
"""Most bytes of request bodies that one connection may hold, until their ends or their responses. A single request may
be as large as its route allows."""


@dataclass(frozen=True)
class Http2Timeouts:
    """Timeouts, in seconds.

    Attributes:
        upstream: For an upstream to continue a response that has begun.
        idle: For a client to make a request.
        body: The time limits of a request body.
        reading: For a client to continue to read a queued response.
    """

    upstream: float
    idle: float = 120.0
    body: BodyTimes = field(default_factory=partial(BodyTimes, pause=60.0))
    reading: float = 300.0


@dataclass
class Http2Stream:
    """One stream: a request and its response.

    Attributes:
        request: The request, without its body.
        length: The announced length of the body; None if there is none.
        moved_at: When bytes were last received or sent.
        pace: The deadline of the body.
        received: Received bytes of the body.
        held: Held bytes of the body.
        receiving: Whether the request has not ended.
        responding: Whether the response has begun.
        paused: Whether its upstream is paused.
    """

    request: http.Request
    length: int | None
    moved_at: float
    pace: BodyPace
    received: int = 0
    held: int = 0
    receiving: bool = True
    responding: bool = False
    paused: bool = False


class StreamTable:
    """The streams of a connection on which requests are under way, by their ids."""

    def __init__(self, timeouts: Http2Timeouts, clock: Callable[[], float]) -> None:
        """Make an empty table.

        Args:
            timeouts: The timeouts of streams.
            clock: Seconds, monotonic.
        """
        self._timeouts = timeouts
        self._clock = clock
        self._held = 0
        self._busy_at = clock()
        """When there was last an open stream."""
        self._streams: dict[int, Http2Stream] = {}

    def begin(self, stream_id: int, request: http.Request) -> None:
        """Add the stream of a request."""
        length = request.headers.get("content-length")
        now = self._clock()
        pace = BodyPace(self._timeouts.body, now)
        self._streams[stream_id] = Http2Stream(request, None if length is None else int(length), now, pace)

    def get(self, stream_id: int) -> Http2Stream | None:
        """An open stream; None if there is none with this id."""
        return self._streams.get(stream_id)

    def paused(self) -> list[tuple[int, Http2Stream]]:
        """The streams whose upstreams are paused."""
        return [(stream_id, stream) for stream_id, stream in self._streams.items() if stream.paused]

    def body_came(self, stream: Http2Stream, size: int) -> None:
        """Note received bytes of a request's body."""
        stream.received += size
        stream.moved_at = self._clock()
        stream.pace.came(size, stream.moved_at)

    def pass_on(self, stream: Http2Stream) -> None:
        """Note that a body is forwarded as it arrives, and not held."""
        stream.pace.pass_on()
        self._held -= stream.held
        stream.held = 0

    def hold(self, stream: Http2Stream, size: int) -> bool:
        """Note held bytes of a body; return whether they are within the limit."""
        stream.held += size
        self._held += size
        return self._held <= MAX_HELD or stream.held == self._held

    def response_came(self, stream: Http2Stream) -> None:
        """Note a piece of a response. The request body is not held any longer."""
        stream.moved_at = self._clock()
        stream.responding = True
        self._held -= stream.held
        stream.held = 0

    def end(self, stream_id: int) -> Http2Stream | None:
        """Remove a stream that has ended; return it, if it was open."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._held -= stream.held
            self._busy_at = self._clock()
        return stream

    def overdue(self) -> list[int]:
        """The streams on which nothing was received for too long.

        A paused response does not count as the upstream's delay; see `QueueingConnection.unread`.
        """
        now = self._clock()
        return [stream_id for stream_id, stream in self._streams.items() if self._is_overdue(stream, now)]

    def __bool__(self) -> bool:
        return bool(self._streams)

    def is_idle(self) -> bool:
        """Whether there has been no stream for too long."""
        return not self._streams and self._clock() - self._busy_at > self._timeouts.idle

    def _is_overdue(self, stream: Http2Stream, now: float) -> bool:
        if stream.receiving:
            return now > stream.pace.deadline
        # Before a response has begun, ApiHttpLayer checks its deadline.
        return stream.responding and not stream.paused and now - stream.moved_at > self._timeouts.upstream
