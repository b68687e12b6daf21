"""Which HTTP/1 request heads are accepted: those that every server parses alike, and no others.

A proxy and the server behind it must agree about where a request ends and what it asks for (RFC 9112, 11.2). The RFC
lets a recipient accept deviations: bare LF, folded lines, extra white space, lists of equal lengths. Other parsers of
the same bytes may treat these differently, so all of them are rejected here. Clients of APIs send none of them.
"""

import re
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Largest head, in bytes. Servers accept 8 to 64 KiB; long tokens and trace contexts need far less."""

MAX_HEADER_LINES: Final = 100
"""Most header lines of a head; as many as Apache accepts. Clients of APIs send about ten."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, 5.6.2
# In capitals, as all registered methods are: mitmproxy treats `head` as HEAD, and a server does not (RFC 9110, 9.1).
_METHOD = rb"[A-Z][A-Z-]*"
# RFC 9112, 3.2.1 and 3.2.2, without a fragment. The other forms, CONNECT's and `*`, are not served here.
_TARGET = rb"(?:https?://[A-Za-z0-9.\-_:\[\]]+(?=[/ ]))?(?:/[!\"$-~]*)?"
_REQUEST_LINE = re.compile(_METHOD + rb" (?! )" + _TARGET + rb" HTTP/1\.[01]\r\n")
# Values: visible characters, spaces, tabs and obs-text (RFC 9110, 5.5); no other control characters.
_HEADER_LINES = re.compile(rb"(?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*\r\n")
_FRAMING_OR_HOST = re.compile(rb"(?im)^(host|content-length|transfer-encoding):([^\r]*)")
_HOST = re.compile(rb"[A-Za-z0-9.\-_:\[\]%]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")


class InvalidRequestHead(ValueError):  # noqa: N818  # named for what it is
    """A request head that is rejected.

    Attributes:
        status: The HTTP status of the response.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"a request head of status {status}")
        self.status = status


def head_size(received: bytes) -> int:
    """The size of the request head at the beginning of the received bytes; 0 if the head is incomplete.

    Args:
        received: Bytes received since the last request, without an empty line before the head.

    Raises:
        InvalidRequestHead: The head is malformed, as far as it has arrived, or is too large (status 431; RFC 6585, 5).
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
    """Whether a line ends with LF alone, which only some parsers accept as its end (RFC 9112, 2.2)."""
    return data.count(b"\n") != data.count(b"\r\n")


def _check_framing(lines: bytes, *, http_1_1: bool) -> None:
    """Accept one framing of the body, in its canonical form, and one host (RFC 9112, 3.2 and 6.3)."""
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
