"""Drives a client connection's HTTP layer without sockets: mitmproxy's connection handler in memory."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons

from addons.access.body_budget import BodyBudget
from addons.access.client_deadline import ClientDeadline, ClientTimeouts
from addons.exchange.exchanges import Exchanges
from addons.layers.connections.read_controller import ReadController
from addons.layers.layer_config import ClientStates, LayerConfig, RequestBodyPolicy
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.routing.routes import Router
from addons.upstream.policy import UpstreamPolicy
from addons.upstream.single import SingleUpstream

UPSTREAM = ("upstream", 9000)


def new_deadline(client: Client) -> ClientDeadline:
    """A client's deadline that does not expire during a test."""
    return ClientDeadline(ClientTimeouts(head=30, body=60, idle=120))


def make_config(
    limit: int = 1000,
    *,
    budget: BodyBudget | None = None,
    has_pending_writes: Callable[[Client], bool] = lambda _: False,
    upstreams: UpstreamPolicy | None = None,
    upstream_timeout: float = 3600,
    exchanges: Exchanges | None = None,
) -> LayerConfig:
    """The configuration of the layers, with one limit for all request bodies."""
    return LayerConfig(
        RequestBodyPolicy(lambda _: limit, budget or BodyBudget(2**30)),
        ClientStates(new_deadline, has_pending_writes),
        upstreams or SingleUpstream(),
        upstream_timeout,
        exchanges or Exchanges(Router().route_of),
        lambda *_: None,
    )


def no_reading() -> ReadController:
    """A controller without readers: bytes are passed to the layers directly."""
    return ReadController(ConnectionHandlers({}))


def make_context(alpn: bytes | None = None) -> Context:
    """The context of a layer, for a client's connection to a reverse proxy."""
    client = Client(
        peername=("client", 1),
        sockname=("proxy", 2),
        timestamp_start=1.0,
        state=ConnectionState.OPEN,
        proxy_mode=ProxyMode.parse("reverse:http://upstream:9000"),
        alpn=alpn,
    )
    with taddons.context(Proxyserver()) as tctx:
        options = tctx.options
    context = Context(client, options)
    context.server.address = UPSTREAM
    return context


class Wire:
    """Both ends of a layer's connections.

    Attributes:
        opening: Connections that the layer has requested and that were not opened yet.
        to_client: The bytes sent to the client.
        sent: The bytes sent over each upstream connection, in the order in which these were opened.
        logged: The lines of the log.
        hooks: Called by the name of a mitmproxy hook, with its data.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.client = layer.context.client
        self.opening: list[commands.OpenConnection] = []
        self.to_client = b""
        self.sent: dict[Server, bytes] = {}
        self.logged: list[str] = []
        self.wakeups: list[commands.RequestWakeup] = []
        self.hooks: dict[str, Callable[[Any], None]] = {}
        self._events: deque[events.Event] = deque()
        self.feed(events.Start())

    @property
    def connections(self) -> list[Server]:
        """The upstream connections that were made, open or closed."""
        return list(self.sent)

    def feed(self, event: events.Event) -> None:
        """Pass an event to the layer, and the events that follow from it."""
        self._events.append(event)
        while self._events:
            for command in self.layer.handle_event(self._events.popleft()):
                self._obey(command)

    def feed_next(self, event: events.Event) -> None:
        """Queue an event from within a hook: it is handled before the hook's completion."""
        self._events.append(event)

    def receive(self, connection: Connection, data: bytes) -> None:
        """Receive bytes from a connection's other side."""
        if connection.state & ConnectionState.CAN_READ:
            self.feed(events.DataReceived(connection, data))

    def close(self, connection: Connection) -> None:
        """Close a connection from its other side."""
        if connection.state & ConnectionState.CAN_READ:
            connection.state &= ~ConnectionState.CAN_READ
            self.feed(events.ConnectionClosed(connection))

    def connect(self, error: str | None = None) -> Server:
        """Complete the first requested connection, or fail it."""
        command = self.opening.pop(0)
        connection = command.connection
        assert isinstance(connection, Server)
        if error is None:
            connection.state = ConnectionState.OPEN
            connection.timestamp_tcp_setup = time.time()
            self.sent[connection] = b""
        self.feed(events.OpenConnectionCompleted(command, error))
        return connection

    def _obey(self, command: commands.Command) -> None:
        if isinstance(command, commands.StartHook):
            if hook := self.hooks.get(command.name):
                hook(*command.args())
            if command.blocking:
                self._events.append(events.HookCompleted(command))
        elif isinstance(command, commands.Log):
            self.logged.append(command.message)
        elif isinstance(command, commands.RequestWakeup):
            self.wakeups.append(command)
        elif isinstance(command, commands.OpenConnection):
            self.opening.append(command)
        elif isinstance(command, commands.ConnectionCommand):
            self._obey_on_connection(command)
        else:
            raise AssertionError(f"not a command for a connection handler: {command}")

    def _obey_on_connection(self, command: commands.ConnectionCommand) -> None:
        connection = command.connection
        if connection is not self.client and connection not in self.sent:
            return
        if isinstance(command, commands.SendData):
            if not connection.state & ConnectionState.CAN_WRITE:
                return
            if connection is self.client:
                self.to_client += command.data
            elif isinstance(connection, Server):
                self.sent[connection] += command.data
        elif getattr(command, "half_close", False):
            connection.state &= ~ConnectionState.CAN_WRITE
        elif connection.state is not ConnectionState.CLOSED:
            connection.state = ConnectionState.CLOSED
            self._events.append(events.ConnectionClosed(connection))
