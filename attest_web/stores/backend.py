"""What a store that others can reach has to do, and how it says that it cannot."""

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from attest_web.signatures import SignedExchange


class BackendError(Exception):
    """It cannot be done now. The message names a kind of error; it quotes neither addresses nor passwords nor ids."""


class Write(NamedTuple):
    """A signature on its way.

    Attributes:
        chat_id: Its id.
        signed: What is stored.
        expires: When its time is over (monotonic seconds).
        put_at: When it was put (monotonic seconds); None where it is written once more, and nobody waits.
    """

    chat_id: str
    signed: SignedExchange
    expires: float
    put_at: float | None


class Backend(Protocol):
    """A store outside of this process. May block for seconds, not for ever; makes its connections when it needs them.

    All but `read` is called by one thread alone, `read` by any. All raise `BackendError`, and may be tried again then.
    """

    def write(self, batch: Sequence[Write]) -> list[bool]:
        """Store each exchange under its id, if that is free, and return when that is sure.

        Returns:
            True for each one that is stored now, be it since an earlier attempt; False for each one whose id has
            another exchange.
        """

    def read(self, chat_id: str) -> SignedExchange | None:
        """The exchange that is stored under an id."""

    def check(self) -> None:
        """Find out whether it answers; clean up."""

    def close(self) -> None:
        """Let go of all connections. Never raises."""


def to_json(signed: SignedExchange) -> str:
    """An exchange as it is stored."""
    return json.dumps(signed, separators=(",", ":"))


def from_json(text: str | bytes) -> SignedExchange:
    """An exchange as it was stored.

    Raises:
        BackendError: Something else is stored there.
    """
    try:
        found = json.loads(text)
        made: SignedExchange = {name: found[name] for name in SignedExchange.__annotations__}  # type: ignore[assignment]
    except (ValueError, KeyError, TypeError):
        made = {}  # type: ignore[typeddict-item]
    if not made or not all(isinstance(value, str) for value in made.values()):
        raise BackendError("what is stored there is no signature")
    return made
