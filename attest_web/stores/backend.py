"""The interface of a shared store's backend, and its errors."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from attest_web.signatures import NotSigned, SignedExchange
from attest_web.stores.stored_json import to_json

MAX_VALUE = 64 * 1024
"""Bytes of a value at most that are read: some hundred times what a signature takes."""

UNREADABLE: Final = b"\xff"
"""What is given in place of a value that cannot be read: too large, or of another kind. No value is like it."""


class BackendError(Exception):
    """It cannot be done now. The message names a kind of error; it quotes neither addresses nor passwords nor ids."""


class Result(enum.Enum):
    """The outcome of a write."""

    STORED = "stored now, be it since an earlier attempt"
    TAKEN = "another value is stored under the key"
    REFUSED = "it cannot be stored, now or later, and others can"


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """An exchange on its way, under one of its keys.

    Attributes:
        key: Where it goes.
        outcome: What is stored.
        expires: When its time is over (monotonic seconds).
        put_at: When it was put (monotonic seconds); None where it is written once more, and nothing waits for it.
        holder: The credential that it is counted against.
        size: Bytes that it takes in memory, at most.
    """

    key: str
    outcome: SignedExchange | NotSigned
    expires: float
    put_at: float | None
    holder: str
    size: int

    def value(self) -> bytes:
        """What is stored, in UTF-8."""
        return to_json(self.outcome)


class Backend(Protocol):
    """A store outside of this process. May block for seconds, not for ever; makes its connections when it needs them.

    All but `read` is called by one thread alone, `read` by any. All raise `BackendError`, and may be tried again then.
    """

    def write(self, batch: Sequence[Write]) -> list[Result]:
        """Store each value under its key, if that is free, and return when that is sure.

        Returns:
            What has come of each. What fails for reasons of its own is refused, and the rest is stored all the same.
        """

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values that are stored under some keys, at most `MAX_VALUE` bytes and one more of each.

        Returns:
            For each key None where there is nothing, and `UNREADABLE` where there is something else than a value.
        """

    def check(self) -> None:
        """Check its health; remove expired values."""

    def close(self) -> None:
        """Close all connections. Never raises."""
