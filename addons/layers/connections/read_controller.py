"""An addon that gives every connection its reader, and controls those of the upstreams by their connections."""

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
            handlers: Of the client connections.
        """
        self._handlers = handlers
        # Each is held by its connection, and holds it, too: as a key it would live for ever.
        self._readers: WeakValueDictionary[Connection, InlineReader] = WeakValueDictionary()

    def pause_reading(self, server: Connection) -> None:
        """Read no more from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.pause_reading()

    def resume(self, server: Connection) -> None:
        """Go on reading from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.resume()

    def has_ended(self, server: Connection) -> bool:
        """Whether an upstream has closed an idle connection, or sent something on it that was not asked for."""
        reader = self._readers.get(server)
        return reader is not None and reader.has_ended

    def close(self, server: Connection) -> None:
        """Close an idle connection to an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.close()

    def enable_fast_path(self, upstream: Upstream, client: Client) -> None:
        """Write to a client what takes an upstream's fast path, whenever there is one."""
        reader, handler = self._readers.get(upstream.conn), self._handlers.of(client)
        transport = self._handlers.transport_of(client)
        # Where a hook has taken its time, the client may have gone meanwhile.
        if reader is not None and handler is not None and transport is not None:
            reader.enable_fast_path(FastPathWriter(upstream, transport, handler))

    def client_connected(self, client: Client) -> None:
        """Read from a client; and let each of its streams have its upstream connection: mitmproxy allows for five."""
        if client.error is None and (handler := self._handlers.of(client)) is not None:
            handler.max_conns.default_factory = lambda: asyncio.Semaphore(MAX_STREAMS)
            InlineReader(client, handler)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Read from an upstream."""
        if (handler := self._handlers.of(data.client)) is not None:
            self._readers[data.server] = InlineReader(data.server, handler)
