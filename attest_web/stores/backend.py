"""The interface of a shared store's backend, and its errors."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from attest_web.signatures import NotSigned, SignedExchange
from attest_web.stores.stored_json import to_json

MAX_VALUE = 64 * 1024
"""Largest value that is read, in bytes: some hundred times the size of a signature."""

UNREADABLE: Final = b"\xff"
"""Stands for a value that cannot be read: too large, or of another kind. No real value equals it."""


class BackendError(Exception):
    """The operation failed and may be retried. The message names the kind of error, and no address, password or id."""


class Result(enum.Enum):
    """The outcome of a write."""

    STORED = "stored, now or by an earlier attempt"
    TAKEN = "another value is stored under the key"
    REFUSED = "it cannot be stored, now or later, and others can"


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A queued write of a signature, or of the reason for its absence, under one key.

    Attributes:
        key: The key.
        outcome: The value.
        expires: When it expires (monotonic seconds).
        put_at: When it was put (monotonic seconds); None for a repeated write, for which nothing waits.
        holder: The credential that it is counted against.
        size: Largest size in memory, in bytes.
    """

    key: str
    outcome: SignedExchange | NotSigned
    expires: float
    put_at: float | None
    holder: str
    size: int

    def value(self) -> bytes:
        """The stored bytes, in UTF-8."""
        return to_json(self.outcome)


class Backend(Protocol):
    """A store outside this process. Calls may block for seconds, but not forever; connections are made on demand.

    `read` may be called from any thread, all other methods from one thread only. All methods raise `BackendError`,
    after which they may be retried.
    """

    def write(self, batch: Sequence[Write]) -> list[Result]:
        """Store each value under its key, if the key is free; return once they are stored.

        Returns:
            The result of each write. A write that fails for its own reasons is rejected, and the others are stored.
        """

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read the values of some keys, at most `MAX_VALUE` + 1 bytes of each.

        Returns:
            One entry for each key: None if there is no value, and `UNREADABLE` if it is not a valid value.
        """

    def check(self) -> None:
        """Check its health; remove expired values."""

    def close(self) -> None:
        """Close all connections. Never raises."""
