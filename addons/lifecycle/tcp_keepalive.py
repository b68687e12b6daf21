"""Detects peers that have vanished: TCP keepalive and TCP_USER_TIMEOUT on every connection, to clients and upstreams.

If a NAT drops a connection, or a machine loses power, no FIN and no RST arrives. Without probes, the request of a
vanished client keeps running on the GPU, and a vanished upstream is awaited like a slow one. With probes, the kernel
ends the connection with a timeout, which is handled like any other error.

- If nothing is in flight, the kernel sends probes (RFC 9293, 3.8.4; tcp(7), TCP_KEEPIDLE).
- If sent data is not acknowledged, or waits for a window that does not open, the kernel gives up (RFC 5482; tcp(7),
  TCP_USER_TIMEOUT).
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from mitmproxy.connection import Client, Connection
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.lifecycle.connection_handlers import ConnectionHandlers

PROBES: Final = 6
"""Unanswered keepalive probes after which a peer counts as vanished."""


class SocketOption(NamedTuple):
    """The arguments of `setsockopt`."""

    level: int
    name: int
    value: int


def keepalive_options(idle: int, user_timeout: int) -> Sequence[SocketOption]:
    """The options that end a connection when its peer has vanished.

    Args:
        idle: Seconds without a packet before the first probe.
        user_timeout: Seconds since the last packet of a peer after which it counts as vanished; more than `idle`.

    Returns:
        Those of the options that this system has.
    """
    interval = -(-(user_timeout - idle) // PROBES)
    tcp = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # the name on macOS
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
            handlers: The handlers of the client connections.
        """
        self._handlers = handlers
        self._options = keepalive_options(idle, user_timeout)

    def client_connected(self, client: Client) -> None:
        """Set the options on a client's connection, at any port."""
        self._watch(client, client)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Set the options on an upstream connection."""
        self._watch(data.client, data.server)

    def _watch(self, client: Client, connection: Connection) -> None:
        transport = self._handlers.transport_of(client, connection)
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # the connection is closed already
            for option in self._options:
                sock.setsockopt(*option)
