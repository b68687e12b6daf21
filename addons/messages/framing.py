"""The fields that frame a message's body (RFC 9112, 6), corrected after the message was changed.

Operators change requests in mitmweb, and rules do in all of mitmproxy's programs. If `Content-Length` is wrong, the
upstream reads two requests in place of one.
"""

from mitmproxy import http

type Fields = tuple[tuple[bytes, bytes], ...]

_LENGTH, _CODING = b"content-length", b"transfer-encoding"


def framing_of(headers: http.Headers) -> Fields:
    """The fields that frame a body, in order."""
    return tuple(field for field in headers.fields if field[0].lower() in (_LENGTH, _CODING))


def frame_as(headers: http.Headers, framing: Fields) -> None:
    """Frame a body by these fields and no others, as a streamed body keeps the framing with which it was received."""
    if framing_of(headers) != framing:
        headers.fields = (*_without_framing(headers), *framing)


def frame_by_length(headers: http.Headers, size: int) -> None:
    """Frame a body by its length, unless its framing is correct already.

    Args:
        headers: Headers of a message whose body is complete.
        size: Bytes of the body.
    """
    names = [(name.lower(), value) for name, value in framing_of(headers)]
    right = ([(_LENGTH, b"%d" % size)], [(_CODING, b"chunked")], *([[]] if size == 0 else []))
    if names not in right:
        headers.fields = (*_without_framing(headers), (b"Content-Length", b"%d" % size))


def frame_by_chunks(headers: http.Headers) -> None:
    """Frame a body by chunks (RFC 9112, 7.1), as is necessary if its length is not known beforehand."""
    if [(name.lower(), value.lower()) for name, value in framing_of(headers)] != [(_CODING, b"chunked")]:
        headers.fields = (*_without_framing(headers), (b"Transfer-Encoding", b"chunked"))


def _without_framing(headers: http.Headers) -> Fields:
    return tuple(field for field in headers.fields if field[0].lower() not in (_LENGTH, _CODING))
