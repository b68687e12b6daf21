"""What a check comes to: it holds, it does not, or it could not be made, which is never the same as holding."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_MADE = "not made"


class FailedError(Exception):
    """What was checked does not hold; the message says why, in one line."""


class NotMadeError(Exception):
    """Something that the check needs could not be had; the message says what, and what to do about it."""


class NotAskedError(NotMadeError):
    """The check could not be made, and the verifier has not asked for it; the message says what asks for it."""


@dataclass(frozen=True)
class Check:
    """One check and its outcome.

    Attributes:
        name: What was checked; the same for the same check in every run.
        status: How it ended.
        detail: What was found, in one line. It may quote what the checked party sent: see `output.printable`.
        asked: Whether the outcome counts. What nobody asked for is still listed, so that nobody takes it for made.
    """

    name: str
    status: Status
    detail: str
    asked: bool = True

    @property
    def holds(self) -> bool:
        """Whether nothing that was asked for is left open by this check."""
        return self.status is Status.PASSED or (self.status is Status.NOT_MADE and not self.asked)


def make(name: str, finding: Callable[[], str]) -> Check:
    """Make a check: it passes only where `finding` returns, with what it found.

    `finding` raises `FailedError` where the thing does not hold, `NotMadeError` where it cannot be told, and of these
    `NotAskedError` where that need not be told.
    """
    try:
        return Check(name, Status.PASSED, finding())
    except FailedError as error:
        return Check(name, Status.FAILED, str(error))
    except NotAskedError as error:
        return not_asked(name, str(error))
    except NotMadeError as error:
        return Check(name, Status.NOT_MADE, str(error))


def not_asked(name: str, why: str) -> Check:
    """A check that is listed as not made because nobody asked for it."""
    return Check(name, Status.NOT_MADE, why, asked=False)


def all_hold(checks: Iterable[Check]) -> bool:
    """Whether every check that was asked for has passed. False where there is none."""
    checks = list(checks)
    return any(check.status is Status.PASSED for check in checks) and all(check.holds for check in checks)
