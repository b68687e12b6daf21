"""Header fields that are for the next hop alone, and go no further (RFC 9110, 7.6.1).

The framing fields stay: the layers that send a message frame it by them. A WebSocket's handshake needs `Connection`
and `Upgrade` across the proxy; that is for `upgrade` to keep.
"""

from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields as mitmproxy keeps them: names and values in order."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
    }
)
"""Names of fields, in lower case, that are for the next hop whether `Connection` names them or not."""

_NEVER = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""Not dropped however often `Connection` names them: without them, the message would be another one."""


def end_to_end(fields: Fields, *, dropped: frozenset[bytes] = HOP_BY_HOP) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that go on to the next hop.

    Args:
        fields: As they came.
        dropped: Names of those that do not, in lower case, beside those that `Connection` names.
    """
    for name, value in fields:
        if name.lower() == b"connection":
            dropped = dropped.union(option.strip().lower() for option in value.split(b",")) - _NEVER
    return tuple(field for field in fields if field[0].lower() not in dropped)


def is_keep_alive(http_version: bytes, fields: Fields) -> bool:
    """Whether a client wants its connection kept open after this request (RFC 9112, 9.3); HTTP/1.0 never gets it."""
    options = b",".join(value for name, value in fields if name.lower() == b"connection").lower().split(b",")
    return http_version == b"HTTP/1.1" and not any(option.strip() == b"close" for option in options)
