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
"""Bytes of requests that are kept at once for one connection, waiting for their ends or for answers. One request alone
may be as large as its route allows."""


@dataclass(frozen=True)
class Http2Timeouts:
    """How long things may take, in seconds.

    Attributes:
        upstream: For an upstream to go on with an answer that it has begun.
        idle: For a client to make a request.
        body: What a client gets to go on with a request.
        reading: For a client to read on in an answer that waits for it.
    """

    upstream: float
    idle: float = 120.0
    body: BodyTimes = field(default_factory=partial(BodyTimes, pause=60.0))
    reading: float = 300.0


@dataclass
class Exchange:
    """A request and its answer.

    Attributes:
        request: The request, without its body.
        length: The body's length, where it was given.
        moved_at: When something last came or went.
        pace: How the body comes.
        received: How much of the body has come, in bytes.
        held: How much of it is kept here, in bytes.
        receiving: Whether more of the request is to come.
        answering: Whether the answer has begun.
        halted: Whether its upstream has been halted.
    """

    request: http.Request
    length: int | None
    moved_at: float
    pace: BodyPace
    received: int = 0
    held: int = 0
    receiving: bool = True
    answering: bool = False
    halted: bool = False


class Exchanges:
    """The exchanges of a connection, by stream."""

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
        """When there was last an exchange."""
        self._exchanges: dict[int, Exchange] = {}

    def begin(self, stream_id: int, request: http.Request) -> None:
        """Take note of a request's head."""
        length = request.headers.get("content-length")
        now = self._clock()
        pace = BodyPace(self._timeouts.body, now)
        self._exchanges[stream_id] = Exchange(request, None if length is None else int(length), now, pace)

    def get(self, stream_id: int) -> Exchange | None:
        """An exchange that is under way."""
        return self._exchanges.get(stream_id)

    def halted(self) -> list[tuple[int, Exchange]]:
        """Those whose upstreams have been halted."""
        return [(stream_id, exchange) for stream_id, exchange in self._exchanges.items() if exchange.halted]

    def body_came(self, exchange: Exchange, size: int) -> None:
        """Take note of some of a request's body."""
        exchange.received += size
        exchange.moved_at = self._clock()
        exchange.pace.came(size, exchange.moved_at)

    def pass_on(self, exchange: Exchange) -> None:
        """Take note that a body is passed on as it comes, and nothing of it is kept."""
        exchange.pace.pass_on()
        self._held -= exchange.held
        exchange.held = 0

    def hold(self, exchange: Exchange, size: int) -> bool:
        """Take note that some of a body is kept; tell whether there is room for it."""
        exchange.held += size
        self._held += size
        return self._held <= MAX_HELD or exchange.held == self._held

    def answer_came(self, exchange: Exchange) -> None:
        """Take note of some of an answer. Nothing of its request is kept any longer."""
        exchange.moved_at = self._clock()
        exchange.answering = True
        self._held -= exchange.held
        exchange.held = 0

    def end(self, stream_id: int) -> Exchange | None:
        """Take note that an exchange has ended, however; return it, if there was one."""
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is not None:
            self._held -= exchange.held
            self._busy_at = self._clock()
        return exchange

    def overdue(self) -> list[int]:
        """The streams on which nothing has come for too long.

        Where an answer waits for the client, that is not the upstream's delay; see `QueueingConnection.unread`.
        """
        now = self._clock()
        return [stream_id for stream_id, exchange in self._exchanges.items() if self._is_overdue(exchange, now)]

    def __bool__(self) -> bool:
        return bool(self._exchanges)

    def is_idle(self) -> bool:
        """Whether there has been no exchange for too long."""
        return not self._exchanges and self._clock() - self._busy_at > self._timeouts.idle

    def _is_overdue(self, exchange: Exchange, now: float) -> bool:
        if exchange.receiving:
            return now > exchange.pace.deadline
        # Before an answer has begun, ApiHttpLayer sees to it.
        return exchange.answering and not exchange.halted and now - exchange.moved_at > self._timeouts.upstream
