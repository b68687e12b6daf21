"""The client address that a request counts for in limits.

A policy without I/O. What a client writes itself is never trusted: of `X-Forwarded-For`, only the last entry counts,
the one that the nearest proxy has appended, and only where that proxy is in this machine's own network. `X-Real-IP` is
trusted under the same condition, where there is no `X-Forwarded-For`: most proxies append to that one by themselves,
and pass an `X-Real-IP` of the client's through.
"""

import ipaddress
import re

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_OWN_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Loopback, private and link-local addresses (RFC 1122, 1918, 3927, 4193, 4291): a proxy in front has one of those."""

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")
"""Ways to write an address that some proxies have: with a port, and IPv6 in brackets."""

_LONGEST_ENTRY = 64


def client_of(peer: str, forwarded_for: str | None, real_ip: str | None = None, *, trust_proxy: bool) -> str:
    """The client that a request counts for: an IPv4 address, or the /64 network of an IPv6 address.

    One customer gets a network of that size, and could use another address of it for every request.

    Args:
        peer: Address at the other end of the connection.
        forwarded_for: `X-Forwarded-For`, all its lines joined by commas; None where there is none.
        real_ip: `X-Real-IP`, in the same way.
        trust_proxy: Whether the forwarded address is trusted of a peer in this machine's own network.
    """
    if not (forwarded_for or real_ip) or not trust_proxy:
        return peer if _is_plain_ipv4(peer) else _client(_parse(peer), peer)
    its_address = _parse(peer)
    if its_address is not None and _is_own(its_address):
        forwarded = _parse_forwarded(forwarded_for, real_ip)
        if forwarded is not None:
            return _client(forwarded, peer)
    return _client(its_address, peer)


def sharer_of(
    peer: str, forwarded_for: str | None = None, real_ip: str | None = None, *, trust_proxy: bool
) -> str | None:
    """The client in whose share a request or a connection counts; None where it may be one of many clients'.

    It may be, where a trusted proxy does not name the client that it forwards for: all connections of a proxy, and the
    requests of one that does not speak HTTP.

    Args:
        peer: As for `client_of`; so are the others.
        forwarded_for: None for a connection.
        real_ip: None for a connection.
        trust_proxy: As for `client_of`.
    """
    its_address = _parse(peer) if trust_proxy else None
    if its_address is not None and _is_own(its_address) and _parse_forwarded(forwarded_for, real_ip) is None:
        return None
    return client_of(peer, forwarded_for, real_ip, trust_proxy=trust_proxy)


def _is_plain_ipv4(peer: str) -> bool:
    return ":" not in peer  # an address from a socket is well-formed


def _is_own(address: _Address) -> bool:
    return any(address in network for network in _OWN_NETWORKS)


def _parse_forwarded(forwarded_for: str | None, real_ip: str | None) -> _Address | None:
    # Of two lines of X-Real-IP, joined by a comma, the proxy's cannot be identified: that is no address.
    last = forwarded_for.rpartition(",")[2].strip() if forwarded_for else (real_ip or "").strip()
    if len(last) > _LONGEST_ENTRY:
        return None
    if written := _WITH_PORT.fullmatch(last):
        last = written[1] or written[2] or ""
    return _parse(last)


def _parse(address: str) -> _Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def _client(address: _Address | None, peer: str) -> str:
    if address is None:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(address.packed[:8] + bytes(8))}/64"
    return str(address)
