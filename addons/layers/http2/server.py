"""HTTP/2 to the client: mitmproxy's, with what a server on the internet needs in addition.

- Requests are translated to HTTP/1.1 (`addons.layers.http2.request`), and their bodies have to match their lengths.
- Errors have OpenAI's shape; they and the log quote nothing of the request.
- If a client is slow to read one response, only the upstream of that response is paused
  (`addons.layers.http2.flow_control`).
- Token buckets limit frames and resets (`addons.layers.http2.frame_budget`); time and memory are limited
  (`addons.layers.http2.streams`).
- A connection sends GOAWAY before it ends (`addons.layers.http2.graceful_server`).
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, cast

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http2 import StreamState

from addons.layers.http1.server import MESSAGES, UpstreamTimedOut
from addons.layers.http2.back_pressure import BackPressure
from addons.layers.http2.flow_control import PAUSE_AT, FlowControlledHttp2Server
from addons.layers.http2.frame_budget import (
    RESET_BURST,
    RESETS_PER_SECOND,
    FrameBudget,
    Http2LimitExceeded,
    TokenBucket,
)
from addons.layers.http2.graceful_server import GoingAway
from addons.layers.http2.request import Http2RequestError, http1_request
from addons.layers.http2.streams import Http2Timeouts
from addons.messages.request_id import return_request_id, settle_request_id
from addons.messages.responses import error_response

SWEEP: Final = 5.0
"""Seconds between two checks for overdue streams."""


class StreamsWentOn(events.Event):
    """An event was handled by the streams, so that they may have processed their queued events."""


class ApiHttp2Server(FlowControlledHttp2Server):
    """A client's connection."""

    def __init__(
        self,
        context: Context,
        upstreams: BackPressure,
        timeouts: Http2Timeouts,
        add_standard_headers: Callable[[http.Request | None, http.Response], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        retiring: Callable[[], bool] = lambda: False,
        unreadable: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the connection.

        Args:
            context: As for `Http2Server`.
            upstreams: Pauses the upstreams of the streams.
            timeouts: The timeouts of streams.
            add_standard_headers: Adds the headers of all responses to one; the request is None if it is not known.
            clock: Seconds, monotonic.
            retiring: Whether the connection has to end, as soon as no response is lost by that. Called at the start, at
                `GoingAway`, and every `SWEEP` seconds.
            unreadable: Called for each request head that could not be read.
        """
        super().__init__(context, upstreams, timeouts, clock, retiring)
        self._unreadable = unreadable
        self._add_standard_headers = add_standard_headers
        self._frames = FrameBudget(clock)
        self._resets = TokenBucket(RESET_BURST, RESETS_PER_SECOND, clock)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.RequestWakeup(SWEEP)
            yield from super()._handle_event(event)
            yield from self.announce_end()
        elif isinstance(event, GoingAway):
            yield from self.announce_end()
        elif isinstance(event, events.Wakeup):
            yield from self.conclude() if self.is_for_end(event) else self._sweep()
        elif isinstance(event, events.DataReceived):
            try:
                self._frames.receive(event.data)
            except Http2LimitExceeded as excess:
                yield from self.protocol_error(str(excess), excess.code)
                return
            yield from super()._handle_event(event)
            self.resume_upstreams()
            yield from self._settle()
        elif isinstance(event, ResponseTrailers):
            pass  # dropped as in HTTP/1, where mitmproxy cannot send them
        elif isinstance(event, ResponseProtocolError):
            yield from self._send_error(event)
        elif not isinstance(event, StreamsWentOn):
            if isinstance(event, ResponseHeaders) and (stream := self._streams.get(event.stream_id)) is not None:
                return_request_id(stream.request, event.response)
            yield from super()._handle_event(event)
            self._sent(event)
        if self._unacknowledged:
            yield from self.acknowledge()
        if self.is_over() and self.is_at_rest():
            yield from self.close_connection("all that the client had under way is done")

    def _settle(self) -> layer.CommandGenerator[None]:
        try:
            self._frames.settle()
        except Http2LimitExceeded as excess:
            if self.conn.state & ConnectionState.CAN_WRITE:
                yield from self.protocol_error(str(excess), excess.code)

    def _sent(self, event: events.Event) -> None:
        """Note a piece of a response that was sent or queued."""
        if isinstance(event, ResponseEndOfMessage):
            self._resets.refill(1)
            self.end_stream(event.stream_id)
        elif isinstance(event, ResponseData | ResponseHeaders):
            stream = self._streams.get(event.stream_id)
            if stream is None:
                return
            self._streams.response_came(stream)
            if isinstance(event, ResponseData):
                self._frames.sent(len(event.data))
                if self.h2_conn.waiting(event.stream_id) > PAUSE_AT:
                    self.pause(event.stream_id, stream)
            elif event.end_stream and not self.is_closed(event.stream_id):
                self.h2_conn.release(event.stream_id)

    def _send_error(self, event: ResponseProtocolError) -> layer.CommandGenerator[None]:
        status = 504 if isinstance(event, UpstreamTimedOut) else event.code.http_status_code()
        if self.is_open_for_us(event.stream_id):
            if status is None or self.h2_conn.streams[event.stream_id].state_machine.headers_sent:
                self.h2_conn.reset_stream(event.stream_id, ErrorCodes.INTERNAL_ERROR)
            else:
                self._respond(event.stream_id, status, MESSAGES.get(status, MESSAGES[502]))
        self.end_stream(event.stream_id)
        yield from self.flush()

    def _respond(self, stream_id: int, status: int, message: str, *more: tuple[bytes, bytes]) -> None:
        stream = self._streams.get(stream_id)
        request = stream.request if stream is not None else None
        response = error_response(status, message, request)
        self._add_standard_headers(request, response)
        return_request_id(request, response)
        fields = [(name.lower(), value) for name, value in response.headers.fields]
        self.h2_conn.send_headers(stream_id, [(b":status", b"%d" % status), *fields, *more])
        self.h2_conn.send_data(stream_id, response.raw_content or b"", end_stream=True)

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """Handle an event of hyper-h2; return whether the connection was closed."""
        if isinstance(event, h2.events.RequestReceived):
            return (yield from self._begin(event))
        if isinstance(event, h2.events.DataReceived):
            yield from self._take_body(event)
        elif isinstance(event, h2.events.StreamEnded):
            return (yield from self._take_end(event.stream_id))
        elif isinstance(event, h2.events.StreamReset):
            yield from self._give_up(event.stream_id)
            return (yield from self._charge_reset())
        elif isinstance(event, h2.exceptions.ProtocolError):
            # The message of the error quotes the client's bytes, headers included. The client has got the code.
            self._unreadable()
            yield commands.Log(f"ended an HTTP/2 connection: {type(event).__name__}")
            yield from self.flush()
            yield from self.close_connection("malformed HTTP/2")
            return True
        elif isinstance(event, h2.events.ConnectionTerminated):
            return (yield from self.take_goaway(event))
        elif isinstance(event, h2.events.PingAckReceived):
            yield from self.take_ping_ack(event)
        elif isinstance(event, h2.events.TrailersReceived | h2.events.UnknownFrameReceived):
            pass  # requests to APIs do not need trailers, and mitmproxy cannot forward them
        else:
            return (yield from super().handle_h2_event(event))
        return False

    def _begin(self, event: h2.events.RequestReceived) -> layer.CommandGenerator[bool]:
        stream_id = event.stream_id
        if self.is_closed(stream_id):
            return False  # the client has reset it already
        if self.refuses(stream_id):
            return (yield from self._charge_reset())
        has_body = event.stream_ended is None
        try:
            request = http1_request(cast("Iterable[tuple[bytes, bytes]]", event.headers), has_body=has_body)
        except Http2RequestError as problem:
            self._unreadable()
            return (yield from self._refuse(stream_id, str(problem)))
        settle_request_id(request)
        self._streams.begin(stream_id, request)
        self.streams[stream_id] = StreamState.HEADERS_RECEIVED
        yield ReceiveHttp(RequestHeaders(stream_id, request, end_stream=not has_body))
        return False

    def _take_body(self, event: h2.events.DataReceived) -> layer.CommandGenerator[None]:
        stream_id, data = event.stream_id, event.data or b""
        stream = self._streams.get(stream_id)
        if stream is not None and data:  # an empty piece would be the last chunk of a chunked body upstream
            self._streams.body_came(stream, len(data))
            self._frames.taken(event.flow_controlled_length or 0)
            yield ReceiveHttp(RequestData(stream_id, data))
            if self._streams.get(stream_id) is not stream:
                pass  # it was rejected
            elif self._upstreams.passes(stream_id):
                self._streams.pass_on(stream)
            elif not self._streams.hold(stream, len(data)):
                yield from self._refuse_more(stream_id)
        self.owe_window(stream_id, event.flow_controlled_length or 0)

    def _refuse_more(self, stream_id: int) -> layer.CommandGenerator[None]:
        if self.is_open_for_us(stream_id):
            message = "Too much is under way on this connection. Try again later."
            self._respond(stream_id, 429, message, (b"retry-after", b"1"))
        yield from self._give_up(stream_id)

    def _take_end(self, stream_id: int) -> layer.CommandGenerator[bool]:
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        if stream.length not in (None, stream.received):
            # hyper-h2 checks this if DATA ends the request, but not if trailers do.
            return (yield from self._refuse(stream_id, "its body is shorter than content-length says"))
        stream.receiving = False
        yield ReceiveHttp(RequestEndOfMessage(stream_id))
        return False

    def _refuse(self, stream_id: int, why: str) -> layer.CommandGenerator[bool]:
        """Reset a stream on which the client has broken a rule. This counts as a reset by the client."""
        yield commands.Log(f"refused an HTTP/2 request: {why}")
        if not self.is_closed(stream_id):
            self.h2_conn.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        yield from self._give_up(stream_id)
        return (yield from self._charge_reset())

    def _charge_reset(self) -> layer.CommandGenerator[bool]:
        if self._resets.consume(1):
            return False
        yield from self.protocol_error("too many resets", ErrorCodes.ENHANCE_YOUR_CALM)
        return True

    def _give_up(self, stream_id: int) -> layer.CommandGenerator[None]:
        """End a stream, which then releases its upstream."""
        if self.end_stream(stream_id):
            yield ReceiveHttp(RequestProtocolError(stream_id, "the client has given up", ErrorCode.CANCEL))

    def _sweep(self) -> layer.CommandGenerator[None]:
        """End overdue streams, or an idle connection."""
        for stream_id in {*self.h2_conn.unread(self._timeouts.reading), *self._streams.overdue()}:
            stream = self._streams.get(stream_id)
            is_slow = stream is not None and stream.receiving and not stream.responding
            if is_slow and self.is_open_for_us(stream_id):
                self._respond(stream_id, 408, MESSAGES[408])
            elif not self.is_closed(stream_id):
                self.h2_conn.reset_stream(stream_id, ErrorCodes.CANCEL)
            yield from self._give_up(stream_id)
        yield from self.flush()
        yield from self.announce_end()
        if self._streams.is_idle() and self.is_at_rest():
            yield from self.protocol_error("the connection was idle", ErrorCodes.NO_ERROR)
        else:
            yield commands.RequestWakeup(SWEEP)
