"""An HTTP client for an untrusted server: bounded in size and time; it records the server's TLS key."""

import contextlib
import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Buffer, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from attest_web.verify.primitives.certificate import certificate_spki_sha256

MAX_BYTES = 32 * 1024 * 1024
"""Largest response that is read, in bytes."""

_HEAD = 256 * 1024
"""Largest total of status line, headers and chunk sizes, in bytes, in addition to the body."""

_PIECE = 64 * 1024
_SHOWN = 40
_LENGTH = re.compile("[0-9]{1,18}")


class FetchError(Exception):
    """There was no complete response; the message says why, in one line."""


@dataclass(frozen=True)
class Answer:
    """A server's response.

    Attributes:
        status: HTTP status.
        headers: By lower-case name; the values of several lines are joined (RFC 9110, 5.3).
        body: After transfer-decoding.
        spki_sha256: SHA-256 of the SPKI of the server's certificate; None where the connection was not TLS.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    spki_sha256: bytes | None = None


@dataclass(frozen=True)
class Origin:
    """The address of a server: `http(s)://host:port/path`."""

    tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """Parse an address; a slash at the end of the path is dropped.

        Raises:
            ValueError: This client does not accept it. The message says why.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("not a URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("not a URL of the form http://HOST:PORT or https://HOST:PORT")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a URL with a user, a query or a fragment is not accepted here")
        if not (url.isascii() and url.isprintable() and " " not in url):
            raise ValueError("a URL has no spaces, control characters or letters beyond ASCII")
        if port == 0:
            raise ValueError("a URL has a port from 1 to 65535")
        try:
            host.encode("idna")
        except UnicodeError:
            raise ValueError(
                "not the URL of a host: its name has an empty part, or one of more than 63 letters"
            ) from None
        tls = parts.scheme == "https"
        return cls(tls, host, port or (443 if tls else 80), parts.path.rstrip("/"))

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _BoundedReader(io.RawIOBase):
    """The bytes of a connection, up to a limit.

    It sits below `http.client`, which takes some invalid chunk sizes for "read to the end".
    """

    def __init__(self, source: io.RawIOBase, limit: int, too_long: FetchError) -> None:
        super().__init__()
        self._source = source
        self._left = limit
        self._too_long = too_long

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int | None:
        if self._left <= 0:
            raise self._too_long
        count: int | None = self._source.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _BoundedSocket:
    """The part of a socket that `http.client.HTTPResponse` uses."""

    def __init__(self, connection: socket.socket, limit: int, too_long: FetchError) -> None:
        self._connection = connection
        self._limit = limit
        self._too_long = too_long

    def makefile(self, _mode: str) -> io.BufferedReader:
        source = self._connection.makefile("rb", buffering=0)
        return io.BufferedReader(_BoundedReader(source, self._limit, self._too_long))


def _bounded_response(origin: Origin, max_bytes: int) -> Any:
    """The factory of `http.client`'s responses."""

    def response(connection: socket.socket, *args: Any, **more: Any) -> http.client.HTTPResponse:
        bounded: Any = _BoundedSocket(connection, max_bytes + _HEAD, _too_long(origin, max_bytes))
        return http.client.HTTPResponse(bounded, *args, **more)

    return response


def _too_long(origin: Origin, max_bytes: int) -> FetchError:
    return FetchError(f"{origin} responded with more than {max_bytes} bytes")


class HttpClient:
    """A client of one server, with a connection for each request. It follows no redirects and keeps no cookies."""

    def __init__(
        self,
        origin: Origin,
        token: str | None = None,
        timeout: float = 60.0,
        tls: ssl.SSLContext | None = None,
        max_bytes: int = MAX_BYTES,
        *,
        verify_certificate: Callable[[bytes], None] | None = None,
    ) -> None:
        """Make a client.

        Args:
            origin: The server's address.
            token: Bearer token to send, if any.
            timeout: Seconds that a request may take, from connecting to the last byte.
            tls: How to check the server's certificate; None for the system's defaults.
            max_bytes: Largest response that is read, in bytes.
            verify_certificate: Called with the server's certificate, in DER, before anything is sent; raises
                `FetchError` to reject it.
        """
        self.origin = origin
        self._token = token
        self._timeout = timeout
        self._tls = tls
        self._max_bytes = max_bytes
        self._verify_certificate = verify_certificate

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request and read the whole response, whatever its status.

        Args:
            method: `GET` or `POST`.
            path: Path and query, quoted; appended to the path of the origin.
            body: JSON to send, if any.

        Raises:
            FetchError: There was no complete response.
        """
        try:
            raw = socket.create_connection((self.origin.host, self.origin.port), self._timeout)
        except (OSError, UnicodeError) as error:
            raise FetchError(f"cannot connect to {self.origin} ({_reason(error)})") from None
        # A socket timeout applies to each read. This one applies to the whole request.
        expired = threading.Event()
        guard = raw.dup()

        def expire() -> None:
            expired.set()
            with contextlib.suppress(OSError):
                guard.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            answer = self._exchange(raw, method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if expired.is_set() or isinstance(error, TimeoutError):
                raise FetchError(f"{self.origin} took longer than {self._timeout:g} seconds (see --timeout)") from None
            raise FetchError(f"no complete response from {self.origin} ({_reason(error)})") from None
        finally:
            timer.cancel()
            guard.close()
            raw.close()
        if expired.is_set():  # the end of the connection may look like the end of the response
            raise FetchError(f"{self.origin} took longer than {self._timeout:g} seconds (see --timeout)")
        return answer

    def _exchange(self, raw: socket.socket, method: str, path: str, body: bytes | None) -> Answer:
        connection = http.client.HTTPConnection(self.origin.host, self.origin.port, timeout=self._timeout)
        connection.response_class = _bounded_response(self.origin, self._max_bytes)
        spki = None
        try:
            connection.sock = raw
            if self.origin.tls:
                context = self._tls or ssl.create_default_context()
                connection.sock = tls = context.wrap_socket(raw, server_hostname=self.origin.host)
                certificate = tls.getpeercert(binary_form=True) or b""
                spki = certificate_spki_sha256(certificate)
                if self._verify_certificate is not None:
                    self._verify_certificate(certificate)
            headers = {"Accept-Encoding": "identity", "Connection": "close"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            connection.request(method, self.origin.path + path, body, headers)
            response = connection.getresponse()
            names = _joined(response.getheaders())
            self._check_framing(names)
            content = bytearray()
            while piece := response.read(_PIECE):
                content += piece
                if len(content) > self._max_bytes:
                    raise _too_long(self.origin, self._max_bytes)
            if response.length:  # http.client raises nothing where the connection ends before its Content-Length
                raise FetchError(f"no complete response from {self.origin} ({response.length} bytes are missing)")
            return Answer(response.status, names, bytes(content), spki)
        finally:
            connection.close()

    def _check_framing(self, headers: Mapping[str, str]) -> None:
        """Reject framing that other clients parse in another way than `http.client`: the signature is over the body."""
        length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
        plain = length is None or _LENGTH.fullmatch(length)
        chunked = encoding is None or (encoding.lower() == "chunked" and length is None)
        if not (plain and chunked):
            raise FetchError(f"{self.origin} sent a response with more than one framing, or an unknown one")
        content_encoding = headers.get("content-encoding", "identity")
        if content_encoding.lower() != "identity":
            encoding = f"content-encoding {content_encoding[:_SHOWN]}, which was not requested"
            raise FetchError(f"{self.origin} sent a response with {encoding}")


def _joined(lines: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in lines:
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted: {error.verify_message}; --cacert names one to trust, --ra-tls verifies a"
            " dstack certificate by its attestation"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
