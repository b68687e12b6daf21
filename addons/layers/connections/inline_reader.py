"""A connection's reader that spares mitmproxy's task what it can: by the fast path, or by handling events inline.

While the task waits, and so has dealt with all that came before, what comes takes the fast path where a response
streams (`addons.layers.connections.fast_path`). What does not goes to the layers at once where the connection handler
can do so, as the launcher's can. All else is left to the task: what comes while it is at work, what comes under
mitmdump, whose hooks have tasks of their own, and the end.
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
    """Receives what comes on a connection, and leaves to the task what cannot be done at once."""

    def __init__(self, connection: Connection, handler: ConnectionHandler) -> None:
        """Take a connection's transport over.

        Args:
            connection: As for `ConnectionReader`.
            handler: As for `ConnectionReader`.
        """
        super().__init__(connection, handler)
        self._inline_handler = handler if isinstance(handler, InlineConnectionHandler) else None
        self._draining: asyncio.Task[None] | None = None
        self._fast_path_writer: FastPathWriter | None = None

    def enable_fast_path(self, fast_path_writer: FastPathWriter) -> None:
        """Write to a client what takes an upstream's fast path, whenever there is one."""
        self._fast_path_writer = fast_path_writer

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
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
            # What comes meanwhile goes to the task, and when that has enough, stays in the kernel.
            self._draining = asyncio.get_running_loop().create_task(self._drain(handler))

    async def _drain(self, handler: ConnectionHandler) -> None:
        try:
            await handler.drain_writers()
        finally:
            self._draining = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection is gone, as `ConnectionReader` does."""
        self._fast_path_writer = None
        super().connection_lost(exc)


def _waiting(writer: Any) -> int:
    return writer.transport.get_write_buffer_size() if writer is not None else 0
