"""The head of an upstream response, as it is sent to the client."""

from mitmproxy import http

from addons.messages.hop_by_hop import HOP_BY_HOP, end_to_end
from addons.messages.location import ClientUrl, UpstreamUrl, for_client
from addons.messages.parsed_messages import IndexedHeaders, ParsedResponse

NOT_FOR_CLIENTS = frozenset(
    {
        # It names another address of the upstream, which bypasses this proxy or cannot be reached.
        b"alt-svc",
        # Cookies are not supported: a client's are not forwarded, and connections to the upstream are shared.
        b"set-cookie",
        b"set-cookie2",
        # Only this proxy issues receipts.
        b"x-receipt-id",
    }
)
"""Fields that are not forwarded, in addition to the hop-by-hop ones."""

_DROPPED = HOP_BY_HOP | NOT_FOR_CLIENTS
_REFERENCES = (b"location", b"content-location")


def for_next_hop(response: http.Response, request: http.Request, client: ClientUrl) -> http.Response:
    """An upstream response with the head that the client receives; the same object if the head is unchanged.

    Args:
        response: The response as received. It is not changed: it decides whether the upstream's connection is kept.
        request: The request as forwarded.
        client: The URL of the client's request.
    """
    data = response.data
    came = data.headers.fields
    if data.status_code == 101:  # of a handshake, which has been checked
        fields = tuple(field for field in came if field[0].lower() not in NOT_FOR_CLIENTS)
    else:
        fields = end_to_end(came, dropped=_DROPPED)
    if "location" in data.headers or "content-location" in data.headers:
        upstream = UpstreamUrl(request.scheme, request.host, request.port, _path(request.data.path))
        fields = tuple(
            (name, for_client(value, upstream, client) if name.lower() in _REFERENCES else value)
            for name, value in fields
        )
    elif len(fields) == len(came):
        return response
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


def client_url(request: http.Request, scheme: str) -> ClientUrl:
    """The URL of a client's request.

    Args:
        request: The request as received, before it is changed.
        scheme: `http` or `https`, by the client's connection.
    """
    data = request.data
    host = next((value for name, value in data.headers.fields if name.lower() == b"host"), b"")
    return ClientUrl(scheme.encode(), data.authority or host, _path(data.path))


def _path(target: bytes) -> bytes:
    return target.partition(b"?")[0]
