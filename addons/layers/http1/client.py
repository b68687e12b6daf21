"""HTTP/1 to the upstream: mitmproxy's, with limits, and with strict parsing of responses.

Error messages do not quote the response, as they are logged.
"""

import re
from collections.abc import Callable
from typing import Any

import h11
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import RegisterHttpConnection
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, should_make_pipe

from addons.exchange.attempt import AttemptOutcome
from addons.layers.connections.fast_path import ChunkFastPath
from addons.layers.http1.body_reader import make_body_reader
from addons.layers.upstream_failure import UpstreamFailure
from addons.messages.authority import authority
from addons.messages.parsed_messages import read_response_head
from addons.upstream.keep_alive import KeepAliveLimit

MAX_HEAD = 64 * 1024
"""Most bytes of a response's head; also of a chunk's size line, and of trailers."""

MAX_HEAD_LINES = 256
"""Most lines of a response's head."""

MAX_INTERIM = 16
"""Most interim responses (1xx) before the final response."""

_READ_UNTIL_CLOSE = -1
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?")
_BAD_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def handle_http1_event(connection: Http1Connection, event: events.Event) -> layer.CommandGenerator[None]:
    """Handle an event as mitmproxy's HTTP/1 connections do, without an additional generator."""
    if isinstance(event, HttpEvent):
        return connection.send(event)
    if isinstance(event, events.DataReceived) and connection.state != connection.passthrough:
        connection.buf += event.data
    handling: layer.CommandGenerator[None] = connection.state(event)
    return handling


class ApiHttp1Client(Http1Client):
    """A connection to the upstream."""

    state: Callable[[Any], layer.CommandGenerator[None]]

    def __init__(self, context: Context, keep_alive: KeepAliveLimit) -> None:
        """Make the layer of a connection that is still to be opened.

        Args:
            context: The context, whose `server` is the connection.
            keep_alive: Decides whether the connection is kept when it becomes idle.
        """
        super().__init__(context)
        self.state = self._open
        self._keep_alive = keep_alive
        self._interim = 0
        self._last = False
        self.fast_path: ChunkFastPath | None = None
        """The fast path of the current response body; None if there is none."""

    @property
    def idle(self) -> bool:
        """Whether the connection is open and waits for a request."""
        return self.stream_id is None and self.conn.connected and self.state == self.read_headers

    @property
    def closed(self) -> bool:
        """Whether the connection was open, and is closed."""
        return self.state != self._open and self.conn.state is ConnectionState.CLOSED

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        return handle_http1_event(self, event)

    def _open(self, _: events.Event) -> layer.CommandGenerator[None]:
        error = yield commands.OpenConnection(self.conn)
        self.state = self.done if error else self.read_headers
        self.handle_event = self._handle_event  # type: ignore[method-assign]  # this layer never pauses after this
        yield RegisterHttpConnection(self.conn, error)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send an event of a request to the upstream; if the request has failed, close the connection."""
        if isinstance(event, RequestProtocolError):
            if self.stream_id in (None, event.stream_id):
                yield from self._close()
            return
        if isinstance(event, RequestHeaders):
            self._keep_alive.drop(self.conn)
            self._interim = 0
            # An intermediary sends its own version (RFC 9110, 2.5).
            if event.request.http_version == "HTTP/1.0":
                event = RequestHeaders(event.stream_id, self._as_http_1_1(event.request), event.end_stream)
        elif event.stream_id != self.stream_id or isinstance(event, RequestTrailers):
            return
        yield from super().send(event)

    def _as_http_1_1(self, request: http.Request) -> http.Request:
        request = request.copy()
        request.http_version = "HTTP/1.1"
        if "host" not in request.headers:  # it may be missing in HTTP/1.0 alone (RFC 9112, 3.2)
            host, port = self.context.server.address or ("", 0)
            scheme = "https" if self.conn.tls else "http"
            request.headers.insert(0, "Host", authority(scheme, host, port))
        return request

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read the head of a response."""
        if isinstance(event, events.ConnectionClosed):
            if self.buf:
                yield from self._fail("the upstream closed in the middle of a head", AttemptOutcome.TRUNCATED)
            else:
                yield from self._fail("server closed connection", AttemptOutcome.CLOSED)
            return
        while self.request is not None:
            size = len(self.buf)
            lines = self.buf.maybe_extract_lines()
            if (size if lines is None else size - len(self.buf)) > MAX_HEAD or len(lines or ()) > MAX_HEAD_LINES:
                yield from self._fail("the upstream's head is too large")
                return
            if lines is None:
                return
            try:
                self.response = _read_head([bytes(line) for line in lines])
                size_of_body = http1.expected_http_body_size(self.request, self.response)
            except (ValueError, IndexError):
                yield from self._fail("the upstream's head is not valid HTTP")
                return
            status = self.response.status_code
            if status >= 200 or (status == 101 and "upgrade" in self.request.headers):
                yield from self._begin_body(self.response, size_of_body)
                return
            self.response = None
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM:
                yield from self._fail("the upstream sends unexpected interim responses")
                return
        # No request is under way: these bytes are unsolicited.
        if self.buf:
            yield from self._close()

    def _begin_body(self, response: http.Response, size: int | None) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None  # noqa: S101  # for mypy
        assert self.request is not None  # noqa: S101  # for mypy
        self._last = (
            size == _READ_UNTIL_CLOSE
            or http1.connection_close(response.http_version, response.headers)
            or http1.connection_close(self.request.http_version, self.request.headers)
        )
        self.body_reader = make_body_reader(size)
        self.state = self.read_body
        yield ReceiveHttp(ResponseHeaders(self.stream_id, response, size == 0))
        if self.state == self.read_body:
            yield from self.state(events.DataReceived(self.conn, b""))

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read the body of a response. Trailers are dropped: no signature covers them."""
        assert self.stream_id is not None  # noqa: S101  # for mypy
        ended = isinstance(event, events.ConnectionClosed)
        while True:
            try:
                part = self.body_reader.read_eof() if ended else self.body_reader(self.buf)
            except h11.ProtocolError:
                outcome = AttemptOutcome.TRUNCATED if ended else AttemptOutcome.INVALID
                yield from self._fail("the upstream's body breaks off, or is not framed as it should be", outcome)
                return
            if isinstance(part, h11.Data):
                yield ReceiveHttp(ResponseData(self.stream_id, bytes(part.data)))
            elif part is None:
                if len(self.buf) > MAX_HEAD:  # readers leave only an incomplete line, or incomplete trailers
                    yield from self._fail("a chunk's size line, or the trailers, do not end")
                return
            else:
                yield ReceiveHttp(ResponseEndOfMessage(self.stream_id))
                yield from self.mark_done(response=True)
                return

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """Note that a message is complete; after both, keep the connection for the next request, or close it."""
        self.request_done = self.request_done or request
        self.response_done = self.response_done or response
        if not self.response_done:
            return
        self.fast_path = None
        if not self.request_done:
            self.state = self._wait_for_request_end
            return
        assert self.request is not None  # noqa: S101  # for mypy
        assert self.response is not None  # noqa: S101  # for mypy
        if should_make_pipe(self.request, self.response):
            yield from self.make_pipe()
            return
        self.request_done = self.response_done = False
        self.request = self.response = self.stream_id = None
        if self._last or self.buf or not self.conn.connected or not self._keep_alive.keep(self.conn):
            yield from self._close()
        else:
            self.state = self.read_headers

    def _wait_for_request_end(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """After the response, wait for the rest of the request, which is dropped if the upstream closes."""
        if isinstance(event, events.ConnectionClosed):
            yield from self._close()

    def _fail(self, message: str, outcome: AttemptOutcome = AttemptOutcome.INVALID) -> layer.CommandGenerator[None]:
        stream_id = self.stream_id
        yield from self._close()
        if stream_id is not None:
            yield ReceiveHttp(UpstreamFailure(stream_id, message, outcome))

    def _close(self) -> layer.CommandGenerator[None]:
        self._keep_alive.drop(self.conn)
        self.fast_path = None
        self.state = self.done
        if self.conn.state is not ConnectionState.CLOSED:
            yield commands.CloseConnection(self.conn)


def _read_head(lines: list[bytes]) -> http.Response:
    """Read the head of a response.

    Raises:
        ValueError: The head is not valid HTTP/1 (RFC 9112, 4 to 6), or a field is folded.
        IndexError: There is no line.
    """
    if not _STATUS_LINE.fullmatch(lines[0]):
        raise ValueError("no status line")
    response = read_response_head(lines)
    if any(_BAD_IN_VALUE.search(value) for _, value in response.headers.fields):
        raise ValueError("a control character in a field")
    validate_headers(response)
    return response
