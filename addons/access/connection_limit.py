"""How many connections clients may have open at a port, and how many of them one client may have.

A connection that has ended keeps its place for as long as the client has not read what was left for it, unless a new
one needs the place.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

QUARTER: Final = 4
"""Of how many parts one client may have one: others are served while one takes all that it gets."""


@dataclass(frozen=True)
class _Leaving:
    client: str | None
    until: float


class ConnectionLimit:
    """The connections at one port."""

    def __init__(self, name: str, most: int, most_per_client: int | None = None) -> None:
        """Begin with none.

        Args:
            name: What the log calls the limit.
            most: How many there may be at once, 1 or more.
            most_per_client: How many of them one client may have, 1 or more; None for all.
        """
        self._most = most
        self._most_per_client = most_per_client
        self._full = f"{name} {most} are open"
        self._share_is_full = f"one address has its share, {most_per_client}, of {name} {most}"
        self._open = 0
        self._by_client: Counter[str] = Counter()  # those that are leaving, too; as many as there are connections
        # Of connections that have ended, what waits yet to be read; the oldest first.
        self._leaving: dict[asyncio.WriteTransport, _Leaving] = {}

    def refusal(self, client: str | None) -> str | None:
        """Why one more connection of a client would not be taken, for the log; None where it would.

        Args:
            client: Whose share it counts in; None where it counts in none.
        """
        if self._open >= self._most:
            return self._full
        if self._has_its_share(client) and self._oldest_leaving(client) is None:
            return self._share_is_full
        return None

    def take(self, client: str | None) -> None:
        """Give a place to a connection that is not refused."""
        if self._has_its_share(client):
            self._abort(self._oldest_leaving(client))
        elif self._leaving and self._open + len(self._leaving) >= self._most:
            self._abort(next(iter(self._leaving)))
        self._open += 1
        if client is not None:
            self._by_client[client] += 1

    def leave(self, client: str | None, transport: asyncio.WriteTransport | None, until: float) -> None:
        """Take note that a connection has ended.

        Args:
            client: As it was for `take`.
            transport: Where there may be something left to be read.
            until: How long the client may take for that (monotonic seconds).
        """
        self._open -= 1
        if transport is not None and transport.get_write_buffer_size():
            self._leaving[transport] = _Leaving(client, until)
        else:
            self._free(client)

    def sweep(self, now: float) -> None:
        """Let go of connections that have been read to their end, or have had their time (monotonic seconds)."""
        for transport, leaving in list(self._leaving.items()):
            if leaving.until <= now or not transport.get_write_buffer_size():
                self._abort(transport)

    def _has_its_share(self, client: str | None) -> bool:
        if client is None or self._most_per_client is None:
            return False
        return self._by_client[client] >= self._most_per_client

    def _oldest_leaving(self, client: str | None) -> asyncio.WriteTransport | None:
        return next((transport for transport, leaving in self._leaving.items() if leaving.client == client), None)

    def _abort(self, transport: asyncio.WriteTransport | None) -> None:
        if transport is not None:
            self._free(self._leaving.pop(transport).client)
            transport.abort()

    def _free(self, client: str | None) -> None:
        if client is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]


def quarter_of(most: int) -> int:
    """A quarter of a limit, 1 or more."""
    return max(1, most // QUARTER)
