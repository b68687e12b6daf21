"""Corrects the framing of a forwarded request after operators or rules have changed its head or its body."""

from typing import Any

from mitmproxy import http

from addons.bodies.pipeline import pipeline_in
from addons.messages.framing import Fields, frame_as, frame_by_chunks, frame_by_length, framing_of


class RequestFraming:
    """The framing of a request as received, and its head and body for comparison."""

    def __init__(self) -> None:
        self._fields: Fields = ()
        self._head: tuple[object, ...] = ()
        self._body: bytes | None = None
        self._is_framed = False

    def head_came(self, request: http.Request) -> None:
        """Note the fields that frame the body, as received."""
        self._fields = framing_of(request.headers)

    def request_came(self, request: http.Request) -> None:
        """Note the head of a complete request, before the request hook."""
        self._head = _head_of(request)

    def body_came(self, body: bytes | None) -> None:
        """Note a complete body, before the request hook."""
        self._body = body

    def frame(self, request: http.Request, *, streams: bool) -> bool:
        """Correct the framing of the forwarded request, at the first call.

        Args:
            request: The request as it will be forwarded.
            streams: Whether the body is streamed: it keeps its framing, unless its pipeline changes its length.

        Returns:
            Whether the request differs from the received one.
        """
        if self._is_framed:
            return False
        self._is_framed = True
        if streams:
            pipeline = pipeline_in(request.stream)
            if pipeline is not None and pipeline.changes_length:
                frame_by_chunks(request.headers)
            else:
                frame_as(request.headers, self._fields)
            return False
        body, received = request.raw_content or b"", self._body or b""
        self._body = None
        changed = body != received or _is_another(_head_of(request), self._head)
        frame_by_length(request.headers, len(body))
        return changed


def _head_of(request: http.Request) -> tuple[object, ...]:
    """The target of a request, and its header fields."""
    data = request.data
    return data.method, data.scheme, data.host, data.port, data.path, data.headers.fields


def _is_another(head: tuple[object, ...], received: tuple[object, ...]) -> bool:
    """Whether two heads differ in their targets, or in the type or coding of the body."""
    return head[:-1] != received[:-1] or (head[-1] is not received[-1] and _kinds(head[-1]) != _kinds(received[-1]))


def _kinds(fields: Any) -> list[tuple[bytes, bytes]]:
    names = ((name.lower(), value) for name, value in fields)
    return [field for field in names if field[0] in (b"content-type", b"content-encoding")]
