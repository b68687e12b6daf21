"""Attempts to attest keys, one at a time: a request that waited for a failed attempt does not repeat it.

Without this, a slow server would delay each waiting request by the sum of all attempts before it.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from attest_web.client.proving.errors import ProofError


class Attempts:
    """The outcome of the last attempt. Use it under a lock, except for `made`.

    Attributes:
        made: Number of attempts so far; read it before waiting for the lock.
    """

    def __init__(self) -> None:
        self.made = 0
        self._subject: Hashable = None
        self._failure: ProofError | None = None

    @contextmanager
    def attempt(self, subject: Hashable, made_before: int) -> Iterator[None]:
        """Make an attempt within this context.

        Args:
            subject: Key of what is attested and everything that it depends on.
            made_before: The value of `made` before the wait for the lock.

        Raises:
            ProofError: The same attempt failed during the wait (with its error), or this one fails.
        """
        if self._failure is not None and self.made != made_before and self._subject == subject:
            raise _again(self._failure)
        self._failure, self._subject = None, subject
        try:
            yield
        except ProofError as error:
            self._failure = _again(error)
            raise
        finally:
            self.made += 1


def _again(failure: ProofError) -> ProofError:
    """A copy of the error without its traceback, whose frames hold requests."""
    made = type(failure).__new__(type(failure))
    made.args = failure.args
    vars(made).update(vars(failure))
    return made
