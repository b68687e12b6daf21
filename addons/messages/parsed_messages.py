"""mitmproxy's messages at less cost: header fields are looked up in an index, and parsed values are not checked again.

mitmproxy scans all fields of a message at each lookup, about thirty times in an exchange, and it checks the types of
the values that its own parser has made. The interface of the messages is unchanged.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from mitmproxy import http
from mitmproxy.net.http.http1 import read


class IndexedHeaders(http.Headers):
    """Headers with an index of their fields."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = (), **headers: str) -> None:
        """Make headers of fields, as `Headers` does."""
        self._index: dict[bytes, list[bytes]] = {}
        self._indexed: tuple[tuple[bytes, bytes], ...] = ()
        super().__init__(fields, **headers)

    def get_all(self, name: str | bytes) -> list[str]:
        """As in mitmproxy."""
        return [value.decode("utf-8", "surrogateescape") for value in self._values(name)]

    def __getitem__(self, name: str | bytes) -> str:
        if not (values := self._values(name)):
            raise KeyError(name)
        return b", ".join(values).decode("utf-8", "surrogateescape")

    def get(self, name: str | bytes, default: Any = None) -> Any:
        """As in mitmproxy."""
        values = self._values(name)
        return b", ".join(values).decode("utf-8", "surrogateescape") if values else default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | bytes) and bool(self._values(name))

    def _values(self, name: str | bytes) -> Sequence[bytes]:
        fields = self.fields
        if fields is not self._indexed:  # a tuple, which every change replaces as a whole
            index: dict[bytes, list[bytes]] = {}
            for key, value in fields:
                index.setdefault(key.lower(), []).append(value)
            self._index, self._indexed = index, fields
        if isinstance(name, str):
            name = name.encode("utf-8", "surrogateescape")
        return self._index.get(name.lower(), ())


class _RequestData(http.RequestData):
    def __post_init__(self) -> None:
        pass


class _ResponseData(http.ResponseData):
    def __post_init__(self) -> None:
        pass


class ParsedRequest(http.Request):
    """A request whose head has been read from a connection."""

    def __init__(self, **parts: Any) -> None:
        """Make a request of the arguments of `http.Request`, with their exact types; headers may also be fields."""
        self.data = _RequestData(**_with_headers(parts))


class ParsedResponse(http.Response):
    """A response whose head has been read from a connection."""

    def __init__(self, **parts: Any) -> None:
        """Make a response of the arguments of `http.Response`, with their exact types; headers may also be fields."""
        self.data = _ResponseData(**_with_headers(parts))


def _with_headers(parts: dict[str, Any]) -> dict[str, Any]:
    for name in ("headers", "trailers"):  # a copied message is made of a state, in which they are fields
        if isinstance(parts[name], tuple):
            parts[name] = IndexedHeaders(parts[name])
    return parts


def read_request_head(lines: Sequence[bytes]) -> http.Request:
    """Read the head of a request.

    Args:
        lines: Lines that `addons.messages.request_head` has found well-formed.

    Raises:
        ValueError: The target names no host and port.
    """
    host, port, method, scheme, authority, path, http_version = read._read_request_line(lines[0])
    return ParsedRequest(
        host=host,
        port=port,
        method=method,
        scheme=scheme,
        authority=authority,
        path=path,
        http_version=http_version,
        headers=IndexedHeaders(read._read_headers(lines[1:]).fields),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def read_response_head(lines: Sequence[bytes]) -> http.Response:
    """Read the head of a response.

    Raises:
        ValueError: The status line is malformed.
    """
    http_version, status_code, reason = read._read_response_line(lines[0])
    return ParsedResponse(
        http_version=http_version,
        status_code=status_code,
        reason=reason,
        headers=IndexedHeaders(read._read_headers(lines[1:]).fields),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )
