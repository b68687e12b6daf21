"""`Location` and `Content-Location` of an upstream's answer (RFC 9110, 10.2.2 and 8.7), as they are of use to a client.

An engine that redirects names its own address, as this proxy sends it in `Host`. The client knows another one: that of
this proxy, where an endpoint may have another path, too. What names another place than the upstream passes as it is, as
does a relative reference, which the client resolves by the address that it has asked.
"""

import ipaddress
import re
from dataclasses import dataclass

_REFERENCE = re.compile(rb"(?:(https?):)?//([^/?#\\]*)([/?#].*)?", re.IGNORECASE | re.DOTALL)
"""Scheme, authority and the rest of an absolute URL, or of a reference that leaves out the scheme (RFC 3986, 4.2)."""

_HOST_AND_PORT = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::([0-9]{0,5}))?")


@dataclass(frozen=True)
class Asked:
    """What a client has asked for.

    Attributes:
        scheme: Of its connection, `http` or `https`.
        authority: As it has sent it, in `Host` or `:authority`; empty where it has sent none.
        path: Without a query.
    """

    scheme: bytes
    authority: bytes
    path: bytes


@dataclass(frozen=True)
class Forwarded:
    """Where its request was sent.

    Attributes:
        scheme: `http` or `https`.
        host: A name or an address, without brackets.
        port: As it was connected to.
        path: Without a query.
    """

    scheme: str
    host: str
    port: int
    path: bytes


def for_client(location: bytes, forwarded: Forwarded, asked: Asked) -> bytes:
    """A `Location` as the client can use it.

    Args:
        location: As the upstream has sent it.
        forwarded: Where the request was sent.
        asked: What the client has asked for.

    Returns:
        The same place at the address that the client has used, where it is of the upstream's own origin (RFC 6454);
        else the same bytes. Where the client has named no host that can be used, the path alone.
    """
    found = _REFERENCE.fullmatch(location)
    if found is None or not _is_own(found[1], found[2], forwarded):
        return location
    rest = found[3] or b""
    path = re.split(rb"[?#]", rest, maxsplit=1)[0]
    rest = _path_for_client(path, forwarded.path, asked.path) + rest[len(path) :]
    if _HOST_AND_PORT.fullmatch(asked.authority):
        return asked.scheme + b"://" + asked.authority + rest
    if not rest.startswith(b"/"):
        return b"/" + rest
    return b"/." + rest if rest.startswith(b"//") else rest  # what begins with // would name another host


def _is_own(scheme: bytes | None, written: bytes, forwarded: Forwarded) -> bool:
    found = _HOST_AND_PORT.fullmatch(written.rpartition(b"@")[2])
    if found is None:
        return False
    named = forwarded.scheme if scheme is None else scheme.lower().decode()
    port = int(found[2]) if found[2] else {"http": 80, "https": 443}[named]
    host = found[1].decode().removeprefix("[").removesuffix("]")
    return (named, _normal(host), port) == (forwarded.scheme, _normal(forwarded.host), forwarded.port)


def _normal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _path_for_client(path: bytes, forwarded: bytes, asked: bytes) -> bytes:
    """A path at the upstream, by what it is here: the endpoint itself, and what else is below the same base path."""
    if forwarded == asked:
        return path
    if path == forwarded or path.startswith(forwarded + b"/"):
        return asked + path[len(forwarded) :]
    there, here = forwarded.split(b"/"), asked.split(b"/")
    while there and here and there[-1] == here[-1]:
        there.pop()
        here.pop()
    base = b"/".join(there)
    return b"/".join(here) + path[len(base) :] if base and path.startswith(base + b"/") else path
