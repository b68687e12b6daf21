"""HTTP/1 to the client, as mitmproxy speaks it; with errors in OpenAI's shape, which quote nothing of what was sent."""

from collections.abc import Callable
from typing import cast

import h11
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._events import ErrorCode, HttpEvent, ResponseHeaders, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Server, TBodyReader

from addons.answers import error_answer

MESSAGES = {
    400: "The request could not be read: it is not valid HTTP.",
    502: "The model server could not be reached, or did not answer properly. Try again later.",
    504: "The model server took too long to answer. Try again later, or ask for a shorter answer.",
}
"""What the client is told, by status."""


class UpstreamTimedOut(ResponseProtocolError):  # noqa: N818  # an event, not an exception
    """The upstream has not begun its answer in time."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id, "upstream timed out", ErrorCode.GENERIC_SERVER_ERROR)


class _WithoutTrailers:
    """A body reader that drops trailers. mitmproxy fails on them, and no request of an API has any that matter."""

    def __init__(self, reader: TBodyReader) -> None:
        self._reader = reader

    def __call__(self, buffer: ReceiveBuffer) -> h11.Event | None:
        return self._bare(self._reader(buffer))

    def read_eof(self) -> h11.Event | None:
        return self._bare(self._reader.read_eof())

    @staticmethod
    def _bare(event: h11.Event | None) -> h11.Event | None:
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


class ApiHttp1Server(Http1Server):
    """A client's connection."""

    def __init__(self, context: Context, complete: Callable[[http.Request | None, http.Response], None]) -> None:
        """Make the layer.

        Args:
            context: As for `Http1Server`.
            complete: Adds to an answer what all answers carry; the request is None where it could not be read.
        """
        super().__init__(context)
        self._complete = complete

    @property
    def body_reader(self) -> TBodyReader:
        """The reader of the request body at hand."""
        return self._body_reader

    @body_reader.setter
    def body_reader(self, reader: TBodyReader) -> None:
        self._body_reader = cast("TBodyReader", _WithoutTrailers(reader))

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send an event to the client."""
        if isinstance(event, ResponseProtocolError) and not self.response:
            # The error pages of mitmproxy are HTML; where it makes none, it only closes.
            status = 504 if isinstance(event, UpstreamTimedOut) else event.code.http_status_code()
            if status is not None and self.conn.state & ConnectionState.CAN_WRITE:
                yield from self._answer_and_close(status)
                return
        yield from super().send(event)
        if isinstance(event, ResponseHeaders) and event.response.status_code == 100:
            self.response = None  # that was not the answer yet

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request head. All that mitmproxy sends from within here is its page for a head that it cannot read."""
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):
                command.data = self._error(400)
            yield command

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request body. Where mitmproxy closes from within here, unanswered, it is one that it cannot read."""
        for command in super().read_body(event):
            client_is_there = self.conn.state & ConnectionState.CAN_READ
            if isinstance(command, commands.CloseConnection) and not self.response and client_is_there:
                yield commands.SendData(self.conn, self._error(400))
            yield command

    def _answer_and_close(self, status: int) -> layer.CommandGenerator[None]:
        yield commands.SendData(self.conn, self._error(status))
        yield commands.CloseConnection(self.conn)

    def _error(self, status: int) -> bytes:
        method = self.request.method if self.request is not None else "GET"
        self.response = error_answer(status, MESSAGES.get(status, MESSAGES[502]), method)
        self.response.headers["connection"] = "close"
        self._complete(self.request, self.response)
        return cast("bytes", http1.assemble_response(self.response))
