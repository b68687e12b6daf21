"""The requests under way on an HTTP/2 connection, and what each of them may take: time, and room.

Sans-I/O: what came and went is told here, and when; what is overdue, or too much, is told back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from mitmproxy import http

from addons.access.body_pace import BodyPace, BodyTimes

MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of requests that are kept at once for one connection, waiting for their ends or for responses. One request
alone may be as large as its route allows."""


@dataclass(frozen=True)
class Http2Timeouts:
    """How long things may take, in seconds.

    Attributes:
        upstream: For an upstream to go on with a response that it has begun.
        idle: For a client to make a request.
        body: What a client gets to go on with a request.
        reading: For a client to read on in a response that waits for it.
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
        length: The body's length, where it was given.
        moved_at: When something last came or went.
        pace: How the body comes.
        received: How much of the body has come, in bytes.
        held: How much of it is kept here, in bytes.
        receiving: Whether more of the request is to come.
        responding: Whether the response has begun.
        halted: Whether its upstream has been halted.
    """

    request: http.Request
    length: int | None
    moved_at: float
    pace: BodyPace
    received: int = 0
    held: int = 0
    receiving: bool = True
    responding: bool = False
    halted: bool = False


class StreamTable:
    """The streams of a connection on which requests are under way, by their numbers."""

    def __init__(self, timeouts: Http2Timeouts, clock: Callable[[], float]) -> None:
        """Make an empty set.

        Args:
            timeouts: How long things may take.
            clock: Tells the time, in seconds.
        """
        self._timeouts = timeouts
        self._clock = clock
        self._held = 0
        self._busy_at = clock()
        """When there was last a stream."""
        self._streams: dict[int, Http2Stream] = {}

    def begin(self, stream_id: int, request: http.Request) -> None:
        """Take note of a request's head."""
        length = request.headers.get("content-length")
        now = self._clock()
        pace = BodyPace(self._timeouts.body, now)
        self._streams[stream_id] = Http2Stream(request, None if length is None else int(length), now, pace)

    def get(self, stream_id: int) -> Http2Stream | None:
        """A stream that is under way."""
        return self._streams.get(stream_id)

    def halted(self) -> list[tuple[int, Http2Stream]]:
        """Those whose upstreams have been halted."""
        return [(stream_id, stream) for stream_id, stream in self._streams.items() if stream.halted]

    def body_came(self, stream: Http2Stream, size: int) -> None:
        """Take note of some of a request's body."""
        stream.received += size
        stream.moved_at = self._clock()
        stream.pace.came(size, stream.moved_at)

    def pass_on(self, stream: Http2Stream) -> None:
        """Take note that a body is passed on as it comes, and nothing of it is kept."""
        stream.pace.pass_on()
        self._held -= stream.held
        stream.held = 0

    def hold(self, stream: Http2Stream, size: int) -> bool:
        """Take note that some of a body is kept; tell whether there is room for it."""
        stream.held += size
        self._held += size
        return self._held <= MAX_HELD or stream.held == self._held

    def response_came(self, stream: Http2Stream) -> None:
        """Take note of some of a response. Nothing of its request is kept any longer."""
        stream.moved_at = self._clock()
        stream.responding = True
        self._held -= stream.held
        stream.held = 0

    def end(self, stream_id: int) -> Http2Stream | None:
        """Take note that a stream has ended, however; return it, if there was one."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._held -= stream.held
            self._busy_at = self._clock()
        return stream

    def overdue(self) -> list[int]:
        """The streams on which nothing has come for too long.

        Where a response waits for the client, that is not the upstream's delay; see `QueueingConnection.unread`.
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
        # Before a response has begun, ApiHttpLayer sees to it.
        return stream.responding and not stream.halted and now - stream.moved_at > self._timeouts.upstream
