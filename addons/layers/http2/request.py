"""Translates an HTTP/2 request to HTTP/1.1, which the upstream uses (RFC 9113, 8.3 and 10.3).

This is the only place of the translation. A request that could have another meaning in HTTP/1.1 is rejected, and a body
without a length is framed by chunks.
"""

import re
import time
from collections.abc import Iterable
from typing import Final

from mitmproxy import http

MAX_HEADER_LINES: Final = 100
"""Most header fields of a request."""

# In capitals, as all registered methods are: mitmproxy treats `head` as HEAD, and a server does not (RFC 9110, 9.1).
_METHOD = re.compile(rb"[A-Z][A-Z-]*")
_PATH = re.compile(rb"/[!\"$-~]*")  # without a fragment
_AUTHORITY = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]\-]+")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_ONCE = frozenset({b"host", b"content-length", b"authorization"})
_OF_THE_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class Http2RequestError(ValueError):
    """A request that cannot be translated unambiguously. The message names the broken rule, and quotes nothing."""


def http1_request(fields: Iterable[tuple[bytes, bytes]], *, has_body: bool) -> http.Request:
    """Translate the header block of a request to HTTP/1.1.

    Args:
        fields: Names and values as received, pseudo-headers first.
        has_body: Whether the stream continues after the header block.

    Raises:
        Http2RequestError: The request is malformed, or not supported (CONNECT, RFC 8441).
    """
    pseudo: dict[bytes, bytes] = {}
    headers: list[tuple[bytes, bytes]] = []
    seen: set[bytes] = set()
    for name, value in fields:
        if name.startswith(b":"):
            if headers or name in pseudo or name not in _PSEUDO:
                raise Http2RequestError("a pseudo-header is unknown, doubled or late")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Http2RequestError("a header has characters that none may have")
        if name in _OF_THE_CONNECTION or (name in _ONCE and name in seen):
            raise Http2RequestError("a header is doubled, or has no place in HTTP/2")
        seen.add(name)
        if name != b"te":  # its only valid value is about trailers, which are dropped
            headers.append((name, value))
    if len(headers) >= MAX_HEADER_LINES:
        raise Http2RequestError("there are too many headers")
    authority = _checked(pseudo, headers)
    length = next((value for name, value in headers if name == b"content-length"), None)
    if length is not None and not _LENGTH.fullmatch(length):
        raise Http2RequestError("content-length is not a number")
    if length not in (None, b"0") and not has_body:
        raise Http2RequestError("content-length promises a body, and there is none")
    if has_body and length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    return http.Request(
        host="",
        port=0,
        method=pseudo[b":method"],
        scheme=b"https",
        authority=b"",
        path=pseudo[b":path"],
        http_version=b"HTTP/1.1",
        headers=http.Headers([(b"host", authority), *(field for field in headers if field[0] != b"host")]),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def _checked(pseudo: dict[bytes, bytes], headers: list[tuple[bytes, bytes]]) -> bytes:
    """Check the pseudo-headers; return the authority."""
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method) or method == b"CONNECT":
        raise Http2RequestError(":method is missing, or none that is served here")
    if pseudo.get(b":scheme") not in (b"http", b"https"):
        raise Http2RequestError(":scheme is missing or unknown")
    if not _PATH.fullmatch(path):
        raise Http2RequestError(":path is missing, or no path")
    host = next((value for name, value in headers if name == b"host"), None)
    authority = pseudo.get(b":authority", host)
    if authority is None or host not in (None, authority) or not _AUTHORITY.fullmatch(authority):
        raise Http2RequestError(":authority and host are missing, malformed or at odds")
    return authority
