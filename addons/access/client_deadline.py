"""How long a client may take: one deadline a connection, moved as the connection goes from one state to the next.

No timer belongs to it: `addons.layers.connections.client_connections` looks at all of them once in a while. Time that
the response takes is not counted here: a model may think for ten minutes, and a stream may last for hours.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from addons.access.body_pace import BodyPace, BodyTimes

LINGER_SECONDS: Final = 30.0
"""How long what a client still sends is read after its request was refused, so that it reads the response first."""

LINGER_PAUSE: Final = 5.0
"""How long it may pause in that."""

CLOSE_GRACE: Final = 5.0
"""How long an idle connection is kept that is to be closed: what the client may be sending just now is answered yet."""

LINGER_BYTES: Final = 16 * 1024 * 1024
"""How much of it is read: what most clients send at once. Those that push more do not wait for a response."""


@dataclass(frozen=True)
class ClientTimeouts:
    """What clients get, in seconds.

    Attributes:
        head: For a TLS handshake, and for a request head from its first byte.
        body: Without progress in a request body.
        idle: Between requests.
        body_rate: Bytes of a request body that pay for a second.
        whole_body: For a request body that is held until it is complete.
    """

    head: float
    body: float
    idle: float
    body_rate: float = 1024
    whole_body: float = math.inf

    def of_body(self) -> BodyTimes:
        """What a request body gets."""
        return BodyTimes(self.body, self.body_rate, self.whole_body)


class ClientDeadline:
    """One connection's deadline.

    Attributes:
        timeouts: What the client gets.
        deadline: When the client is overdue (monotonic seconds); None while it is not its turn.
        speaks_http: Whether there is a layer that can answer it.
        retiring: Whether the connection is to be closed as soon as that costs the client no response.
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
        """A handshake or a head begins."""
        self._idles = False
        self.deadline = self._now() + self.timeouts.head

    def await_body(self) -> None:
        """A body begins, or goes on after the response."""
        self._idles = False
        self._body = BodyPace(self._body_times, self._now())
        self.deadline = self._body.deadline

    def body_came(self, size: int) -> None:
        """Some of the body has come."""
        self._body.came(size, self._now())
        self.deadline = self._body.deadline

    def pass_body_on(self) -> None:
        """The body is held no longer, but passed on as it comes."""
        self._body.pass_on()

    def excuse(self) -> None:
        """It is not the client's fault: others do not take what it sends."""
        self._body.excuse(self._now())
        self.deadline = self._body.deadline

    def stop(self) -> None:
        """It is not the client's turn."""
        self._idles = False
        self.deadline = None

    def idle(self) -> None:
        """Request and response are complete."""
        self._idles = True
        self.deadline = self._now() + (CLOSE_GRACE if self.retiring else self.timeouts.idle)

    def retire(self) -> None:
        """The connection is to be closed soon."""
        self.retiring = True
        if self._idles:
            self.idle()

    def linger(self) -> None:
        """The response is out; the client may still be sending."""
        self._idles = False
        self._bytes = 0
        self._began = self._now()
        self.deadline = self._began + LINGER_PAUSE

    def still_lingers(self, size: int) -> bool:
        """Take note that the client goes on; whether to go on listening."""
        self._bytes += size
        self.deadline = min(self._now() + LINGER_PAUSE, self._began + LINGER_SECONDS)
        return self._bytes <= LINGER_BYTES
