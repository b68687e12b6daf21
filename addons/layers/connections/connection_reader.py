"""Reads one connection: reading can be paused, and received bytes are read even after a write has failed.

In mitmproxy, a task for each connection reads from an `asyncio.StreamReader`, and pauses while one of the client's
connections is full. Here a reader is placed between the transport and that `StreamReader`, and passes received bytes on
to it. `addons.layers.connections.inline_reader` has a reader that bypasses the task where possible.

- A reader can be paused. An HTTP/2 client may be slow on a single stream, which no socket shows: then only the upstream
  of that stream has to wait.
- After a failed write, the bytes that were received before are still read: an upstream may have responded early.
- Whether the other side has closed an idle connection can be checked before the event loop has an event of it.
"""

import asyncio
import os
import select
import socket
from typing import Final, cast

from mitmproxy.connection import Client, Connection, Server
from mitmproxy.proxy.server import ConnectionHandler

MAX_READ: Final = 65535
"""Bytes that mitmproxy reads at once. An event loop may receive more; the task then reads them in pieces."""

MAX_CLIENT_READ: Final = 32 * 1024
"""Bytes that the task reads from a client at once, so that other connections are served in between."""

MAX_READ_AFTER_FAILURE: Final = 1024 * 1024
"""Most bytes that are read from an upstream's connection after a write to it has failed."""


class ConnectionReader(asyncio.Protocol):
    """Receives the bytes of a connection."""

    def __init__(self, connection: Connection, handler: ConnectionHandler) -> None:
        """Take over a connection's transport.

        Args:
            connection: The client's or an upstream's connection, before anything was read from it.
            handler: The handler of the client's connection.
        """
        io = handler.transports[connection]
        self._connection = connection
        self._reader = cast("asyncio.StreamReader", io.reader)
        transport = cast("asyncio.StreamWriter", io.writer).transport
        self._stream_protocol = cast("asyncio.StreamReaderProtocol", transport.get_protocol())
        # Set when reading may go on; None while it is not paused.
        self._resumed: asyncio.Event | None = None
        # Whether the task waits, and so has processed all received bytes.
        self._task_waits = False
        self._max_read = MAX_CLIENT_READ if isinstance(connection, Client) else MAX_READ
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._writing_waits = False
        # Bytes that the task has still to read, and whether the connection ends after them.
        self._unread = 0
        self._ended = False
        # Whether the connection is lost, and the task has still to read the bytes received before.
        self._lost = False
        transport.set_protocol(self)
        io.reader = cast("asyncio.StreamReader", self)

    def pause_reading(self) -> None:
        """Make the next read wait."""
        if self._resumed is None:
            self._resumed = asyncio.Event()

    def resume(self) -> None:
        """Continue to read."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    @property
    def has_ended(self) -> bool:
        """Whether the other side has closed the connection, or has sent bytes that no layer has received yet.

        For connections on which nothing is expected, such as idle ones. The kernel is polled, too: it knows of a close
        before the event loop does.
        """
        if self._transport.is_closing() or self._ended or self._unread:
            return True
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection, which is idle; the task then reads its end."""
        self._transport.close()

    async def read(self, most: int) -> bytes:
        """Read up to `most` bytes; `b""` at the end. Waits while reading is paused."""
        while self._resumed is not None:
            await self._resumed.wait()
        if self._unread:
            await asyncio.sleep(0)  # otherwise a busy connection would starve the others
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
        """Pass received bytes on."""
        self._leave_to_task(data)

    def _leave_to_task(self, data: bytes) -> None:
        self._task_waits = False
        self._unread += len(data)
        self._stream_protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that the other side has ended the connection."""
        self._ended = True
        return self._stream_protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full."""
        self._writing_waits = True
        self._stream_protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the write buffer is not full any more."""
        self._writing_waits = False
        self._stream_protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the connection is lost; if an upstream's connection has failed, first its received bytes.

        An upstream may respond before it has read the whole request, and close. Then a write fails before the response
        was read, and asyncio and mitmproxy would end the connection and discard the received bytes.
        """
        if exc is None or not isinstance(self._connection, Server):
            self._stream_protocol.connection_lost(exc)
            return
        if received := _received(self._socket):
            self._leave_to_task(received)
        self.eof_received()
        # The task reports the loss when it has read all bytes: before that, a waiting write would end the task.
        self._lost = True
        if self._writing_waits:
            self.resume_writing()


def _received(connection: socket.socket) -> bytes:
    """The bytes in the receive buffer of a socket, which can be read until it is closed."""
    received = bytearray()
    while len(received) < MAX_READ_AFTER_FAILURE:
        try:
            data = os.read(connection.fileno(), MAX_READ_AFTER_FAILURE - len(received))
        except OSError:  # there are no more bytes, or the connection was reset
            break
        if not data:
            break
        received += data
    return bytes(received)
