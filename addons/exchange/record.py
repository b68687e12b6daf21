"""What is known of each request and its answer, and may be told: nothing of what was said."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from mitmproxy import http

from addons.exchange.usage import Usage
from attest_web.signatures import SignedExchange

State = Literal["pending", "signed", "unsigned", "failed"]
"""What has come of an exchange on a signed route: `failed` where a signature should be there and could not be made."""


class TokenTimes:
    """When the events of a streamed answer came.

    Attributes:
        first: When the first one came, in seconds of `time.time`; None before that.
        counts: How many intervals between two events lie in which bucket.
        total: The sum of all intervals, in seconds.
    """

    __slots__ = ("_bounds", "_last", "counts", "first", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin before the first event.

        Args:
            bounds: Upper bounds of the buckets, in seconds, ascending; a bucket for all above them comes behind.
        """
        self._bounds = bounds
        self._last = 0.0
        self.first: float | None = None
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def came(self, how_many: int = 1) -> None:
        """Take note of events that have come just now, and at once."""
        now = time.time()
        if self.first is None:
            self.first = now
        else:
            between = max(0.0, now - self._last)  # a clock can be set back
            self.total += between
            self.counts[bisect_left(self._bounds, between)] += 1
        self.counts[0] += how_many - 1
        self._last = now

    def mean(self) -> float | None:
        """Seconds between two events, on the average."""
        intervals = sum(self.counts)
        return self.total / intervals if intervals else None


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer.

    Attributes:
        state: What has come of it; None where nothing is to be signed.
        reason: Why it was not signed.
        receipt_id: What its signature can be fetched by.
        chat_id: The response id, which the signature can be fetched by, too.
        request_sha256: Of the request body, in hex.
        response_sha256: Of the response body, in hex.
        signed: The signatures, when they have been made and stored.
        usage: The tokens, where the answer has told.
        times: Those of the events of a streamed answer.
        changed: Whether an operator or a rule has changed the request after it was received.
        left_by_client: Whether it was the client that gave up.
        upstream_status: What the model server has answered with.
        upstream_error: What it had to say, sanitised.
        ended: Whether it is over, and has been told of.
        credential: Names the token of its client (`Tokens.credential`); empty where it had none.
    """

    state: State | None = None
    reason: str | None = None
    receipt_id: str | None = None
    chat_id: str | None = None
    request_sha256: str | None = None
    response_sha256: str | None = None
    signed: SignedExchange | None = None
    usage: Usage | None = None
    times: TokenTimes | None = None
    changed: bool = False
    left_by_client: bool = False
    upstream_status: int | None = None
    upstream_error: str | None = None
    ended: bool = False
    credential: str = ""

    def leave_unsigned(self, reason: str) -> None:
        """Take note that there will be no signature, if there is none yet."""
        if self.state != "signed":
            self.state, self.reason = "unsigned", reason


class Exchanges:
    """The exchanges of all flows that there are."""

    def __init__(self) -> None:
        # Weak: what is known of an exchange is there for as long as its flow is.
        self._exchanges: WeakKeyDictionary[http.HTTPFlow, Exchange] = WeakKeyDictionary()

    def of(self, flow: http.HTTPFlow) -> Exchange:
        """What is known of a flow."""
        exchange = self._exchanges.get(flow)
        if exchange is None:
            exchange = self._exchanges[flow] = Exchange()
        return exchange

    def changed(self, flow: http.HTTPFlow) -> None:
        """Take note that a flow's request was changed here after it was received."""
        self.of(flow).changed = True
