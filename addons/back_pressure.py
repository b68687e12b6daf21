"""Upstream connections whose reading can be halted, each by itself.

mitmproxy reads from every upstream as fast as it can, and stops for all of a client's together when a socket is full.
With HTTP/2 a client may be slow on one of its streams alone, which no socket tells of: then only the upstream of that
stream has to wait.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.http2_connection import MAX_STREAMS


class HaltingReader:
    """Reads from another reader, unless it is halted. What comes meanwhile waits there, and then in the kernel."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._may_read = asyncio.Event()
        self._may_read.set()

    def halt(self) -> None:
        """Have the next read wait."""
        self._may_read.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._may_read.set()

    async def read(self, most: int) -> bytes:
        """Read up to `most` bytes; `b""` at the end."""
        await self._may_read.wait()
        return await self._reader.read(most)


class UpstreamReading:
    """Halts and resumes the reading from upstream connections of clients with HTTP/2."""

    def __init__(self) -> None:
        self._readers: WeakKeyDictionary[Server, HaltingReader] = WeakKeyDictionary()

    def halt(self, server: Server) -> None:
        """Read no more from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.halt()

    def resume(self, server: Server) -> None:
        """Go on reading from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.resume()

    def client_connected(self, client: Client) -> None:
        """Let each of a client's streams have its upstream connection: mitmproxy lets the sixth one wait."""
        if (handler := _handler(client)) is not None:
            handler.max_conns.default_factory = lambda: asyncio.Semaphore(MAX_STREAMS)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Put the reader that can be halted in, before mitmproxy has begun to read."""
        if data.client.alpn != b"h2" or (handler := _handler(data.client)) is None:
            return
        io = handler.transports[data.server]
        io.reader = self._readers[data.server] = HaltingReader(io.reader)


class BackPressure:
    """What the streams of one client connection have behind them: upstreams to be halted, and bodies to be kept."""

    def __init__(self, streams: Mapping[int, HttpStream], reading: UpstreamReading) -> None:
        """Make it for the streams that there are, now and later.

        Args:
            streams: By their numbers.
            reading: Halts their upstreams.
        """
        self._streams = streams
        self._reading = reading
        self._halted: dict[int, Server] = {}

    @property
    def is_on(self) -> bool:
        """Whether any upstream is halted."""
        return bool(self._halted)

    def halt(self, stream_id: int) -> None:
        """Read no more of a stream's answer, until `resume`."""
        if (stream := self._streams.get(stream_id)) is not None:
            self._halted[stream_id] = stream.flow.server_conn
            self._reading.halt(stream.flow.server_conn)

    def resume(self, stream_id: int) -> None:
        """Go on reading a stream's answer. The stream may be gone by now."""
        if (server := self._halted.pop(stream_id, None)) is not None:
            self._reading.resume(server)

    def waits(self, stream_id: int) -> bool:
        """Whether what comes for a stream is put in a queue, as while its upstream is being connected to."""
        stream = self._streams.get(stream_id)
        return stream is not None and bool(stream._paused_event_queue)

    def passes(self, stream_id: int) -> bool:
        """Whether a stream's body is passed on as it comes, and not kept."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.client_state in (stream.state_stream_request_body, stream.state_errored)


def _handler(client: Client) -> Any:
    """What mitmproxy has made to carry a client's connection."""
    return ctx.master.addons.get("proxyserver").connections.get(client.id)
