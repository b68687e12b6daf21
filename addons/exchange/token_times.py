"""When the events of a streamed response arrive."""

import time
from bisect import bisect_left
from collections.abc import Sequence


class TokenTimes:
    """Counts the intervals between the events of a streamed response.

    Attributes:
        first: When the first event arrived, in seconds of `time.time`; None before that.
        counts: Number of intervals between two events in each bucket.
        total: The sum of all intervals, in seconds.
    """

    __slots__ = ("_bounds", "_last", "counts", "first", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin before the first event.

        Args:
            bounds: Upper bounds of the buckets, in seconds, ascending; a last bucket takes all above them.
        """
        self._bounds = bounds
        self._last = 0.0
        self.first: float | None = None
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def came(self, how_many: int = 1) -> None:
        """Record events that have just arrived together."""
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
        """Mean interval between two events, in seconds; None before the second event."""
        intervals = sum(self.counts)
        return self.total / intervals if intervals else None
