"""Whose request it is: the address that limits are kept for.

A policy without I/O. What a client writes itself is never believed: of `X-Forwarded-For`, only the last entry counts,
the one that the nearest proxy has appended, and only where that proxy is in this machine's own network.
"""

import ipaddress
import re

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


def client_of(peer: str, forwarded_for: str | None, *, trust_proxy: bool) -> str:
    """The client that a request counts for: an IPv4 address, or the /64 network of an IPv6 address.

    A network of that size is what one customer gets, who could take another address of it for every request.

    Args:
        peer: Address at the other end of the connection.
        forwarded_for: `X-Forwarded-For`, all its lines joined by commas; None where there is none.
        trust_proxy: Whether a peer in this machine's own network is believed whom it forwards for.
    """
    if not forwarded_for or not trust_proxy:
        return peer if _is_plain_ipv4(peer) else _client(_parse(peer), peer)
    its_address = _parse(peer)
    if its_address is not None and any(its_address in network for network in _OWN_NETWORKS):
        forwarded = _parse_forwarded(forwarded_for)
        if forwarded is not None:
            return _client(forwarded, peer)
    return _client(its_address, peer)


def _is_plain_ipv4(peer: str) -> bool:
    return ":" not in peer  # an address that a socket tells is well-formed


def _parse_forwarded(forwarded_for: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    last = forwarded_for.rpartition(",")[2].strip()
    if len(last) > _LONGEST_ENTRY:
        return None
    if written := _WITH_PORT.fullmatch(last):
        last = written[1] or written[2] or ""
    return _parse(last)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def _client(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, peer: str) -> str:
    if address is None:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(address.packed[:8] + bytes(8))}/64"
    return str(address)
