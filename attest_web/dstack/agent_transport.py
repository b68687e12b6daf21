"""An HTTP transport with a deadline for all calls together, and a bound on the bytes of each response.

httpx times single steps (a connection, a read), so a server that sends a byte now and then never times out, and three
calls may take three times as long as one.
"""

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpx

MAX_ANSWER: Final = 16 * 2**20
"""Bytes of a response at most, decoded. A quote with its event log has some ten thousand."""

_CONNECTED: Final = ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete")
"""Events of httpcore's `trace` extension that carry the connection."""

_STEPS: Final = ("connect", "read", "write", "pool")
"""The steps that httpx has timeouts for."""


class AnswerTooLargeError(ValueError):
    """A response is larger than allowed."""


class BoundedTransport(httpx.BaseTransport):
    """A transport with one deadline for all calls together. Not thread-safe.

    At the deadline the connection is shut down, which ends a read that is under way.
    """

    def __init__(self, inner: httpx.BaseTransport, seconds: float, max_answer: int = MAX_ANSWER) -> None:
        """Start the deadline.

        Args:
            inner: The transport that sends.
            seconds: Seconds for all calls together.
            max_answer: Bytes of each response at most, decoded.
        """
        self._inner = inner
        self._max_answer = max_answer
        self._deadline = time.monotonic() + seconds
        self._connection: socket.socket | None = None
        self._watch = threading.Timer(seconds, self._shut_down)
        self._watch.daemon = True
        self._watch.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the whole response.

        Raises:
            AnswerTooLargeError: It is larger than allowed.
            httpx.ReadTimeout: The deadline has passed.
            httpx.TransportError: The connection fails.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("", request=request)
        request.extensions = {**request.extensions, "timeout": dict.fromkeys(_STEPS, left), "trace": self._note}
        try:
            response = self._inner.handle_request(request)
            try:
                return httpx.Response(response.status_code, content=self._read(response))
            finally:
                response.close()
        except httpx.TransportError:
            if time.monotonic() >= self._deadline:
                raise httpx.ReadTimeout("", request=request) from None
            raise

    def close(self) -> None:
        """Close the connection and stop the timer."""
        self._watch.cancel()
        self._connection = None
        self._inner.close()

    def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > self._max_answer:
                raise AnswerTooLargeError
        return bytes(content)

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        if event in _CONNECTED:
            self._connection = info["return_value"].get_extra_info("socket")

    def _shut_down(self) -> None:
        if (connection := self._connection) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
