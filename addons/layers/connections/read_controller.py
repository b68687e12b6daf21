"""An addon that gives every connection its reader, and pauses and resumes the reading from upstreams."""

import asyncio
from weakref import WeakValueDictionary

from mitmproxy.connection import Client, Connection
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.layers.connections.fast_path_writer import FastPathWriter, Upstream
from addons.layers.connections.inline_reader import InlineReader
from addons.layers.http2.connection import MAX_STREAMS
from addons.lifecycle.connection_handlers import ConnectionHandlers


class ReadController:
    """The readers of all connections."""

    def __init__(self, handlers: ConnectionHandlers) -> None:
        """Make the addon.

        Args:
            handlers: The handlers of the client connections.
        """
        self._handlers = handlers
        # A reader refers to its connection, so a weak key would never be freed.
        self._readers: WeakValueDictionary[Connection, InlineReader] = WeakValueDictionary()

    def pause_reading(self, server: Connection) -> None:
        """Stop reading from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.pause_reading()

    def resume(self, server: Connection) -> None:
        """Continue to read from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.resume()

    def has_ended(self, server: Connection) -> bool:
        """Whether an upstream has closed an idle connection, or sent unsolicited bytes on it."""
        reader = self._readers.get(server)
        return reader is not None and reader.has_ended

    def close(self, server: Connection) -> None:
        """Close an idle connection to an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.close()

    def enable_fast_path(self, upstream: Upstream, client: Client) -> None:
        """Write to a client through an upstream's fast path, whenever there is one."""
        reader, handler = self._readers.get(upstream.conn), self._handlers.of(client)
        transport = self._handlers.transport_of(client)
        # The client may have disconnected during a slow hook.
        if reader is not None and handler is not None and transport is not None:
            reader.enable_fast_path(FastPathWriter(upstream, transport, handler))

    def client_connected(self, client: Client) -> None:
        """Read from a client; allow an upstream connection for each of its streams, where mitmproxy allows five."""
        if client.error is None and (handler := self._handlers.of(client)) is not None:
            handler.max_conns.default_factory = lambda: asyncio.Semaphore(MAX_STREAMS)
            InlineReader(client, handler)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Read from an upstream."""
        if (handler := self._handlers.of(data.client)) is not None:
            self._readers[data.server] = InlineReader(data.server, handler)
