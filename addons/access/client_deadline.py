"""The deadline of a client's connection, which moves as the connection changes its state.

It has no timer of its own: `addons.layers.connections.client_connections` checks all deadlines periodically. The time
that a response takes is not limited here: inference may take ten minutes, and a stream may last for hours.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from addons.access.body_pace import BodyPace, BodyTimes

LINGER_SECONDS: Final = 30.0
"""Seconds for which a client's bytes are still read after its request was rejected, so that it reads the response."""

LINGER_PAUSE: Final = 5.0
"""Seconds for which the client may pause meanwhile."""

CLOSE_GRACE: Final = 5.0
"""Seconds for which an idle connection is kept before it is closed, as the client may be sending a request."""

LINGER_BYTES: Final = 16 * 1024 * 1024
"""Bytes that are still read after a rejected request: as much as most clients send before they read the response."""


@dataclass(frozen=True)
class ClientTimeouts:
    """Timeouts of clients, in seconds.

    Attributes:
        head: For a TLS handshake, and for a request head from its first byte.
        body: Without progress in a request body.
        idle: Between requests.
        body_rate: Minimum rate of a request body, in bytes a second.
        whole_body: For a request body that is held until it is complete.
    """

    head: float
    body: float
    idle: float
    body_rate: float = 1024
    whole_body: float = math.inf

    def of_body(self) -> BodyTimes:
        """The time limits of a request body."""
        return BodyTimes(self.body, self.body_rate, self.whole_body)


class ClientDeadline:
    """One connection's deadline.

    Attributes:
        timeouts: The timeouts of the client.
        deadline: When the client is overdue (monotonic seconds); None while the proxy does not wait for the client.
        speaks_http: Whether there is a layer that can respond with an error.
        retiring: Whether the connection is to be closed as soon as no response is lost by that.
    """

    def __init__(self, timeouts: ClientTimeouts, now: Callable[[], float] = time.monotonic) -> None:
        self.timeouts = timeouts
        self._now = now
        self._began = 0.0
        self._bytes = 0
        self._body_times = timeouts.of_body()
        self._body = BodyPace(self._body_times, self._began)
        self._idles = False
        self.speaks_http = False
        self.retiring = False
        self.deadline: float | None = None
        self.await_head()

    def await_head(self) -> None:
        """Note that a handshake or a head begins."""
        self._idles = False
        self.deadline = self._now() + self.timeouts.head

    def await_body(self) -> None:
        """Note that a body begins, or continues after the response."""
        self._idles = False
        self._body = BodyPace(self._body_times, self._now())
        self.deadline = self._body.deadline

    def body_came(self, size: int) -> None:
        """Note received bytes of the body."""
        self._body.came(size, self._now())
        self.deadline = self._body.deadline

    def pass_body_on(self) -> None:
        """Note that the body is not held any longer, but forwarded as it arrives."""
        self._body.pass_on()

    def excuse(self) -> None:
        """Note that backpressure, and not the client, stops the body."""
        self._body.excuse(self._now())
        self.deadline = self._body.deadline

    def stop(self) -> None:
        """Note that the proxy does not wait for the client."""
        self._idles = False
        self.deadline = None

    def idle(self) -> None:
        """Note that request and response are complete."""
        self._idles = True
        self.deadline = self._now() + (CLOSE_GRACE if self.retiring else self.timeouts.idle)

    def retire(self) -> None:
        """Note that the connection is to be closed soon."""
        self.retiring = True
        if self._idles:
            self.idle()

    def linger(self) -> None:
        """Note that the response was sent, while the client may still be sending."""
        self._idles = False
        self._bytes = 0
        self._began = self._now()
        self.deadline = self._began + LINGER_PAUSE

    def still_lingers(self, size: int) -> bool:
        """Note that the client still sends; return whether to go on reading."""
        self._bytes += size
        self.deadline = min(self._now() + LINGER_PAUSE, self._began + LINGER_SECONDS)
        return self._bytes <= LINGER_BYTES
