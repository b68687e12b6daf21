"""All client connections: their limits, and their deadlines.

mitmproxy has one timeout for a connection, of any kind of traffic. Here, every connection has a deadline
(`addons.access.client_deadline`), which the layers move, and one task checks all of them: nothing is done per event,
and a closed connection leaves nothing behind. Deadlines cover TLS handshakes, too, and clients that send nothing.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mitmproxy.connection import Address, Client
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler

from addons.access.client_addresses import address_of
from addons.access.client_deadline import LINGER_SECONDS, ClientDeadline, ClientTimeouts
from addons.access.connection_limit import ConnectionLimit
from addons.layers.http2.graceful_server import GoingAway
from addons.lifecycle.connection_handlers import ConnectionHandlers

logger = logging.getLogger(__name__)

_LOGGED_EVERY: Final = 60.0
"""Seconds between two log lines about rejected connections: a flood of them must not fill the disk."""

_READ_SIZE: Final = 32 * 1024
"""Bytes read from a client at once. With asyncio's 256 KiB, each client that sends fast would need half a megabyte."""

_CONNECTION_LINES: Final = ("client connect", "client kill connection", "client disconnect")
"""What mitmproxy logs about every connection."""


class ClientOverdue(events.Event):
    """The client has missed its deadline."""


@dataclass(frozen=True)
class _Connection:
    deadline: ClientDeadline
    transport: asyncio.WriteTransport | None
    places: ConnectionLimit
    sharer: str | None


@dataclass(frozen=True)
class Ports:
    """The connection limits of both ports.

    Attributes:
        proxied: The limit of the port that clients use.
        side: The limit of the side port.
        at_side_port: Whether a client's connection was accepted at the side port.
        sharer_of: The client in whose share the connections of an address count; None if it may be a proxy's, which has
            many clients.
    """

    proxied: ConnectionLimit
    side: ConnectionLimit
    at_side_port: Callable[[Client], bool]
    sharer_of: Callable[[str], str | None]

    def at(self, client: Client) -> ConnectionLimit:
        """The limit of the port at which a client's connection was accepted."""
        return self.side if self.at_side_port(client) else self.proxied


class ClientConnections:
    """Bounds the number of connections, and ends those whose clients take too long."""

    def __init__(self, ports: Ports, timeouts: ClientTimeouts, handlers: ConnectionHandlers) -> None:
        """Make the addon.

        Args:
            ports: The connection limits of both ports.
            timeouts: The timeouts of clients.
            handlers: The handlers of the client connections.
        """
        self._handlers = handlers
        self._ports = ports
        self._timeouts = timeouts
        self._connections: dict[Client, _Connection] = {}
        self._peers: set[object] = set()
        self._refused: Counter[str] = Counter()  # by reason, of which there are four
        self._retiring = False
        self._announcing: asyncio.Task[None] | None = None
        self._logged_at: dict[str, float] = {}
        self._watching: asyncio.Task[None] | None = None

    def deadline_of(self, client: Client) -> ClientDeadline:
        """The deadline of a connection."""
        connection = self._connections.get(client)
        return connection.deadline if connection is not None else ClientDeadline(self._timeouts)

    def count(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def retire(self) -> None:
        """Close every connection after the response to its next request, or when it has been idle for a short time.

        Over HTTP/2, the client gets GOAWAY at once, and the connection ends after the responses under way.
        """
        self._retiring = True
        for connection in self._connections.values():
            connection.deadline.retire()
        self._announce_retirement()

    def retire_http2(self) -> None:
        """Retire only the HTTP/2 connections; see `retire`."""
        for client, connection in self._connections.items():
            if client.alpn == b"h2":
                connection.deadline.retire()
        self._announce_retirement()

    def _announce_retirement(self) -> None:
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.get_running_loop().create_task(self._send_going_away())

    async def _send_going_away(self) -> None:
        for client, connection in list(self._connections.items()):
            handler = self._handlers.of(client)
            if handler is not None and connection.deadline.retiring and connection.deadline.speaks_http:
                await handler.server_event(GoingAway())

    def running(self) -> None:
        """Start to check the deadlines."""
        logging.getLogger(ConnectionHandler.__module__).addFilter(self._is_worth_a_line)
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def done(self) -> None:
        """Stop checking."""
        logging.getLogger(ConnectionHandler.__module__).removeFilter(self._is_worth_a_line)
        for task in (self._watching, self._announcing):
            if task is not None:
                task.cancel()

    def client_connected(self, client: Client) -> None:
        """Accept a new connection, or reject it."""
        places, sharer = self._ports.at(client), self._ports.sharer_of(address_of(client.peername))
        if (reason := places.refusal(sharer)) is not None:
            client.error = "too many connections"
            self._log_refusal(reason)
            return
        places.take(sharer)
        transport = self._handlers.transport_of(client)
        if transport is not None and hasattr(transport, "max_size"):  # not with other event loops
            transport.max_size = _READ_SIZE
        deadline = ClientDeadline(self._timeouts)
        self._connections[client] = _Connection(deadline, transport, places, sharer)
        if self._retiring:
            deadline.retire()
        self._peers.add(client.peername)

    def client_disconnected(self, client: Client) -> None:
        """Forget a connection; its transport is closed later even if the client does not read the remaining bytes."""
        connection = self._connections.pop(client, None)
        if connection is None:
            return
        self._peers.discard(client.peername)
        connection.places.leave(connection.sharer, connection.transport, time.monotonic() + LINGER_SECONDS)

    def close_soon(self, client: Client) -> None:
        """Close a connection after the response under way."""
        if (connection := self._connections.get(client)) is not None:
            connection.deadline.retire()
            self._announce_retirement()

    def _is_worth_a_line(self, record: logging.LogRecord) -> bool:
        peer = getattr(record, "client", None)
        return not (record.msg in _CONNECTION_LINES and peer not in self._peers and self._is_refused(peer))

    def _is_refused(self, peer: Address | None) -> bool:
        # mitmproxy's log records do not tell the port.
        sharer = self._ports.sharer_of(address_of(peer))
        return any(places.refusal(sharer) is not None for places in (self._ports.proxied, self._ports.side))

    def _log_refusal(self, reason: str) -> None:
        self._refused[reason] += 1
        now, logged_at = time.monotonic(), self._logged_at.get(reason)
        if logged_at is None or now - logged_at >= _LOGGED_EVERY:
            self._logged_at[reason] = now
            logger.warning("%d connections refused: %s", self._refused.pop(reason), reason)

    async def _watch(self) -> None:
        pause = min(1.0, self._timeouts.head / 4, self._timeouts.body / 4, self._timeouts.idle / 4)
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            for client, connection in list(self._connections.items()):
                due = connection.deadline.deadline
                if due is not None and due <= now:
                    await self._end(client, connection.deadline)
            for places in (self._ports.proxied, self._ports.side):
                places.sweep(now)

    async def _end(self, client: Client, deadline: ClientDeadline) -> None:
        handler = self._handlers.of(client)
        if handler is None or client not in handler.transports:
            return
        if self._handlers.waits_for_upstream(client):
            deadline.excuse()
            return
        due = deadline.deadline
        if deadline.speaks_http:
            await handler.server_event(ClientOverdue())
        if deadline.deadline == due:  # no layer has handled the event
            await handler.on_timeout()
