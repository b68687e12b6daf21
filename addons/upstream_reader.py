"""How upstream connections are read: each can be halted by itself, and what need not go through the layers does not.

mitmproxy reads from every upstream as fast as it can, and stops for all of a client's together when a socket is full.
With HTTP/2 a client may be slow on one of its streams alone, which no socket tells of: then only the upstream of that
stream has to wait.

A reader stands between an upstream's transport and the `StreamReader` that mitmproxy has made for it. What it does not
hand to the short way (`addons.short_way`), it hands on to that, and mitmproxy's task reads from there.
"""

import asyncio
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.connection import Client, Connection
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.http2_connection import MAX_STREAMS
from addons.short_way import ShortWay


class Upstream(Protocol):
    """The layer of an upstream connection."""

    conn: Connection
    short_way: ShortWay | None


class WayOut:
    """From an upstream's short way to the client."""

    def __init__(self, upstream: Upstream, client: asyncio.WriteTransport, handler: ConnectionHandler) -> None:
        """Make it for one upstream connection.

        Args:
            upstream: Has a short way at times.
            client: Where the client is written to.
            handler: Of the client's connection.
        """
        self._upstream = upstream
        self._client = client
        self._watchdog = handler.timeout_watchdog

    def takes(self, data: bytes) -> bool:
        """Whether what has come goes the short way; if so, it has been written."""
        short_way = self._upstream.short_way
        if (
            short_way is None
            # Whoever has to wait for the client does so on the ordinary way.
            or self._client.get_write_buffer_size()
            or self._client.is_closing()
            or not short_way.takes(data)
        ):
            return False
        self._watchdog.register_activity()
        self._client.write(data)
        return True


class UpstreamReader(asyncio.Protocol):
    """Receives what an upstream sends."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.Transport) -> None:
        """Take a transport over.

        Args:
            reader: What its protocol has fed up to now, and will be fed by way of it.
            transport: The upstream's.
        """
        self._reader = reader
        self._ordinary = cast("asyncio.StreamReaderProtocol", transport.get_protocol())
        self._may_read = asyncio.Event()
        self._may_read.set()
        # Whether all that came before has been read and dealt with; only then may anything be dealt with here.
        self._idle = False
        self._way_out: WayOut | None = None
        transport.set_protocol(self)

    def halt(self) -> None:
        """Have the next read wait."""
        self._may_read.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._may_read.set()

    def pass_by(self, way_out: WayOut) -> None:
        """Write to a client what the upstream's short way takes, whenever it has one."""
        self._way_out = way_out

    async def read(self, most: int) -> bytes:
        """Read up to `most` bytes; `b""` at the end. What comes while this is halted waits, and then in the kernel."""
        await self._may_read.wait()
        self._idle = True
        try:
            return await self._reader.read(most)
        finally:
            self._idle = False

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self._idle and self._way_out is not None and self._way_out.takes(data):
            return
        self._idle = False
        self._ordinary.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that the upstream will send no more."""
        return self._ordinary.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the upstream is slow."""
        self._ordinary.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it is not any more."""
        self._ordinary.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection is gone."""
        self._way_out = None
        self._ordinary.connection_lost(exc)


class UpstreamReading:
    """The readers of all upstream connections."""

    def __init__(self) -> None:
        self._readers: WeakKeyDictionary[Connection, UpstreamReader] = WeakKeyDictionary()

    def halt(self, server: Connection) -> None:
        """Read no more from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.halt()

    def resume(self, server: Connection) -> None:
        """Go on reading from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.resume()

    def pass_by(self, upstream: Upstream, client: Client) -> None:
        """Write to a client what the upstream's short way takes, whenever it has one."""
        reader, handler = self._readers.get(upstream.conn), _handler(client)
        if reader is not None and handler is not None:
            reader.pass_by(WayOut(upstream, handler.transports[client].writer.transport, handler))

    def client_connected(self, client: Client) -> None:
        """Let each of a client's streams have its upstream connection: mitmproxy lets the sixth one wait."""
        if (handler := _handler(client)) is not None:
            handler.max_conns.default_factory = lambda: asyncio.Semaphore(MAX_STREAMS)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Put the reader in, before mitmproxy has begun to read."""
        if (handler := _handler(data.client)) is not None:
            io = handler.transports[data.server]
            io.reader = self._readers[data.server] = UpstreamReader(io.reader, io.writer.transport)


def _handler(client: Client) -> Any:
    """What mitmproxy has made to carry a client's connection."""
    return ctx.master.addons.get("proxyserver").connections.get(client.id)
