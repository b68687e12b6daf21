"""Detects peers that have vanished: TCP keepalive and TCP_USER_TIMEOUT on every connection, to clients and upstreams.

Behind a NAT that forgets a connection, or when a machine loses its power, no FIN and no RST ever comes. Without probes,
a client that is gone keeps its request running on the GPU, and an upstream that is gone is awaited like a slow one.
With them, the kernel ends the connection with a timeout, which is handled like any other error.

- Where nothing is in flight, the kernel probes (RFC 9293, 3.8.4; tcp(7), TCP_KEEPIDLE).
- Where something was sent and is not acknowledged, or waits for a window that does not open, it gives up
  (RFC 5482; tcp(7), TCP_USER_TIMEOUT).
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from mitmproxy.connection import Client, Connection
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.lifecycle.connection_handlers import ConnectionHandlers

PROBES: Final = 6
"""Keepalive probes that go unanswered before a peer counts as gone."""


class SocketOption(NamedTuple):
    """An option as `setsockopt` takes it."""

    level: int
    name: int
    value: int


def keepalive_options(idle: int, user_timeout: int) -> Sequence[SocketOption]:
    """The options that have a connection end when its peer has vanished.

    Args:
        idle: Seconds without a packet before the first probe.
        user_timeout: Seconds from the last sign of a peer on after which it counts as gone; more than `idle`.

    Returns:
        What this system has of them.
    """
    interval = -(-(user_timeout - idle) // PROBES)
    tcp = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # what macOS calls it
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": user_timeout * 1000,  # milliseconds
    }
    known = [
        SocketOption(socket.IPPROTO_TCP, getattr(socket, name), tcp[name]) for name in tcp if hasattr(socket, name)
    ]
    return [SocketOption(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *known]


class TcpKeepalive:
    """Sets the options on each connection as it is accepted or opened."""

    def __init__(self, idle: int, user_timeout: int, handlers: ConnectionHandlers) -> None:
        """Make the addon.

        Args:
            idle: As for `keepalive_options`.
            user_timeout: As for `keepalive_options`.
            handlers: Of the client connections.
        """
        self._handlers = handlers
        self._options = keepalive_options(idle, user_timeout)

    def client_connected(self, client: Client) -> None:
        """Take a client's connection, at any port."""
        self._watch(client, client)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Take an upstream's."""
        self._watch(data.client, data.server)

    def _watch(self, client: Client, connection: Connection) -> None:
        transport = self._handlers.transport_of(client, connection)
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # it has ended by now
            for option in self._options:
                sock.setsockopt(*option)
