"""Which HTTP/1 request heads are taken: those that every server reads alike, and no others.

A proxy and the server behind it must not differ about where a request ends or what it asks for (RFC 9112, 11.2). The
RFC lets a recipient forgive much: bare LF, folded lines, blanks, lists of equal lengths. Whoever reads the same bytes
before or behind may forgive otherwise, so nothing is forgiven here. Clients of APIs send nothing of the kind.
"""

import re
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Largest head, in bytes. Servers of their own take 8 to 64 KiB; long tokens and traces fit in here many times over."""

MAX_HEADER_LINES: Final = 100
"""Most header lines of a head; what Apache and Go's proxies take. Clients of APIs send about ten."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, 5.6.2
# In capitals, as all registered methods are: mitmproxy takes `head` for HEAD, and a server does not (RFC 9110, 9.1).
_METHOD = rb"[A-Z][A-Z-]*"
# RFC 9112, 3.2.1 and 3.2.2, without a fragment. Proxies alone take the other forms: CONNECT's, and `*`.
_TARGET = rb"(?:https?://[A-Za-z0-9.\-_:\[\]]+(?=[/ ]))?(?:/[!\"$-~]*)?"
_REQUEST_LINE = re.compile(_METHOD + rb" (?! )" + _TARGET + rb" HTTP/1\.[01]\r\n")
# Values: visible characters, blanks and obs-text (RFC 9110, 5.5); no control characters.
_HEADER_LINES = re.compile(rb"(?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*\r\n")
_FRAMING_OR_HOST = re.compile(rb"(?im)^(host|content-length|transfer-encoding):([^\r]*)")
_HOST = re.compile(rb"[A-Za-z0-9.\-_:\[\]%]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")


class InvalidRequestHead(ValueError):  # noqa: N818  # what it is
    """A head that is not taken.

    Attributes:
        status: The HTTP status that says so.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"a request head of status {status}")
        self.status = status


def head_size(received: bytes) -> int:
    """How many bytes at the beginning of these are a whole request head; 0 where its end is yet to come.

    Args:
        received: What has come since the last request, without an empty line before it.

    Raises:
        InvalidRequestHead: It is none that is taken, as far as it has come. Status 431 where it is too large (RFC 6585,
            5).
    """
    end = received.find(b"\r\n\r\n")
    size = end + 4 if end >= 0 else 0
    if (size or len(received)) > MAX_HEAD:
        raise InvalidRequestHead(431)
    line_end = received.find(b"\n") + 1
    if line_end == 0:
        return 0
    if not _REQUEST_LINE.fullmatch(received, 0, line_end):
        raise InvalidRequestHead(400)
    if not size:
        if has_bare_lf(received):
            raise InvalidRequestHead(400)
        return 0
    if not _HEADER_LINES.fullmatch(received, line_end, size):
        raise InvalidRequestHead(400)
    if received.count(b"\n", line_end, size - 2) > MAX_HEADER_LINES:
        raise InvalidRequestHead(431)
    _check_framing(received[line_end : size - 2], http_1_1=received[line_end - 3 : line_end - 2] == b"1")
    return size


def has_bare_lf(data: bytes) -> bool:
    """Whether a line in here ends with LF alone, which only some take for its end (RFC 9112, 2.2)."""
    return data.count(b"\n") != data.count(b"\r\n")


def _check_framing(lines: bytes, *, http_1_1: bool) -> None:
    """Take one way to frame the body, spelt in the one way, and one host (RFC 9112, 3.2 and 6.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in _FRAMING_OR_HOST.findall(lines):
        if name.lower() in found:
            raise InvalidRequestHead(400)
        found[name.lower()] = value.strip(b"\t ")
    host, length, coding = (found.get(name) for name in (b"host", b"content-length", b"transfer-encoding"))
    if host is None:
        if http_1_1:
            raise InvalidRequestHead(400)
    elif not _HOST.fullmatch(host):
        raise InvalidRequestHead(400)
    if coding is not None and (not http_1_1 or length is not None or coding.lower() != b"chunked"):
        raise InvalidRequestHead(400)
    if length is not None and not _LENGTH.fullmatch(length):
        raise InvalidRequestHead(400)
