"""Limits of the open connections at a port: of all clients, and of each client.

A closed connection still counts until the client has read the bytes in its write buffer, unless a new connection needs
its place.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

QUARTER: Final = 4
"""The divisor of a client's share: one client may use a quarter of a limit, so that others are served."""


@dataclass(frozen=True)
class _Leaving:
    client: str | None
    until: float


class ConnectionLimit:
    """The connections at one port."""

    def __init__(self, name: str, most: int, most_per_client: int | None = None) -> None:
        """Start without connections.

        Args:
            name: The name of the limit in the log.
            most: Most connections at once, 1 or more.
            most_per_client: Most connections of one client, 1 or more; None: as many as `most`.
        """
        self._most = most
        self._most_per_client = most_per_client
        self._full = f"{name} {most} are open"
        self._share_is_full = f"one address has its share, {most_per_client}, of {name} {most}"
        self._open = 0
        self._by_client: Counter[str] = Counter()  # includes those that are leaving; bounded by the connections
        # Closed connections whose write buffers are not empty; the oldest first.
        self._leaving: dict[asyncio.WriteTransport, _Leaving] = {}

    def refusal(self, client: str | None) -> str | None:
        """Why one more connection of a client is rejected, for the log; None if it is accepted.

        Args:
            client: The client in whose share it counts; None if it counts in none.
        """
        if self._open >= self._most:
            return self._full
        if self._has_its_share(client) and self._oldest_leaving(client) is None:
            return self._share_is_full
        return None

    def take(self, client: str | None) -> None:
        """Count a connection that is accepted."""
        if self._has_its_share(client):
            self._abort(self._oldest_leaving(client))
        elif self._leaving and self._open + len(self._leaving) >= self._most:
            self._abort(next(iter(self._leaving)))
        self._open += 1
        if client is not None:
            self._by_client[client] += 1

    def leave(self, client: str | None, transport: asyncio.WriteTransport | None, until: float) -> None:
        """Note that a connection was closed.

        Args:
            client: As passed to `take`.
            transport: The connection's transport, which may have bytes in its write buffer.
            until: When the client has to have read them (monotonic seconds).
        """
        self._open -= 1
        if transport is not None and transport.get_write_buffer_size():
            self._leaving[transport] = _Leaving(client, until)
        else:
            self._free(client)

    def sweep(self, now: float) -> None:
        """Stop counting connections whose write buffers are empty or whose time is over (`now`, monotonic seconds)."""
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
