"""A connection's reader that bypasses mitmproxy's task where possible: by the fast path, or by handling events inline.

While the task waits, and so has processed all earlier bytes, received bytes take the fast path if a response streams
(`addons.layers.connections.fast_path`). Other bytes go to the layers at once if the connection handler supports it, as
the launcher's does. All else is left to the task: bytes that arrive while it works, the end of the connection, and all
bytes under mitmdump, whose hooks have tasks of their own.
"""

import asyncio
from typing import Any

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler

from addons.layers.connections.connection_reader import MAX_READ, ConnectionReader
from addons.layers.connections.fast_path_writer import NEVER_FULL, FastPathWriter
from addons.layers.connections.inline_handler import InlineConnectionHandler


class InlineReader(ConnectionReader):
    """Receives the bytes of a connection, and leaves to the task what cannot be handled at once."""

    def __init__(self, connection: Connection, handler: ConnectionHandler) -> None:
        """Take over a connection's transport.

        Args:
            connection: As for `ConnectionReader`.
            handler: As for `ConnectionReader`.
        """
        super().__init__(connection, handler)
        self._inline_handler = handler if isinstance(handler, InlineConnectionHandler) else None
        self._draining: asyncio.Task[None] | None = None
        self._fast_path_writer: FastPathWriter | None = None

    def enable_fast_path(self, fast_path_writer: FastPathWriter) -> None:
        """Write to a client through an upstream's fast path, whenever there is one."""
        self._fast_path_writer = fast_path_writer

    def data_received(self, data: bytes) -> None:
        """Write received bytes on the fast path, pass them to the layers, or leave them to the task."""
        if not self._task_waits or self._draining is not None or self._resumed is not None or len(data) > MAX_READ:
            self._leave_to_task(data)
            return
        taken = self._fast_path_writer.take(data) if self._fast_path_writer is not None else 0
        if not taken:
            self._hand_to_layers(data)
        elif taken < len(data):
            self._hand_to_layers(data[taken:])

    def _hand_to_layers(self, data: bytes) -> None:
        handler = self._inline_handler
        if not (
            handler is not None
            and self._connection.state & ConnectionState.CAN_READ
            and handler.handle_now(events.DataReceived(self._connection, data))
        ):
            self._leave_to_task(data)
        elif any(_waiting(io.writer) > NEVER_FULL for io in handler.transports.values()):
            # Bytes that arrive meanwhile go to the task's buffer, and when that is full, stay in the kernel's.
            self._draining = asyncio.get_running_loop().create_task(self._drain(handler))

    async def _drain(self, handler: ConnectionHandler) -> None:
        try:
            await handler.drain_writers()
        finally:
            self._draining = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the connection is lost, as `ConnectionReader` does."""
        self._fast_path_writer = None
        super().connection_lost(exc)


def _waiting(writer: Any) -> int:
    return writer.transport.get_write_buffer_size() if writer is not None else 0
