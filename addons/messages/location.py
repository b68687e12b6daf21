"""Rewrites `Location` and `Content-Location` of upstream responses (RFC 9110, 10.2.2 and 8.7) for the client.

An inference server that redirects names its own address, which this proxy sends in `Host`. The client uses this proxy's
address, where an endpoint may also have another path. A URL of another origin than the upstream's is passed unchanged,
and so is a relative reference, which the client resolves against the URL of its request.
"""

import ipaddress
import re
from dataclasses import dataclass

_REFERENCE = re.compile(rb"(?:(https?):)?//([^/?#\\]*)([/?#].*)?", re.IGNORECASE | re.DOTALL)
"""Scheme, authority and the rest of an absolute URL, or of a reference without a scheme (RFC 3986, 4.2)."""

_HOST_AND_PORT = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::([0-9]{0,5}))?")


@dataclass(frozen=True)
class ClientUrl:
    """The URL of a request as the client sent it.

    Attributes:
        scheme: `http` or `https`, by the client's connection.
        authority: The value of `Host` or `:authority`; empty if the client sent none.
        path: The path, without the query.
    """

    scheme: bytes
    authority: bytes
    path: bytes


@dataclass(frozen=True)
class UpstreamUrl:
    """The URL of a request as it was forwarded.

    Attributes:
        scheme: `http` or `https`.
        host: A name or an address, without brackets.
        port: The TCP port.
        path: The path, without the query.
    """

    scheme: str
    host: str
    port: int
    path: bytes


def for_client(location: bytes, upstream: UpstreamUrl, client: ClientUrl) -> bytes:
    """Rewrite a `Location` for the client.

    Args:
        location: The value that the upstream sent.
        upstream: The URL to which the request was forwarded.
        client: The URL of the client's request.

    Returns:
        The corresponding URL at the address that the client used, if `location` is of the upstream's own origin (RFC
        6454), or only its path if the client sent no usable host; otherwise the same bytes.
    """
    found = _REFERENCE.fullmatch(location)
    if found is None or not _is_own(found[1], found[2], upstream):
        return location
    rest = found[3] or b""
    path = re.split(rb"[?#]", rest, maxsplit=1)[0]
    rest = _path_for_client(path, upstream.path, client.path) + rest[len(path) :]
    if _HOST_AND_PORT.fullmatch(client.authority):
        return client.scheme + b"://" + client.authority + rest
    if not rest.startswith(b"/"):
        return b"/" + rest
    return b"/." + rest if rest.startswith(b"//") else rest  # a reference that begins with // names another host


def _is_own(scheme: bytes | None, written: bytes, upstream: UpstreamUrl) -> bool:
    found = _HOST_AND_PORT.fullmatch(written.rpartition(b"@")[2])
    if found is None:
        return False
    named = upstream.scheme if scheme is None else scheme.lower().decode()
    port = int(found[2]) if found[2] else {"http": 80, "https": 443}[named]
    host = found[1].decode().removeprefix("[").removesuffix("]")
    return (named, _normal(host), port) == (upstream.scheme, _normal(upstream.host), upstream.port)


def _normal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _path_for_client(path: bytes, upstream: bytes, client: bytes) -> bytes:
    """The path at this proxy for a path at the upstream: that of the endpoint, or another one below the base path."""
    if upstream == client:
        return path
    if path == upstream or path.startswith(upstream + b"/"):
        return client + path[len(upstream) :]
    there, here = upstream.split(b"/"), client.split(b"/")
    while there and here and there[-1] == here[-1]:
        there.pop()
        here.pop()
    base = b"/".join(there)
    return b"/".join(here) + path[len(base) :] if base and path.startswith(base + b"/") else path
