"""Flow control of one connection's reading: it can be paused, and what has come is read even where a write has failed.

In mitmproxy, a task for each connection waits for an `asyncio.StreamReader`, and stops for a while when one of the
client's connections is full. Here a reader stands between the transport and that `StreamReader`, and hands on to it
what comes. `addons.layers.connections.inline_reader` has the one that spares the task some of its work.

- A reader can be paused. With HTTP/2 a client may be slow on one of its streams alone, which no socket shows: then only
  the upstream of that stream has to wait.
- A write that fails says nothing of what has been received: an upstream's early response is read first.
- An idle connection can be asked whether the other side has closed it, before the event loop knows.
"""

import asyncio
import os
import select
import socket
from typing import Final, cast

from mitmproxy.connection import Client, Connection, Server
from mitmproxy.proxy.server import ConnectionHandler

MAX_READ: Final = 65535
"""Bytes that mitmproxy reads at once. A loop may receive more; the task then takes it in pieces."""

MAX_CLIENT_READ: Final = 32 * 1024
"""Bytes of a client's that the task reads at once: others have their turn in between."""

MAX_READ_AFTER_FAILURE: Final = 1024 * 1024
"""Bytes that are read, at most, of what an upstream has sent on a connection to which a write has failed."""


class ConnectionReader(asyncio.Protocol):
    """Receives what comes on a connection."""

    def __init__(self, connection: Connection, handler: ConnectionHandler) -> None:
        """Take a connection's transport over.

        Args:
            connection: The client's or an upstream's, on which nothing has been read yet.
            handler: Of the client's connection.
        """
        io = handler.transports[connection]
        self._connection = connection
        self._reader = cast("asyncio.StreamReader", io.reader)
        transport = cast("asyncio.StreamWriter", io.writer).transport
        self._stream_protocol = cast("asyncio.StreamReaderProtocol", transport.get_protocol())
        # Set when reading may go on; None while it is not paused.
        self._resumed: asyncio.Event | None = None
        # Whether the task waits, and so has dealt with all that came before.
        self._task_waits = False
        self._max_read = MAX_CLIENT_READ if isinstance(connection, Client) else MAX_READ
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
        """Whether the other side has closed the connection, or has sent something that no layer has had yet.

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

    async def read(self, most: int) -> bytes:
        """Read up to `most` bytes; `b""` at the end. What comes while this is paused waits, and then in the kernel."""
        while self._resumed is not None:
            await self._resumed.wait()
        if self._unread:
            await asyncio.sleep(0)  # or this connection alone would have its turn, as long as more is there
        self._task_waits = True
        try:
            data = await self._reader.read(min(most, self._max_read))
        finally:
            self._task_waits = False
        self._unread -= len(data)
        if not data and self._lost:
            self._stream_protocol.connection_lost(None)
        return data

    def data_received(self, data: bytes) -> None:
        """Hand on what has come."""
        self._leave_to_task(data)

    def _leave_to_task(self, data: bytes) -> None:
        self._task_waits = False
        self._unread += len(data)
        self._stream_protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that no more will come."""
        self._ended = True
        return self._stream_protocol.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the other side is slow."""
        self._writing_waits = True
        self._stream_protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it is not any more."""
        self._writing_waits = False
        self._stream_protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection is gone; of an upstream's that has failed, first what has come on it.

        An upstream may respond before it has read all of a request, and close. Then a write fails while the response is
        still to be read; and to asyncio and mitmproxy, a write that has failed is the end, whatever has come.
        """
        if exc is None or not isinstance(self._connection, Server):
            self._stream_protocol.connection_lost(exc)
            return
        if received := _received(self._socket):
            self._leave_to_task(received)
        self.eof_received()
        # The task tells of the loss when it has read all: before that, a write that waits would end the task.
        self._lost = True
        if self._writing_waits:
            self.resume_writing()


def _received(connection: socket.socket) -> bytes:
    """What a socket that is not read any more has received: it can be read until it is closed."""
    received = bytearray()
    while len(received) < MAX_READ_AFTER_FAILURE:
        try:
            data = os.read(connection.fileno(), MAX_READ_AFTER_FAILURE - len(received))
        except OSError:  # there is no more, or it has been reset
            break
        if not data:
            break
        received += data
    return bytes(received)
