"""When a worker that has ended, or could not start, is started again. Pure: the caller waits, and reports outcomes."""

from typing import Final

SHORT_LIFE: Final = 10.0
"""Seconds after a worker was ready within which its end counts as another failure to start."""

LONGEST_PAUSE: Final = 30.0
"""Most seconds between two attempts."""

MAX_FIRST_ATTEMPTS: Final = 5
"""Consecutive failures after which the supervisor gives up, if no worker has ever lived longer than `SHORT_LIFE`."""


class Restarts:
    """Counts the consecutive failures of the workers of one slot.

    Attributes:
        failures: Failures since a worker lived longer than `SHORT_LIFE`.
    """

    def __init__(self) -> None:
        self.failures = 0

    def failed(self) -> None:
        """Note that a worker could not start."""
        self.failures += 1

    def ended(self, served: float) -> None:
        """Note that a worker has ended.

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
        """Whether there were `MAX_FIRST_ATTEMPTS` consecutive failures."""
        return self.failures >= MAX_FIRST_ATTEMPTS
