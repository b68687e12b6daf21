"""When the events of a streamed response came."""

import time
from bisect import bisect_left
from collections.abc import Sequence


class TokenTimes:
    """Counts the intervals between the events of a streamed response.

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
