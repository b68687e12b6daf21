"""How connections are read: what comes goes to the layers where it arrives, or past them.

In mitmproxy, a task for each connection waits for an `asyncio.StreamReader`, and stops for a while when one of the
client's connections is full. Here a reader stands between the transport and that `StreamReader`. While the task waits,
and so has dealt with all that came before, the reader hands what comes to the layers by itself, without waking it up;
or, where an answer streams, to the short way (`addons.layers.connections.fast_path`). All else it hands on: what comes
while the task is at work, what comes under mitmdump, whose hooks have tasks of their own, and the end.

A write that fails is no news of what has been received: an upstream's early answer is read first.

A reader can be halted, too. With HTTP/2 a client may be slow on one of its streams alone, which no socket tells of:
then only the upstream of that stream has to wait.
"""

import asyncio
import os
import select
import socket
from abc import ABCMeta
from typing import Any, Final, Protocol, cast
from weakref import WeakValueDictionary

from mitmproxy import ctx
from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.layers.connections.fast_path import ChunkFastPath
from addons.layers.http2.connection import MAX_STREAMS

NEVER_FULL: Final = 16 * 1024
"""Bytes that a transport may have to write without being full: its lower limit (asyncio, WriteTransport)."""


MOST: Final = 65535
"""Bytes that mitmproxy reads at once. A loop may receive more; the task then takes it in pieces."""

MOST_LEFT: Final = 1024 * 1024
"""Bytes that are read, at most, of what an upstream has sent on a connection to which a write has failed."""


MOST_AT_ONCE: Final = 32 * 1024
"""Bytes of a client's that the task reads at once: others have their turn in between."""


class Upstream(Protocol):
    """The layer of an upstream connection."""

    conn: Connection
    fast_path: ChunkFastPath | None


class FastPathWriter:
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

    def take(self, data: bytes) -> int:
        """Write what goes the short way of what has come; return how many bytes that is, from the beginning on."""
        fast_path = self._upstream.fast_path
        # Whoever has to wait for the client does so on the ordinary way.
        if fast_path is None or self._client.get_write_buffer_size() > NEVER_FULL or self._client.is_closing():
            return 0
        taken = fast_path.take(data)
        if taken:
            self._watchdog.register_activity()
            self._client.write(data if taken == len(data) else data[:taken])
        return taken


class InlineConnectionHandler(ConnectionHandler, metaclass=ABCMeta):
    """A connection handler that can handle an event on the spot, without a task to wait for its turn."""

    _events = 0
    """How many events are being handled, or wait for that."""

    async def server_event(self, event: events.Event) -> None:
        """Have the layers handle an event; as in mitmproxy, one after the other."""
        self._events += 1
        try:
            await super().server_event(event)
        finally:
            self._events -= 1

    def handle_now(self, event: events.Event) -> bool:
        """Have the layers handle an event, if there is no other one before it; else return False."""
        if self._events:
            return False
        self._events += 1
        # All that it ever waits for is its turn.
        step = super().server_event(event)
        try:
            step.send(None)
        except StopIteration:
            return True
        finally:
            self._events -= 1
        raise RuntimeError("mitmproxy has waited for something in the middle of an event")


class ConnectionReader(asyncio.Protocol):
    """Receives what comes on a connection."""

    def __init__(self, connection: Connection, handler: ConnectionHandler) -> None:
        """Take a connection's transport over.

        Args:
            connection: The client's or an upstream's, on which nothing has been read yet.
            handler: Carries it.
        """
        io = handler.transports[connection]
        self._connection = connection
        self._handler = handler
        self._reader = cast("asyncio.StreamReader", io.reader)
        transport = cast("asyncio.StreamWriter", io.writer).transport
        self._ordinary = cast("asyncio.StreamReaderProtocol", transport.get_protocol())
        # Set when reading may go on; None while nothing speaks against it, as for most.
        self._resumed: asyncio.Event | None = None
        # Whether the task waits, and so has dealt with all that came before.
        self._task_waits = False
        self._most = MOST_AT_ONCE if isinstance(connection, Client) else MOST
        self._draining: asyncio.Task[None] | None = None
        self._way_out: FastPathWriter | None = None
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._writing_waits = False
        # What the task has still to read, in bytes, and whether the end comes behind it.
        self._unread = 0
        self._ended = False
        # Whether the connection is gone, and the task has still to read what came before.
        self._lost = False
        transport.set_protocol(self)
        io.reader = cast("asyncio.StreamReader", self)

    def pause_reading(self) -> None:
        """Have the next read wait."""
        if self._resumed is None:
            self._resumed = asyncio.Event()

    def resume(self) -> None:
        """Let it go on."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    @property
    def has_ended(self) -> bool:
        """Whether the other side has closed the connection, or something has come that nobody has been given yet.

        To be asked where nothing is expected, as on an idle connection. The system is asked, too: it knows of an end
        before the loop does.
        """
        if self._transport.is_closing() or self._ended or self._unread:
            return True
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection, which is idle; the task finds its end."""
        self._transport.close()

    def enable_fast_path(self, fast_path_writer: FastPathWriter) -> None:
        """Write to a client what an upstream's short way takes, whenever it has one."""
        self._way_out = fast_path_writer

    async def read(self, most: int) -> bytes:
        """Read up to `most` bytes; `b""` at the end. What comes while this is halted waits, and then in the kernel."""
        while self._resumed is not None:
            await self._resumed.wait()
        if self._unread:
            await asyncio.sleep(0)  # or this connection alone would have its turn, as long as more is there
        self._task_waits = True
        try:
            data = await self._reader.read(min(most, self._most))
        finally:
            self._task_waits = False
        self._unread -= len(data)
        if not data and self._lost:
            self._ordinary.connection_lost(None)
        return data

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._task_waits or self._draining is not None or self._resumed is not None or len(data) > MOST:
            self._leave_to_task(data)
            return
        taken = self._way_out.take(data) if self._way_out is not None else 0
        if not taken:
            self._hand_to_layers(data)
        elif taken < len(data):
            self._hand_to_layers(data[taken:])

    def _leave_to_task(self, data: bytes) -> None:
        self._task_waits = False
        self._unread += len(data)
        self._ordinary.data_received(data)

    def _hand_to_layers(self, data: bytes) -> None:
        handler = self._handler
        if not (
            isinstance(handler, InlineConnectionHandler)
            and self._connection.state & ConnectionState.CAN_READ
            and handler.handle_now(events.DataReceived(self._connection, data))
        ):
            self._leave_to_task(data)
        elif any(_waiting(io.writer) > NEVER_FULL for io in handler.transports.values()):
            # What comes meanwhile goes to the task, and when that has enough, stays in the kernel.
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._handler.drain_writers()
        finally:
            self._draining = None

    def eof_received(self) -> bool | None:
        """Hand on that no more will come."""
        self._ended = True
        return self._ordinary.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the other side is slow."""
        self._writing_waits = True
        self._ordinary.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it is not any more."""
        self._writing_waits = False
        self._ordinary.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection is gone; of an upstream's that has failed, first what has come on it.

        An upstream may answer before it has read all of a request, and close. Then a write fails while the answer is
        still to be read; and to asyncio and mitmproxy, a write that has failed is the end, whatever has come.
        """
        self._way_out = None
        if exc is None or not isinstance(self._connection, Server):
            self._ordinary.connection_lost(exc)
            return
        if received := _received(self._socket):
            self._leave_to_task(received)
        self.eof_received()
        # The task tells of the loss when it has read all: before that, whoever waits to write would end the task.
        self._lost = True
        if self._writing_waits:
            self.resume_writing()


def _received(connection: socket.socket) -> bytes:
    """What a socket that is not read any more has received, up to `MOST_LEFT`: it can be read until it is closed."""
    received = bytearray()
    while len(received) < MOST_LEFT:
        try:
            data = os.read(connection.fileno(), MOST_LEFT - len(received))
        except OSError:  # there is no more, or it has been reset
            break
        if not data:
            break
        received += data
    return bytes(received)


def _waiting(writer: Any) -> int:
    return writer.transport.get_write_buffer_size() if writer is not None else 0


class ReadController:
    """The readers of all connections."""

    def __init__(self) -> None:
        # Each is held by its connection, and holds it, too: as a key it would live for ever.
        self._readers: WeakValueDictionary[Connection, ConnectionReader] = WeakValueDictionary()

    def pause_reading(self, server: Connection) -> None:
        """Read no more from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.pause_reading()

    def resume(self, server: Connection) -> None:
        """Go on reading from an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.resume()

    def has_ended(self, server: Connection) -> bool:
        """Whether an upstream has closed an idle connection, or sent something on it that nobody has asked for."""
        reader = self._readers.get(server)
        return reader is not None and reader.has_ended

    def close(self, server: Connection) -> None:
        """Close an idle connection to an upstream."""
        if (reader := self._readers.get(server)) is not None:
            reader.close()

    def enable_fast_path(self, upstream: Upstream, client: Client) -> None:
        """Write to a client what an upstream's short way takes, whenever it has one."""
        reader, handler = self._readers.get(upstream.conn), _handler(client)
        # Where a hook has taken its time, the client may have gone meanwhile.
        if reader is not None and handler is not None and client in handler.transports:
            reader.enable_fast_path(FastPathWriter(upstream, handler.transports[client].writer.transport, handler))

    def client_connected(self, client: Client) -> None:
        """Read from a client; and let each of its streams have its upstream connection: mitmproxy allows for five."""
        if client.error is None and (handler := _handler(client)) is not None:
            handler.max_conns.default_factory = lambda: asyncio.Semaphore(MAX_STREAMS)
            ConnectionReader(client, handler)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Read from an upstream."""
        if (handler := _handler(data.client)) is not None:
            self._readers[data.server] = ConnectionReader(data.server, handler)


def _handler(client: Client) -> Any:
    """What mitmproxy has made to carry a client's connection."""
    return ctx.master.addons.get("proxyserver").connections.get(client.id)
