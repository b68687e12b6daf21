"""A client connection's connections to the upstream: HTTP/1.1 over TCP or TLS, reused when they are idle.

mitmproxy never forgets a closed connection, keeps a failed one for as long as the client stays, and with HTTP/2 to the
client uses each connection once. Here each request takes an idle connection to its target, or opens a new one. While a
new one is being opened, the request takes another connection if that becomes idle first.
"""

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ServerTLSLayer
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    HttpStream,
    RegisterHttpConnection,
    SendHttp,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.tunnel import LayerStack

from addons.layers.http1.client import ApiHttp1Client
from addons.upstream.keep_alive import KeepAliveLimit


class UpstreamConnections(HttpLayer):
    """mitmproxy's HTTP layer, with its own management of upstream connections."""

    def __init__(self, context: Context, keep_alive: KeepAliveLimit) -> None:
        """Make the layer of a client connection.

        Args:
            context: As for `HttpLayer`.
            keep_alive: Which idle connections are kept.
        """
        super().__init__(context, HTTPMode.transparent)
        self._keep_alive = keep_alive
        self._upstreams: dict[Connection, ApiHttp1Client] = {}
        self._dropped: list[HttpStream] = []
        """Streams that have ended and were not released yet."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        # Not a generator itself, as this runs for every packet.
        if isinstance(event, events.ConnectionEvent) and event.connection.state is ConnectionState.CLOSED:
            return self._handle_closed_connection(event)
        if self.waiting_for_establishment:
            return self._handle_and_serve_waiting(event)
        if type(event) is events.DataReceived and (connection := self.connections.get(event.connection)) is not None:
            return self.event_to_child(connection, event)
        handling: layer.CommandGenerator[None] = super()._handle_event(event)
        return handling

    def event_to_child(self, child: layer.Layer, event: events.Event) -> layer.CommandGenerator[None]:
        """Pass an event to a child layer, and its commands on: as in mitmproxy, with fewer checks for each command."""
        for command in child.handle_event(event):
            if isinstance(command, commands.SendData):
                yield command
            elif isinstance(command, SendHttp):
                yield from self.event_to_child(self.connections[command.connection], command.event)
            elif isinstance(command, ReceiveHttp):
                if isinstance(command.event, RequestHeaders):
                    yield from self.make_stream(command.event.stream_id)
                # More events may arrive for a stream that has ended.
                if (stream := self.streams.get(command.event.stream_id)) is not None:
                    yield from self.event_to_child(stream, command.event)
            elif isinstance(command, DropStream):
                if (dropped := self.streams.pop(command.stream_id, None)) is not None:
                    self._dropped.append(dropped)
            else:
                yield from self._handle_rare(child, command)

    def _handle_rare(self, child: layer.Layer, command: commands.Command) -> layer.CommandGenerator[None]:
        # The layer that gets the completion. A stream's wake-ups belong to this layer: with a timeout of an hour, the
        # first exchange of each client would be kept in memory for as long.
        if command.blocking or (isinstance(command, commands.RequestWakeup) and not isinstance(child, HttpStream)):
            self.command_sources[command] = child
        if isinstance(command, GetHttpConnection):
            yield from self.get_connection(command)
        elif isinstance(command, RegisterHttpConnection):
            yield from self.register_connection(command)
        else:
            if isinstance(command, commands.OpenConnection):
                self.connections[command.connection] = child
            yield command

    def _handle_closed_connection(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if event.connection in self.connections:  # otherwise it was forgotten already
            yield from self._handle_and_serve_waiting(event)

    def _handle_and_serve_waiting(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super()._handle_event(event)
        yield from self._serve_waiting()

    def get_connection(
        self,
        event: GetHttpConnection,
        *,
        reuse: bool = True,  # noqa: ARG002  # mitmproxy's signature
    ) -> layer.CommandGenerator[None]:
        """Get a connection for a request: an idle one, or a new one."""
        self._forget_closed()
        if self.takes_idle(self.command_sources[event]) and (connection := self._find_idle(event)) is not None:
            yield from self._reply(event, (connection, None))
            return
        for opening, waiting in self.waiting_for_establishment.items():
            # The request that opened it has taken another connection since.
            if not waiting and event.connection_spec_matches(opening):
                waiting.append(event)
                return
        context = self.context.fork()
        # HTTP/1.1 to the upstream, also for an HTTP/2 client.
        context.server = Server(address=event.address, sni=event.address[0], alpn_offers=(b"http/1.1",))
        stack = LayerStack()
        if event.tls:
            stack /= ServerTLSLayer(context)
        client = ApiHttp1Client(context, self._keep_alive)
        stack /= client
        self.connections[context.server] = stack[0]
        self._upstreams[context.server] = client
        self.waiting_for_establishment[context.server].append(event)
        yield from self.event_to_child(stack[0], events.Start())

    def takes_idle(self, stream: layer.Layer) -> bool:  # noqa: ARG002
        """Whether a stream may use an idle connection."""
        return True

    def register_connection(self, command: RegisterHttpConnection) -> layer.CommandGenerator[None]:
        """Register a connection that was opened, or has failed, and notify the requests that wait for it."""
        waiting = self.waiting_for_establishment.pop(command.connection)
        if command.err:
            del self.connections[command.connection]
            del self._upstreams[command.connection]
            for request in waiting:
                yield from self._reply(request, (None, command.err))
        elif waiting:
            yield from self._reply(waiting[0], (command.connection, None))
        elif not self._keep_alive.keep(command.connection):
            yield commands.CloseConnection(command.connection)

    def _serve_waiting(self) -> layer.CommandGenerator[None]:
        """Assign idle connections to requests that still wait for a new one."""
        for waiting in list(self.waiting_for_establishment.values()):
            request = waiting[0] if waiting else None
            if request is None or not self.takes_idle(self.command_sources[request]):
                continue
            if (connection := self._find_idle(request)) is not None:
                yield from self._reply(waiting.pop(0), (connection, None))

    def _find_idle(self, request: GetHttpConnection) -> Connection | None:
        for connection, client in self._upstreams.items():
            if client.idle and request.connection_spec_matches(connection) and self._keep_alive.is_usable(connection):
                return connection
        return None

    def _reply(
        self, request: GetHttpConnection, reply: tuple[None, str] | tuple[Connection, None]
    ) -> layer.CommandGenerator[None]:
        stream = self.command_sources.pop(request)
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(request, reply))

    def _forget_closed(self) -> None:
        gone = [
            connection
            for connection, client in self._upstreams.items()
            if client.closed and client.stream_id not in self.streams
        ]
        for connection in gone:
            del self.connections[connection]
            del self._upstreams[connection]
