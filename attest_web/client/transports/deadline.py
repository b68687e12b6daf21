"""A deadline for all that a thread reads and writes over the connections of a transport.

httpx times each read, so a server that sends a byte of its head now and then never takes too long; and what is behind a
read, it hands out when the head has come. Of a new connection it tells before, by its `trace` extension: from then on,
each read and write over the connection is given no more time than there is left.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2

_CONNECTED: Final = (".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")
"""Ends of the names of events that hand out a connection."""


class Countdown:
    """The time that a question for proof has, which runs only while it is sent: not while a new key is attested.

    Attributes:
        left: Seconds that are left.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[float]:
        """Have the time run meanwhile; gives its end, as `time.monotonic` counts."""
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
        """Have what this thread does meanwhile end by then.

        Args:
            end: As `time.monotonic` counts, in seconds. A read or write behind it raises `httpx2.ReadTimeout`.
        """
        before, self._thread.end = getattr(self._thread, "end", None), end
        try:
            yield
        finally:
            self._thread.end = before

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """The `trace` extension of every request (https://www.python-httpx.org/advanced/extensions/#trace).

        Raises:
            httpx2.ReadTimeout: The time is over.
        """
        if event.endswith(".connect_tcp.started"):  # there may have been a wait for it
            self._left(None)
        if event.endswith(_CONNECTED):
            stream = info["return_value"]
            with contextlib.suppress(AttributeError):  # a stream of a transport's own that cannot be timed so
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
            raise httpx2.ReadTimeout("the time for all of it is over")
        return left if timeout is None else min(left, timeout)
