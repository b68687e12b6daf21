"""The minimum pace of a request body, over HTTP/1 and HTTP/2.

A body may pause, and needs a minimum rate: each byte extends the deadline by some time, and a fast body gains no more
than the pause. So a client may be slow, and stop for a moment, but cannot keep a body open with a byte now and then. A
body that is held until it is complete uses memory, so it also has a total deadline.

Sans-I/O: times are seconds of a monotonic clock.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BodyTimes:
    """The time limits of a body.

    Attributes:
        pause: Seconds without progress.
        rate: Minimum rate, in bytes a second.
        whole: Seconds until the body has to be complete, while it is held.
    """

    pause: float
    rate: float = 1024
    whole: float = math.inf


class BodyPace:
    """The deadline of one body."""

    __slots__ = ("_paid_until", "_times", "_whole_until")

    def __init__(self, times: BodyTimes, now: float) -> None:
        """Start the deadline of a body.

        Args:
            times: The time limits.
            now: The current time.
        """
        self._times = times
        self._paid_until = now
        self._whole_until = now + times.whole

    @property
    def deadline(self) -> float:
        """The time by which more bytes have to arrive."""
        return min(self._paid_until + self._times.pause, self._whole_until)

    def came(self, size: int, now: float) -> None:
        """Note received bytes."""
        self._paid_until = min(now, self._paid_until + size / self._times.rate)

    def excuse(self, now: float) -> None:
        """Note that backpressure, and not the client, stops the body."""
        self._paid_until = now

    def pass_on(self) -> None:
        """Note that the body is not held any longer, but forwarded as it arrives."""
        self._whole_until = math.inf
