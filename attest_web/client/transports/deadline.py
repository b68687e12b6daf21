"""A deadline for all reads and writes of a thread over the connections of a transport.

httpx has only a timeout for each read, so a server that sends a byte now and then never times out, and it gives access
to the connection only after the response's head. Its `trace` extension reports a new connection earlier. From then on,
the timeout of each read and write over the connection is the remaining time.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2

_CONNECTED: Final = (".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")
"""Suffixes of the events that carry a connection."""


class Countdown:
    """The remaining time of a request for proof, which is paused while a new key is attested.

    Attributes:
        left: Remaining seconds.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[float]:
        """Run the countdown within this context; yields its end, in seconds of `time.monotonic`."""
        began = time.monotonic()
        try:
            yield began + self.left
        finally:
            self.left -= time.monotonic() - began


class ThreadDeadline:
    """The deadline of each thread that uses a transport."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextlib.contextmanager
    def at(self, end: float) -> Iterator[None]:
        """Set the deadline of this thread's reads and writes within this context.

        Args:
            end: In seconds of `time.monotonic`. A read or write after it raises `httpx2.ReadTimeout`.
        """
        before, self._thread.end = getattr(self._thread, "end", None), end
        try:
            yield
        finally:
            self._thread.end = before

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """The `trace` extension of every request (https://www.python-httpx.org/advanced/extensions/#trace).

        Raises:
            httpx2.ReadTimeout: The deadline has passed.
        """
        if event.endswith(".connect_tcp.started"):  # the request may have waited for the connection
            self._left(None)
        if event.endswith(_CONNECTED):
            stream = info["return_value"]
            with contextlib.suppress(AttributeError):  # a stream of another transport, which has no settable timeout
                self._time(stream)

    def _time(self, stream: Any) -> None:
        plain_read, plain_write, plain_start_tls = stream.read, stream.write, stream.start_tls

        def read(max_bytes: int, timeout: float | None = None) -> Any:
            return plain_read(max_bytes, self._left(timeout))

        def write(buffer: bytes, timeout: float | None = None) -> Any:
            return plain_write(buffer, self._left(timeout))

        def start_tls(ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
            return plain_start_tls(ssl_context, server_hostname, self._left(timeout))

        stream.read, stream.write, stream.start_tls = read, write, start_tls

    def _left(self, timeout: float | None) -> float | None:
        end = getattr(self._thread, "end", None)
        if end is None:
            return timeout
        left: float = end - time.monotonic()
        if left <= 0:
            raise httpx2.ReadTimeout("the deadline of the whole request has passed")
        return left if timeout is None else min(left, timeout)
