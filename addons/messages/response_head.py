"""The head of an upstream's answer, as it goes on to the client."""

from mitmproxy import http

from addons.messages.hop_by_hop import HOP_BY_HOP, end_to_end
from addons.messages.location import Asked, Forwarded, for_client
from addons.messages.parsed_messages import IndexedHeaders, ParsedResponse

NOT_FOR_CLIENTS = frozenset(
    {
        # Where else the upstream can be reached: past this proxy, or not at all.
        b"alt-svc",
        # Nothing goes by cookies here. A client's are not forwarded, and connections to the upstream are shared.
        b"set-cookie",
        b"set-cookie2",
        # This proxy alone gives receipts.
        b"x-receipt-id",
    }
)
"""Fields that go no further, beside those for one hop alone."""

_DROPPED = HOP_BY_HOP | NOT_FOR_CLIENTS
_REFERENCES = (b"location", b"content-location")


def for_next_hop(answer: http.Response, request: http.Request, asked: Asked) -> http.Response:
    """The answer that the client gets of an upstream's, by its head; the original where nothing in it is otherwise.

    Args:
        answer: As it came. It is left as it is: by it, the upstream's connection is closed or kept.
        request: As it was forwarded.
        asked: What the client has asked for.
    """
    data = answer.data
    came = data.headers.fields
    if data.status_code == 101:  # a handshake's, which has been looked at
        fields = tuple(field for field in came if field[0].lower() not in NOT_FOR_CLIENTS)
    else:
        fields = end_to_end(came, dropped=_DROPPED)
    if "location" in data.headers or "content-location" in data.headers:
        forwarded = Forwarded(request.scheme, request.host, request.port, _path(request.data.path))
        fields = tuple(
            (name, for_client(value, forwarded, asked) if name.lower() in _REFERENCES else value)
            for name, value in fields
        )
    elif len(fields) == len(came):
        return answer
    return ParsedResponse(
        http_version=data.http_version,
        status_code=data.status_code,
        reason=data.reason,
        headers=IndexedHeaders(fields),
        content=data.content,
        trailers=data.trailers,
        timestamp_start=data.timestamp_start,
        timestamp_end=data.timestamp_end,
    )


def asked_for(request: http.Request, scheme: str) -> Asked:
    """What a client has asked for.

    Args:
        request: As it came, before anything has been changed.
        scheme: Of the client's connection.
    """
    data = request.data
    host = next((value for name, value in data.headers.fields if name.lower() == b"host"), b"")
    return Asked(scheme.encode(), data.authority or host, _path(data.path))


def _path(target: bytes) -> bytes:
    return target.partition(b"?")[0]
