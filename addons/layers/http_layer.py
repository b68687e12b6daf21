"""mitmproxy's HTTP layer: all requests of a client connection, in HTTP/1 or HTTP/2, and their timeouts.

- An upstream that does not begin its response in time gives 504.
- A stream whose last event has arrived is ended here, if the upstream leaves it open.
- A client that misses its deadline gets 408.

This is done by subclassing, as in `addons.layers.stream`, `addons.layers.http1.server` and others; the `next_layer`
hook in `addons.layers.reverse_proxy` installs these layers. `tests/addons/test_mitmproxy_upgrade.py` names every
internal of mitmproxy that they depend on.
"""

import time
from functools import partial

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import HttpConnection
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseProtocolError,
)

from addons.bodies.pipeline import BodyPipeline
from addons.exchange.attempt import AttemptOutcome
from addons.layers.connections.client_connections import ClientOverdue
from addons.layers.connections.fast_path import ChunkFastPath
from addons.layers.connections.read_controller import ReadController
from addons.layers.connections.upstream_connections import UpstreamConnections
from addons.layers.end_of_stream import EndOfStreamTimeout
from addons.layers.http1.chunked import ChunkDecoder
from addons.layers.http1.server import ApiHttp1Server, ClientTooSlow, UpstreamTimedOut
from addons.layers.http2.back_pressure import BackPressure
from addons.layers.http2.graceful_server import GoingAway
from addons.layers.http2.server import ApiHttp2Server, StreamsWentOn
from addons.layers.http2.streams import Http2Timeouts
from addons.layers.layer_config import LayerConfig
from addons.layers.stream.http_stream import ApiHttpStream
from addons.layers.websocket.layer import WebsocketSigner
from addons.upstream.keep_alive import KeepAliveLimit


class ApiHttpLayer(UpstreamConnections):
    """All requests of a client connection."""

    def __init__(
        self,
        context: Context,
        config: LayerConfig,
        keep_alive: KeepAliveLimit,
        signer: WebsocketSigner,
        reading: ReadController,
    ) -> None:
        """Make the layer.

        Args:
            context: As for `HttpLayer`.
            config: The limits and policies for requests.
            keep_alive: Which idle connections to upstreams are kept.
            signer: Signs WebSockets.
            reading: Pauses the reading from upstreams, and enables the fast path of responses.
        """
        super().__init__(context, keep_alive)
        self._config = config
        self._signer = signer
        self._http2: ApiHttp2Server | None = None
        self._reading = reading
        self._back_pressure = BackPressure(self.streams, self._reading)
        self._wakeup: commands.RequestWakeup | None = None
        self._unended = EndOfStreamTimeout()

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Handle an event. Streams may pause; this layer never does."""
        return self._handle_event(event)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            # HttpLayer keeps an existing connection. HTTP/3 is not served here.
            self.connections[self.context.client] = self._make_client_connection()
        elif isinstance(event, events.Wakeup) and event.command is self._wakeup:
            yield from self._end_overdue_streams()
            return
        elif isinstance(event, events.Wakeup) and event.command is self._unended.wakeup:
            yield from self._end_unended_streams()
            return
        elif isinstance(event, ClientOverdue):
            client = self.connections[self.context.client]
            if isinstance(client, ApiHttp1Server):
                yield from self.event_to_child(client, ClientTooSlow(client.stream_id))
            return
        elif isinstance(event, GoingAway):
            if self._http2 is not None:
                yield from self.event_to_child(self._http2, event)
            return
        yield from super()._handle_event(event)
        if self._http2 is not None and self._http2.has_pending_writes:
            yield from self.event_to_child(self._http2, StreamsWentOn())
        if self._unended.noted:
            yield from self._unended.watch(self.streams)
        while self._dropped:
            dropped = self._dropped.pop()
            if isinstance(dropped, ApiHttpStream):
                dropped.release()

    def _make_client_connection(self) -> HttpConnection:
        deadline = self._config.clients.deadline_of(self.context.client)
        if self.context.client.alpn == b"h2":
            deadline.speaks_http = True
            deadline.stop()  # with HTTP/2, each stream has its own deadlines
            timeouts = Http2Timeouts(self._config.upstream_timeout, deadline.timeouts.idle, deadline.timeouts.of_body())
            self._http2 = ApiHttp2Server(
                self.context.fork(),
                self._back_pressure,
                timeouts,
                self._add_standard_headers,
                retiring=lambda: deadline.retiring,
                unreadable=partial(self._config.clients.unreadable, self.context.client),
            )
            return self._http2
        unread = partial(self._config.clients.waiting_for, self.context.client)
        return ApiHttp1Server(self.context.fork(), self._add_standard_headers_http1, deadline, unread)

    def _add_standard_headers_http1(self, request: http.Request | None, response: http.Response) -> None:
        if request is None:
            self._config.clients.unreadable(self.context.client)
        self._add_standard_headers(request, response)

    def _add_standard_headers(self, request: http.Request | None, response: http.Response) -> None:
        """Add the headers to a connection's own response, and note its status if the request has a flow."""
        self._config.add_standard_headers(request, response)
        flow = next((stream.flow for stream in self.streams.values() if stream.flow.request is request), None)
        if flow is not None:
            self._config.exchanges.of(flow).layers_status = response.status_code

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Make the stream of a new request."""
        fork = self.context.fork()
        stream = ApiHttpStream(fork, stream_id, self._config, self._signer, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def takes_idle(self, stream: layer.Layer) -> bool:
        """Whether a stream may use an idle connection: not for its second attempt."""
        return not (isinstance(stream, ApiHttpStream) and stream.needs_new_connection)

    def last_event_came(self, stream_id: int) -> None:
        """Note that the last event of a stream's response has arrived."""
        self._unended.note(stream_id)

    def enable_fast_path(self, server: Connection, pipeline: BodyPipeline) -> None:
        """Enable the fast path for the body of a response; it is not possible with TLS or HTTP/2."""
        client, upstream = self.context.client, self._upstreams.get(server)
        if self._http2 is not None or upstream is None or client.tls or server.tls:
            return
        if isinstance(upstream.body_reader, ChunkDecoder):
            upstream.fast_path = ChunkFastPath(upstream.buf, upstream.body_reader, pipeline)
            self._reading.enable_fast_path(upstream, client)

    def watch(self) -> layer.CommandGenerator[None]:
        """Watch the streams' deadlines."""
        # A timer for each request would outlive it, as it cannot be cancelled. So there is one for the connection.
        if self._wakeup is None:
            yield from self._wake_up_in(self._config.upstream_timeout)

    def _wake_up_in(self, seconds: float) -> layer.CommandGenerator[None]:
        self._wakeup = commands.RequestWakeup(seconds)
        yield self._wakeup

    def _end_overdue_streams(self) -> layer.CommandGenerator[None]:
        if self._wakeup is not None:
            self.command_sources.pop(self._wakeup, None)
            self._wakeup = None
        now = time.monotonic()
        waiting = [s for s in self.streams.values() if isinstance(s, ApiHttpStream) and s.deadline is not None]
        for stream in waiting:
            if stream.deadline is not None and stream.deadline <= now:
                stream.deadline = None
                stream.end_attempt(AttemptOutcome.TIMED_OUT)
                client = self.connections[self.context.client]
                yield from self.event_to_child(client, UpstreamTimedOut(stream.stream_id))
                # The stream handles this as if the client had disconnected, and releases the upstream.
                gone = RequestProtocolError(stream.stream_id, "upstream timed out", ErrorCode.CANCEL)
                yield from self.event_to_child(stream, gone)
        deadlines = [stream.deadline for stream in waiting if stream.deadline is not None]
        if deadlines:
            yield from self._wake_up_in(max(0.0, min(deadlines) - now))

    def _end_unended_streams(self) -> layer.CommandGenerator[None]:
        has_pending_writes = self._back_pressure.is_on or self._config.clients.has_pending_writes(self.context.client)
        excused = self._config.upstream_timeout if has_pending_writes else 0.0
        for stream_id in self._unended.overdue(self.streams, excused):
            stream = self.streams[stream_id]
            if isinstance(stream, ApiHttpStream) and not stream.is_left_open:
                continue  # it has continued meanwhile, or its end waits for its signature or for a hook
            message = "the upstream does not end its response"
            gone = RequestProtocolError(stream_id, message, ErrorCode.CANCEL)
            if isinstance(stream, ApiHttpStream) and stream.may_end:
                yield from self.event_to_child(self.connections[stream.context.server], gone)
                yield from self.event_to_child(stream, ResponseEndOfMessage(stream_id))
                continue
            if isinstance(stream, ApiHttpStream):
                stream.end_attempt(AttemptOutcome.TIMED_OUT)
            error = ResponseProtocolError(stream_id, message, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.event_to_child(self.connections[self.context.client], error)
            yield from self.event_to_child(stream, gone)
        yield from self._unended.watch(self.streams)
