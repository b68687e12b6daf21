"""Where a request is sent, and what came of each time that it was."""

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request is sent.

    Attributes:
        scheme: `http` or `https`.
        host: A name, or an address without brackets.
        port: The TCP port.
        path: The path there, without the query; None where it is the one that the client has asked for.
    """

    scheme: str
    host: str
    port: int
    path: str | None = None


class AttemptOutcome(enum.Enum):
    """What came of an attempt."""

    COMPLETED = "completed"
    """The response has come to its end, whatever its status; of a WebSocket, its handshake has."""
    CONNECT_FAILED = "connect_failed"
    """There is no connection: refused, unreachable, an unknown name, or a TLS handshake that failed."""
    CLOSED = "closed"
    """The upstream has closed the connection without a byte of a response."""
    INVALID = "invalid"
    """What came is not the response that HTTP allows, or is beyond the bounds that this proxy sets."""
    TRUNCATED = "truncated"
    """The connection ended in the middle of the response."""
    TIMED_OUT = "timed_out"
    """The response did not begin, or having brought its last event did not end, in time."""
    ABANDONED = "abandoned"
    """The client has gone, or this proxy has given the request up: it says nothing of the upstream."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One time that a request was sent to an upstream, or was to be.

    Attributes:
        target: Where to.
        reused: Whether it went over a connection that was made for an earlier request.
        sent_at: When its first byte was sent, in seconds of `time.monotonic`; None before there is a connection.
        status: Of the response; None before its head.
        outcome: None while it is under way.
    """

    target: Target
    reused: bool = False
    sent_at: float | None = None
    status: int | None = None
    outcome: AttemptOutcome | None = None

    def end(self, outcome: AttemptOutcome) -> None:
        """Note what came of it; what was noted first stays, as what follows from it is no news of the upstream."""
        if self.outcome is None:
            self.outcome = outcome
