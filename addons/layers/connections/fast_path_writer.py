"""Writes what takes the fast path of an upstream's response to the client (`addons.layers.connections.fast_path`)."""

import asyncio
from typing import Final, Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy.server import ConnectionHandler

from addons.layers.connections.fast_path import ChunkFastPath

NEVER_FULL: Final = 16 * 1024
"""Bytes that a transport may have to write without being full: its lower limit (asyncio, WriteTransport)."""


class Upstream(Protocol):
    """The layer of an upstream connection."""

    conn: Connection
    fast_path: ChunkFastPath | None


class FastPathWriter:
    """From one upstream connection to the client's."""

    def __init__(self, upstream: Upstream, client: asyncio.WriteTransport, handler: ConnectionHandler) -> None:
        """Make it for one upstream connection.

        Args:
            upstream: Has a fast path while a response streams that may take it.
            client: Where the client is written to.
            handler: Of the client's connection.
        """
        self._upstream = upstream
        self._client = client
        self._watchdog = handler.timeout_watchdog

    def take(self, data: bytes) -> int:
        """Write what takes the fast path of what has come; return how many bytes that is, from the beginning on."""
        fast_path = self._upstream.fast_path
        # Backpressure is the layers' work.
        if fast_path is None or self._client.get_write_buffer_size() > NEVER_FULL or self._client.is_closing():
            return 0
        taken = fast_path.take(data)
        if taken:
            self._watchdog.register_activity()
            self._client.write(data if taken == len(data) else data[:taken])
        return taken
