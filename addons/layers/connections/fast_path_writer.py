"""Writes the bytes of the fast path to the client (`addons.layers.connections.fast_path`)."""

import asyncio
from typing import Final, Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy.server import ConnectionHandler

from addons.layers.connections.fast_path import ChunkFastPath

NEVER_FULL: Final = 16 * 1024
"""Bytes in a transport's write buffer with which it is never full: its low-water mark (asyncio, WriteTransport)."""


class Upstream(Protocol):
    """The layer of an upstream connection."""

    conn: Connection
    fast_path: ChunkFastPath | None


class FastPathWriter:
    """Writes from an upstream connection to the client's."""

    def __init__(self, upstream: Upstream, client: asyncio.WriteTransport, handler: ConnectionHandler) -> None:
        """Make the writer for one upstream connection.

        Args:
            upstream: The layer of the upstream connection; it has a fast path while a response may use it.
            client: The transport of the client's connection.
            handler: The handler of the client's connection.
        """
        self._upstream = upstream
        self._client = client
        self._watchdog = handler.timeout_watchdog

    def take(self, data: bytes) -> int:
        """Write the bytes at the beginning of `data` that take the fast path; return how many they are."""
        fast_path = self._upstream.fast_path
        # The layers handle backpressure.
        if fast_path is None or self._client.get_write_buffer_size() > NEVER_FULL or self._client.is_closing():
            return 0
        taken = fast_path.take(data)
        if taken:
            self._watchdog.register_activity()
            self._client.write(data if taken == len(data) else data[:taken])
        return taken
