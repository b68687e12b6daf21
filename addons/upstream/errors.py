"""Upstream errors as they stream: rewritten in this proxy's shape on the catch-all route, else read for the log."""

from collections.abc import Callable, Iterable

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.messages.content_coding import is_not_encoded
from addons.messages.responses import speaks_anthropic
from addons.upstream.error_body import read_error, wrapped_error

MAX_ERROR = 64 * 1024
"""Most bytes of an upstream error that are read. Only the status of a longer one is passed on."""


class UpstreamErrors:
    """Rewrites upstream errors on the routes for which no API defines a shape of errors (`Route.wraps_errors`)."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Collect and replace the body of an error."""
        response = flow.response
        if response is None or response.raw_content is not None or not self._wraps(flow):
            return
        readable = is_not_encoded(response)
        for name in ("content-length", "content-encoding", "transfer-encoding", "etag", "digest", "content-digest"):
            response.headers.pop(name, None)
        response.headers["content-type"] = "application/json"
        response.headers["transfer-encoding"] = "chunked"
        response.stream = ErrorBody(response.status_code, readable, anthropic=speaks_anthropic(flow.request))

    def response(self, flow: http.HTTPFlow) -> None:
        """Add a body to an error without one."""
        response = flow.response
        if response is not None and response.raw_content == b"" and self._wraps(flow):
            response.headers.pop("transfer-encoding", None)
            response.content = wrapped_error(response.status_code, b"", anthropic=speaks_anthropic(flow.request))

    def _wraps(self, flow: http.HTTPFlow) -> bool:
        return (
            flow.response is not None
            and flow.response.status_code >= 400
            and flow.request.data.method != b"HEAD"
            and self._exchanges.of(flow).route.wraps_errors
        )


class ErrorBody:
    """The modifier (`response.stream`) that collects an error's body, and returns the rewritten one at the end."""

    def __init__(self, status: int, readable: bool, *, anthropic: bool = False) -> None:
        """Begin an empty body.

        Args:
            status: HTTP status of the response, 400 or more.
            readable: Whether the body has no content coding; an encoded body is not read.
            anthropic: Whether to use Anthropic's shape.
        """
        self._status = status
        self._anthropic = anthropic
        self._body: bytearray | None = bytearray() if readable else None

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Collect a piece from mitmproxy; at the end, return the rewritten error."""
        if not piece:
            return wrapped_error(self._status, bytes(self._body or b""), anthropic=self._anthropic)
        if self._body is not None:
            self._body += piece
            if len(self._body) > MAX_ERROR:
                self._body = None
        return []


class ErrorLogger:
    """The modifier (`response.stream`) that passes an error unchanged, and notes its message for the log."""

    def __init__(self, exchange: Exchange, inner: bool | Callable[[bytes], bytes | Iterable[bytes]]) -> None:
        """Begin an empty body.

        Args:
            exchange: The record; its `upstream_error` is set at the end of the body.
            inner: The next modifier of the body, if it is one.
        """
        self._exchange = exchange
        self._inner = inner if callable(inner) else None
        self._body = bytearray()

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Read a piece from mitmproxy, and pass it on."""
        if len(self._body) <= MAX_ERROR:
            self._body += piece
        if not piece and 0 < len(self._body) <= MAX_ERROR:
            self._exchange.upstream_error = read_error(bytes(self._body)).for_log()
        return self._inner(piece) if self._inner is not None else piece
