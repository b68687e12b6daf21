"""How fast a request body has to come, over HTTP/1 and HTTP/2 alike.

A pause is allowed for, and then a rate: each byte pays for some time, and what came fast pays for no more than the
pause. So a client may be slow, and stop for a moment, but not keep a body open with a byte now and then. A body that is
held until it is complete takes memory meanwhile, and has a deadline as a whole, too.

Sans-I/O: times are given in seconds, of any clock that runs on.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BodyTimes:
    """What a body gets.

    Attributes:
        pause: Seconds without progress.
        rate: Bytes that pay for a second.
        whole: Seconds until all of it is there, while it is held.
    """

    pause: float
    rate: float = 1024
    whole: float = math.inf


class BodyPace:
    """The deadline of one body."""

    __slots__ = ("_paid_until", "_times", "_whole_until")

    def __init__(self, times: BodyTimes, now: float) -> None:
        """Begin with a body.

        Args:
            times: What it gets.
            now: The time.
        """
        self._times = times
        self._paid_until = now
        self._whole_until = now + times.whole

    @property
    def deadline(self) -> float:
        """Until when more has to come."""
        return min(self._paid_until + self._times.pause, self._whole_until)

    def came(self, size: int, now: float) -> None:
        """Take note of bytes that have come."""
        self._paid_until = min(now, self._paid_until + size / self._times.rate)

    def excuse(self, now: float) -> None:
        """Take note that others do not take what the client would send."""
        self._paid_until = now

    def pass_on(self) -> None:
        """Take note that the body is held no longer, but passed on as it comes."""
        self._whole_until = math.inf
