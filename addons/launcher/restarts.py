"""When a worker that has ended, or could not start, is started again. Pure: the caller waits, and tells how it went."""

from typing import Final

SHORT_LIFE: Final = 10.0
"""Seconds from when a worker is ready, within which its end counts as another failure to start."""

LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts at most."""

MAX_FIRST_ATTEMPTS: Final = 5
"""Failures in a row, while no worker has ever lived longer than `SHORT_LIFE`, after which there is no use in more."""


class Restarts:
    """Counts the failures in a row of the workers of one place.

    Attributes:
        failures: How many there were since a worker lived longer than `SHORT_LIFE`.
    """

    def __init__(self) -> None:
        self.failures = 0

    def failed(self) -> None:
        """Take note of a worker that could not start."""
        self.failures += 1

    def ended(self, served: float) -> None:
        """Take note of a worker's end.

        Args:
            served: Seconds since it was ready.
        """
        self.failures = 0 if served >= SHORT_LIFE else self.failures + 1

    @property
    def pause(self) -> float:
        """Seconds before the next attempt: none after a single failure, then 1, 2, 4 and so on."""
        return float(min(LONGEST_PAUSE, 2 ** min(self.failures - 2, 10))) if self.failures > 1 else 0.0

    @property
    def exhausted(self) -> bool:
        """Whether it has failed so often that, where no worker has ever lived longer, more attempts are of no use."""
        return self.failures >= MAX_FIRST_ATTEMPTS
