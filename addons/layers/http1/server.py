"""HTTP/1 to the client: mitmproxy's, with what a server on the internet needs in addition.

- `addons.messages.request_head` checks heads before mitmproxy parses them. Chunk lines, trailers and pipelined bytes
  are limited, too.
- After a rejection, the client's bytes are read for a short time, so that it can read the response (RFC 9112, 9.6).
- A client that misses its deadline gets 408: see `addons.access.client_deadline`.
- Errors have OpenAI's shape, and quote nothing of the request.
"""

from collections.abc import Callable
from typing import Final, cast

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
    RequestHeaders,
    RequestProtocolError,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Server, TBodyReader

from addons.access.client_deadline import LINGER_BYTES, ClientDeadline
from addons.layers.http1.body_reader import CrlfBuffer, RequestBodyReader, make_body_reader
from addons.layers.http1.client import handle_http1_event
from addons.messages.hop_by_hop import is_keep_alive
from addons.messages.parsed_messages import read_request_head
from addons.messages.request_head import MAX_HEAD, InvalidRequestHead, head_size
from addons.messages.request_id import return_request_id, settle_request_id
from addons.messages.responses import error_response

MAX_AHEAD: Final = 2 * MAX_HEAD
"""Most bytes that are kept while a response is under way: some pipelined requests (RFC 9112, 9.3.2)."""

MAX_UNREAD: Final = 64 * 1024
"""Unread bytes of earlier responses above which no more pipelined requests of a client are handled: a short request may
have a long response."""

MESSAGES = {
    400: "The request could not be read: it is not valid HTTP.",
    408: "The request did not arrive in time. Send it again, and faster.",
    431: "The head of the request is too large.",
    502: "The model server could not be reached, or did not answer properly. Try again later.",
    504: "The model server took too long to answer. Try again later, or ask for a shorter answer.",
}
"""Error messages to the client, by status."""


class UpstreamTimedOut(ResponseProtocolError):  # noqa: N818  # an event, not an exception
    """The upstream has missed its deadline for the response."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id, "upstream timed out", ErrorCode.GENERIC_SERVER_ERROR)


class ClientTooSlow(ResponseProtocolError):  # noqa: N818
    """The client has missed its deadline."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id, "client too slow", ErrorCode.GENERIC_CLIENT_ERROR)


class ApiHttp1Server(Http1Server):
    """A client's connection."""

    def __init__(
        self,
        context: Context,
        add_standard_headers: Callable[[http.Request | None, http.Response], None],
        deadline: ClientDeadline,
        unread: Callable[[], int] = lambda: 0,
    ) -> None:
        """Make the layer of a new connection.

        Args:
            context: As for `Http1Server`.
            add_standard_headers: Adds the headers of all responses to one; the request is None if its head could not be
                read.
            deadline: The client's deadline, which this layer moves.
            unread: Returns the bytes of earlier responses that the client has not read.
        """
        super().__init__(context)
        self.buf = CrlfBuffer()
        self._add_standard_headers = add_standard_headers
        self._deadline = deadline
        self._unread = unread
        self._last_request = False
        self._head_began = False
        self._empty_line_came = False
        self._dropped = 0
        deadline.speaks_http = True
        deadline.await_head()

    @property
    def body_reader(self) -> TBodyReader:
        """The reader of the current request body."""
        return self._body_reader

    @body_reader.setter
    def body_reader(self, reader: TBodyReader) -> None:
        self._body_reader = cast("TBodyReader", RequestBodyReader(reader))

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Handle an event. This layer never pauses."""
        return self._handle_event(event)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        return handle_http1_event(self, event)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send an event to the client."""
        if isinstance(event, ClientTooSlow):
            yield from self._overdue()
            return
        if self.state == self.linger:
            return  # nothing is sent after a rejection
        if isinstance(event, ResponseProtocolError) and not self.response:
            # mitmproxy's own error pages are HTML, and for some errors it only closes.
            status = 504 if isinstance(event, UpstreamTimedOut) else event.code.http_status_code()
            if status is not None and self.conn.state & ConnectionState.CAN_WRITE:
                yield from self._respond_and_close(status)
                return
        if isinstance(event, ResponseHeaders) and event.response.status_code != 100:
            self._deadline.stop()
            # No more responses for a client that pipelines requests and does not read the responses.
            leaves_responses_unread = bool(self.buf) and self._unread() > MAX_UNREAD
            lacks_chunked_coding = self._is_http_1_0() and "transfer-encoding" in event.response.headers
            self._last_request = (
                self._last_request or self._deadline.retiring or leaves_responses_unread or lacks_chunked_coding
            )
            if self._last_request:  # a copy: the original decides whether the upstream's connection is kept
                event = ResponseHeaders(event.stream_id, event.response.copy(), event.end_stream)
                event.response.headers["connection"] = "close"
            if lacks_chunked_coding:  # RFC 9112, 6.1: the body ends with the connection
                del event.response.headers["transfer-encoding"]
            return_request_id(self.request, event.response)
        yield from super().send(event)
        if isinstance(event, ResponseHeaders) and event.response.status_code == 100:
            self.response = None  # that was an interim response

    def _is_http_1_0(self) -> bool:
        return self.request is not None and self.request.http_version == "HTTP/1.0"

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request head."""
        if not isinstance(event, events.DataReceived):
            yield commands.CloseConnection(self.conn)
            return
        try:
            if not self._head_is_complete():
                return
            request = read_request_head([bytes(line) for line in self.buf.maybe_extract_lines() or ()])
            size = http1.expected_http_body_size(request)
        except InvalidRequestHead as bad:
            yield from self._refuse(bad.status)
            return
        except ValueError:
            yield from self._refuse(400)
            return
        settle_request_id(request)
        self.request = request
        self._last_request = not is_keep_alive(request.data.http_version, request.data.headers.fields)
        self._deadline.await_body()
        self.body_reader = make_body_reader(size)
        self.state = self.read_body
        yield ReceiveHttp(RequestHeaders(self.stream_id, request, size == 0))
        yield from self.state(event)

    def _head_is_complete(self) -> bool:
        received = bytes(self.buf)
        if received.startswith(b"\r\n") and not self._empty_line_came:  # one is ignored (RFC 9112, 2.2)
            self._empty_line_came = True
            self.buf.maybe_extract_at_most(2)
            received = received[2:]
        if received and not self._head_began:
            self._head_began = True
            self._deadline.await_head()
        if head_size(received):
            self._head_began = self._empty_line_came = False
            return True
        return False

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request body. If mitmproxy closes the connection without a response, the body is malformed."""
        for command in super().read_body(event):
            client_is_there = self.conn.state & ConnectionState.CAN_READ
            if isinstance(command, commands.CloseConnection) and not self.response and client_is_there:
                yield from self._refuse(400)
            else:
                yield command
        if self.state != self.read_body or not isinstance(event, events.DataReceived):
            return
        if self.response is None or self.response_done:
            self._deadline.body_came(len(event.data))
        if len(self.buf) > MAX_HEAD:  # of a chunk's size line, or of trailers; all other bytes were extracted
            yield from self._give_up(400)

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Wait for the response."""
        if isinstance(event, events.DataReceived) and len(self.buf) > MAX_AHEAD:
            # The current response is still sent; a client that pipelines has to expect the end of the connection.
            self._last_request = True
            self._dropped += len(self.buf)
            self.buf = CrlfBuffer()
            if self._dropped > LINGER_BYTES:
                yield commands.CloseConnection(self.conn)
            return
        yield from super().wait(event)

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """Note that the request or the response is complete."""
        if not (request or self.request_done):
            ended = self.response
            yield from super().mark_done(response=response)
            if ended is not None and http1.connection_close(ended.http_version, ended.headers):
                yield from self._give_up()
            else:
                self._deadline.await_body()
            return
        if not (response or self.response_done):
            self._deadline.stop()
        else:
            self._deadline.idle()
            if self._last_request:
                yield commands.CloseConnection(self.conn)
                self.state = self.done
                return
        yield from super().mark_done(request=request, response=response)
        if self.state == self.passthrough:
            self._deadline.stop()

    def _overdue(self) -> layer.CommandGenerator[None]:
        self._deadline.stop()
        is_receiving = (self.state == self.read_headers and self.buf) or self.state == self.read_body
        if is_receiving and not self.response:
            yield from self._give_up(408)
        else:
            yield commands.CloseConnection(self.conn)

    def linger(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Drop the bytes that the client still sends, so that it reads the response before the connection ends."""
        if isinstance(event, events.DataReceived):
            goes_on = self._deadline.still_lingers(len(self.buf))
            self.buf = CrlfBuffer()
        else:
            goes_on = False
        if not goes_on and self.conn.state is not ConnectionState.CLOSED:
            yield commands.CloseConnection(self.conn)

    def _refuse(self, status: int) -> layer.CommandGenerator[None]:
        """Respond to a request that is not read to its end."""
        yield commands.SendData(self.conn, self._error(status))
        yield from self._linger()

    def _give_up(self, status: int | None = None) -> layer.CommandGenerator[None]:
        """Reject a request, or end its connection, and notify its stream, which releases the upstream."""
        had_request = self.request is not None
        if status is not None and not self.response:
            yield from self._refuse(status)
        else:
            yield from self._linger()
        if had_request:
            error = RequestProtocolError(self.stream_id, "the request was given up", ErrorCode.CLIENT_DISCONNECTED)
            yield ReceiveHttp(error)

    def _linger(self) -> layer.CommandGenerator[None]:
        self.state = self.linger
        self.buf = CrlfBuffer()
        self._deadline.linger()
        # Not under TLS, where more may have to be written, such as the refusal of a renegotiation.
        if not self.conn.tls and self.conn.state & ConnectionState.CAN_WRITE:
            yield commands.CloseTcpConnection(self.conn, half_close=True)

    def _respond_and_close(self, status: int) -> layer.CommandGenerator[None]:
        if self.request_done:
            yield commands.SendData(self.conn, self._error(status))
            yield commands.CloseConnection(self.conn)
        else:
            yield from self._refuse(status)

    def _error(self, status: int) -> bytes:
        self.response = error_response(status, MESSAGES.get(status, MESSAGES[502]), self.request)
        self.response.headers["connection"] = "close"
        self._add_standard_headers(self.request, self.response)
        return_request_id(self.request, self.response)
        return cast("bytes", http1.assemble_response(self.response))
