"""A connection on real sockets, with a reader under test between it and mitmproxy's task."""

import asyncio
import socket
from collections.abc import Callable

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

from addons.layers.connections.connection_reader import ConnectionReader
from addons.layers.connections.inline_handler import InlineConnectionHandler
from tests.addons.wire import make_context
from tests.support.limits import limit


class Layer(layer.Layer):
    """A layer that records its events, and sends the bytes that a test gives it."""

    def __init__(self) -> None:
        super().__init__(make_context())
        self.received = b""
        self.pieces = 0
        self.ended = False
        self.echo_to: Server | None = None
        self.changed = asyncio.Event()

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            self.received += event.data
            self.pieces += 1
            if self.echo_to is not None:
                yield commands.SendData(self.echo_to, event.data)
        elif isinstance(event, events.ConnectionClosed):
            self.ended = True
        self.changed.set()


class Handler(ConnectionHandler):
    """mitmproxy's connection handler, with the recording layer."""

    def __init__(self) -> None:
        self.tested = Layer()
        super().__init__(self.tested.context)
        self.layer = self.tested

    async def handle_hook(self, hook: commands.StartHook) -> None:
        pass


class InlineHandler(InlineConnectionHandler, Handler):
    """The same, which can handle events inline."""


class Pair:
    """A connection and its other side.

    Attributes:
        peer: The other side's socket.
        reader: The reader under test.
    """

    def __init__(
        self, handler: Handler, reader: type[ConnectionReader] = ConnectionReader, *, start: bool = True
    ) -> None:
        self.handler = handler
        self._make_reader = reader
        self.connection = Server(address=("peer", 1))
        self.connection.state = ConnectionState.OPEN
        self._start = start
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Pair":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            self.peer = listener.accept()[0]
        self.peer.setblocking(False)
        self.handler.transports[self.connection] = ConnectionIO(reader=reader, writer=writer)
        if self._start:
            self.begin()
        return self

    def begin(self) -> None:
        self.reader = self._make_reader(self.connection, self.handler)
        self._task = asyncio.get_running_loop().create_task(self.handler.handle_connection(self.connection))
        self.handler.transports[self.connection].handler = self._task

    async def __aexit__(self, *_: object) -> None:
        self.peer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.peer, data)

    async def received(self, condition: Callable[[Layer], bool]) -> Layer:
        """Wait until the layer has received the expected bytes."""
        tested = self.handler.tested
        async with asyncio.timeout(limit()):
            while not condition(tested):
                tested.changed.clear()
                await tested.changed.wait()
        return tested
