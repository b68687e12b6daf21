"""The target of a request, and the attempts to send it with their outcomes."""

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request is sent.

    Attributes:
        scheme: `http` or `https`.
        host: A name, or an address without brackets.
        port: The TCP port.
        path: The path there, without the query; None if it is that of the client's request.
    """

    scheme: str
    host: str
    port: int
    path: str | None = None


class AttemptOutcome(enum.Enum):
    """The outcome of an attempt."""

    COMPLETED = "completed"
    """The response is complete, whatever its status; for a WebSocket, the handshake is."""
    CONNECT_FAILED = "connect_failed"
    """No connection was made: refused, unreachable, an unknown name, or a failed TLS handshake."""
    CLOSED = "closed"
    """The upstream closed the connection before the first byte of a response."""
    INVALID = "invalid"
    """The response violates HTTP or this proxy's limits."""
    TRUNCATED = "truncated"
    """The connection ended in the middle of the response."""
    TIMED_OUT = "timed_out"
    """The response did not begin in time, or did not end in time after its last event."""
    ABANDONED = "abandoned"
    """The client disconnected, or this proxy gave the request up; the upstream is not at fault."""


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt to send a request to an upstream.

    Attributes:
        target: Where the request is sent.
        reused: Whether its connection was made for an earlier request.
        sent_at: When its first byte was sent, in seconds of `time.monotonic`; None before there is a connection.
        status: Status of the response; None before its head.
        outcome: The outcome; None while the attempt is under way.
    """

    target: Target
    reused: bool = False
    sent_at: float | None = None
    status: int | None = None
    outcome: AttemptOutcome | None = None

    def end(self, outcome: AttemptOutcome) -> None:
        """Set the outcome, unless it is set already: later failures only follow from the first one."""
        if self.outcome is None:
            self.outcome = outcome
