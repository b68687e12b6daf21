"""The outcome of a check: passed, failed, or not made, which never counts as passed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_MADE = "not made"


class FailedError(Exception):
    """The check fails; the message says why, in one line."""


class NotMadeError(Exception):
    """The check cannot be made; the message says what is missing, and how to provide it."""


class NotAskedError(NotMadeError):
    """The check was not requested and cannot be made; the message names the option that requests it."""


@dataclass(frozen=True)
class Check:
    """One check and its outcome.

    Attributes:
        name: What was checked; the same for the same check in every run.
        status: The outcome.
        detail: What was found, in one line. It may quote what the checked party sent: see `attest_web.printable`.
        asked: Whether the outcome counts. A check that was not requested is still listed, as not made.
    """

    name: str
    status: Status
    detail: str
    asked: bool = True

    @property
    def holds(self) -> bool:
        """Whether the check passed, or was not requested."""
        return self.status is Status.PASSED or (self.status is Status.NOT_MADE and not self.asked)


def make(name: str, finding: Callable[[], str]) -> Check:
    """Make a check: it passes only if `finding` returns, with what it found.

    `finding` raises `FailedError` where the check fails, `NotMadeError` where it cannot be made, and its subclass
    `NotAskedError` where it was not requested.
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
    """A check that is listed as not made because it was not requested."""
    return Check(name, Status.NOT_MADE, why, asked=False)


def all_hold(checks: Iterable[Check]) -> bool:
    """Whether every requested check has passed. False where there is none."""
    checks = list(checks)
    return any(check.status is Status.PASSED for check in checks) and all(check.holds for check in checks)
