"""mitmproxy's HTTP layer, with the few things done otherwise that a proxy for APIs needs.

- A request that the gate has refused is answered as soon as its headers are known; its body falls unread.
- A body that turns out too long is refused at the byte too many.
- Every error is JSON in OpenAI's shape, and none quotes what a peer sent.
- An upstream that does not begin its answer in time gives 504.
- An upstream that has just closed an idle connection gives the request to a new one.

All of it by subclassing; the `next_layer` hook in `addons.reverse_proxy` puts these layers in.
`tests/addons/test_mitmproxy_internals.py` names every internal of mitmproxy that is leaned on here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, HttpLayer, HTTPMode, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHook
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Server

from addons.answers import error_answer

_MESSAGES = {
    400: "The request could not be read: it is not valid HTTP.",
    413: "The request body is too large.",
    502: "The model server could not be reached, or did not answer properly. Try again later.",
    504: "The model server took too long to answer. Try again later, or ask for a shorter answer.",
}


@dataclass(frozen=True)
class HttpLimits:
    """What the layers hold requests to.

    Attributes:
        body_limit: Largest body of this request that may be buffered, in bytes.
        upstream_timeout: Seconds that an upstream may take to begin its answer, connecting included.
    """

    body_limit: Callable[[http.Request], int]
    upstream_timeout: float


class UpstreamTimedOut(ResponseProtocolError):  # noqa: N818  # an event, not an exception
    """The upstream has not begun its answer in time."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id, "upstream timed out", ErrorCode.GENERIC_SERVER_ERROR)


def _error_answer_for(event: ResponseProtocolError) -> http.Response | None:
    """The answer for an error that mitmproxy would show as HTML; None where it would only close."""
    status = 504 if isinstance(event, UpstreamTimedOut) else event.code.http_status_code()
    if status is None:
        return None
    answer = error_answer(status, _MESSAGES.get(status, _MESSAGES[502]))
    answer.headers["connection"] = "close"
    return answer


def _assemble(answer: http.Response) -> bytes:
    return cast("bytes", http1.assemble_response(answer))


def _bad_request() -> bytes:
    answer = error_answer(400, _MESSAGES[400])
    answer.headers["connection"] = "close"
    return _assemble(answer)


class ApiHttp1Server(Http1Server):
    """HTTP/1 to the client, with errors in JSON."""

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send an event to the client."""
        if isinstance(event, ResponseProtocolError) and not self.response:
            answer = _error_answer_for(event)
            if answer is not None and self.conn.state & ConnectionState.CAN_WRITE:
                yield commands.SendData(self.conn, _assemble(answer))
                yield commands.CloseConnection(self.conn)
                return
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request head. All that mitmproxy sends from within here is its page for a head that it cannot read."""
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):
                command.data = _bad_request()
            yield command

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request body. Where mitmproxy closes from within here, unanswered, it is one that it cannot read."""
        for command in super().read_body(event):
            if isinstance(command, commands.CloseConnection) and not self.response:
                yield commands.SendData(self.conn, _bad_request())
            yield command


class ApiHttp2Server(Http2Server):
    """HTTP/2 to the client, with errors in JSON."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and self.is_open_for_us(event.stream_id):
            answer = _error_answer_for(event)
            headers_sent = self.h2_conn.streams[event.stream_id].state_machine.headers_sent
            if answer is not None and not headers_sent:
                del answer.headers["connection"]  # RFC 9113, 8.2.2
                yield from super()._handle_event(ResponseHeaders(event.stream_id, answer))
                yield from super()._handle_event(ResponseData(event.stream_id, answer.content or b""))
                yield from super()._handle_event(ResponseEndOfMessage(event.stream_id))
                return
        yield from super()._handle_event(event)


class ApiHttpStream(HttpStream):
    """One request and its answer."""

    def __init__(self, context: Context, stream_id: int, limits: HttpLimits) -> None:
        super().__init__(context, stream_id)
        self._limits = limits
        self.deadline: float | None = None
        """Until when the upstream has to begin its answer (monotonic seconds); None while nothing is asked of it."""

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        """Begin to forward a body as it comes; or, where the gate has refused it, answer and let the body fall."""
        if self.flow.response is None:
            yield from super().start_request_stream()
        else:
            yield from self._answer_now(self.flow.response)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Buffer a body, up to its limit."""
        if isinstance(event, RequestData) and self.flow.response is None:
            limit = self._limits.body_limit(self.flow.request)
            if len(self.request_body_buf) + len(event.data) > limit:
                self.request_body_buf.clear()
                self.flow.response = error_answer(413, f"The request body is larger than {limit} bytes.")
                yield from self._answer_now(self.flow.response)
                return
        yield from super().state_consume_request_body(event)

    def _answer_now(self, answer: http.Response) -> layer.CommandGenerator[None]:
        """Send an answer in the middle of the request. What still comes of the request is read and dropped."""
        if not self.flow.request.is_http2:
            answer.headers["connection"] = "close"  # the client may be sending for a long time yet
        self.client_state = self.state_errored
        self.server_state = self.state_errored
        answer.timestamp_start = answer.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.flow.live = False
        yield DropStream(self.stream_id)
        yield SendHttp(ResponseHeaders(self.stream_id, answer), self.context.client)
        yield SendHttp(ResponseData(self.stream_id, answer.raw_content or b""), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Connect to the upstream, or take the connection that is there."""
        if self.deadline is None:
            self.deadline = time.monotonic() + self._limits.upstream_timeout
        return (yield from super().make_server_connection())

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        """Take the upstream's response head."""
        self.deadline = None
        yield from super().state_wait_for_response_headers(event)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        """Tell whom it concerns; but first try again where an idle connection was closed under the request."""
        if self._lost_idle_connection(event):
            yield from self._send_request_again()
        else:
            self.deadline = None
            yield from super().handle_protocol_error(event)

    def _lost_idle_connection(self, event: RequestProtocolError | ResponseProtocolError) -> bool:
        # An upstream closes a connection that has been idle for some seconds, and a request may be on its way just
        # then. The connection ends with no byte of an answer on it. vLLM keeps no state that a second attempt could
        # harm, and a second attempt is what every client library would make.
        setup = self.flow.server_conn.timestamp_tcp_setup
        return (
            isinstance(event, ResponseProtocolError)
            and event.code is ErrorCode.GENERIC_SERVER_ERROR
            and event.message == "server closed connection"
            and self.client_state == self.state_done
            and self.server_state == self.state_wait_for_response_headers
            # A body that is still here was buffered, as those of the signed routes are; of others we know less.
            and bool(self.flow.request.raw_content or self.flow.request.method in ("GET", "HEAD"))
            and setup is not None
            # Not a connection that was made for this request; so this happens once and no more.
            and setup < self.flow.request.timestamp_start
        )

    def _send_request_again(self) -> layer.CommandGenerator[None]:
        ok = yield from self.make_server_connection()
        if not ok:
            return
        content = self.flow.request.raw_content
        yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, not content), self.context.server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), self.context.server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)


class ApiHttpLayer(HttpLayer):
    """All of a client connection's requests."""

    def __init__(self, context: Context, limits: HttpLimits) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._limits = limits
        self._wakeup: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            # HttpLayer keeps a connection that is there already. HTTP/3 does not come this way.
            server = ApiHttp2Server if self.context.client.alpn == b"h2" else ApiHttp1Server
            self.connections[self.context.client] = server(self.context.fork())
        elif isinstance(event, events.Wakeup) and event.command is self._wakeup:
            yield from self._end_overdue_streams()
            return
        yield from super()._handle_event(event)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Make the stream for a request that has just begun."""
        stream = ApiHttpStream(self.context.fork(), stream_id, self._limits)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())
        # A timer for each request would outlive it, as nothing can cancel it. One for the connection does for all.
        if self._wakeup is None:
            yield from self._wake_up_in(self._limits.upstream_timeout)

    def _wake_up_in(self, seconds: float) -> layer.CommandGenerator[None]:
        self._wakeup = commands.RequestWakeup(seconds)
        yield self._wakeup

    def _end_overdue_streams(self) -> layer.CommandGenerator[None]:
        self._wakeup = None
        now = time.monotonic()
        waiting = [s for s in self.streams.values() if isinstance(s, ApiHttpStream) and s.deadline is not None]
        for stream in waiting:
            if stream.deadline is not None and stream.deadline <= now:
                stream.deadline = None
                client = self.connections[self.context.client]
                yield from self.event_to_child(client, UpstreamTimedOut(stream.stream_id))
                # For the stream it is as if the client had gone: it lets go of the upstream.
                gone = RequestProtocolError(stream.stream_id, "upstream timed out", ErrorCode.CANCEL)
                yield from self.event_to_child(stream, gone)
        if self.streams:
            # A request that is still being read has no deadline yet, and will have none before this.
            deadlines = [stream.deadline for stream in waiting if stream.deadline is not None]
            latest = now + self._limits.upstream_timeout
            yield from self._wake_up_in(max(0.0, min(deadlines, default=latest) - now))
