"""Attempts to attest keys, one at a time: a request that waited for a failed attempt does not repeat it.

Without this, each of many requests that wait for their turn would be held by a slow server for as long as all those
before it.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from attest_web.client.proving.errors import ProofError


class Attempts:
    """The outcome of the last attempt. To be used under a lock, except for `made`.

    Attributes:
        made: How many attempts there were, to be read before waiting for the lock.
    """

    def __init__(self) -> None:
        self.made = 0
        self._subject: Hashable = None
        self._failure: ProofError | None = None

    @contextmanager
    def attempt(self, subject: Hashable, made_before: int) -> Iterator[None]:
        """Make an attempt within this context.

        Args:
            subject: What is attested, and all that it depends on.
            made_before: What `made` was before the wait for the lock.

        Raises:
            ProofError: The same attempt failed during the wait, with the error that it failed with; or this one fails.
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
    """The same error, without the frames that it was raised in, which have a request each."""
    made = type(failure).__new__(type(failure))
    made.args = failure.args
    vars(made).update(vars(failure))
    return made
