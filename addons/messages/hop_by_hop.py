"""Hop-by-hop header fields, which are not forwarded (RFC 9110, 7.6.1).

The framing fields stay: the layers that send a message frame it by them. A WebSocket's handshake needs `Connection`
and `Upgrade` across the proxy; `addons.messages.websocket_handshake` writes them anew.
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
"""Names of fields, in lower case, that are hop-by-hop even if `Connection` does not name them."""

_NEVER = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""Never dropped, even if `Connection` names them: without them, the message would have another meaning."""


def end_to_end(fields: Fields, *, dropped: frozenset[bytes] = HOP_BY_HOP) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that are forwarded to the next hop.

    Args:
        fields: The fields as received.
        dropped: Names of fields to drop, in lower case, in addition to those that `Connection` names.
    """
    for name, value in fields:
        if name.lower() == b"connection":
            dropped = dropped.union(option.strip().lower() for option in value.split(b",")) - _NEVER
    return tuple(field for field in fields if field[0].lower() not in dropped)


def is_keep_alive(http_version: bytes, fields: Fields) -> bool:
    """Whether a connection may be kept open after this request (RFC 9112, 9.3); never over HTTP/1.0."""
    options = b",".join(value for name, value in fields if name.lower() == b"connection").lower().split(b",")
    return http_version == b"HTTP/1.1" and not any(option.strip() == b"close" for option in options)
