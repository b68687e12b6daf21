"""Has requests go to their targets, and notes where each attempt goes."""

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.net.http import url

from addons.exchange.attempt import Attempt, Target
from addons.exchange.record import Exchange
from addons.messages.authority import authority


def direct(request: http.Request, target: Target) -> None:
    """Have a request go to a target, with a `Host` that names it. The query stays."""
    if not _goes_to(request, target):
        request.scheme = target.scheme
        request.port = target.port
        request.host = target.host  # and with it the Host header
    if target.path is not None:
        _, mark, query = request.data.path.partition(b"?")
        request.data.path = target.path.encode("ascii") + mark + query


def target_of(request: http.Request, chosen: Target | None) -> Target:
    """Where a request goes.

    Args:
        request: As it is to be sent.
        chosen: The target that was chosen for it. It stands unless an operator's addon sends the request elsewhere.
    """
    if chosen is not None and _goes_to(request, chosen):
        return chosen
    return Target(request.scheme, request.host, request.port)


def begin_attempt(exchange: Exchange, request: http.Request) -> Attempt:
    """Note that a request is sent now, or once more, and have it name its target as HTTP wants it.

    Args:
        exchange: Its record.
        request: As it is to be sent.
    """
    bracket_ipv6_host(request)
    attempt = Attempt(target_of(request, exchange.target))
    exchange.attempts.append(attempt)
    return attempt


def is_reused(connection: Server, request: http.Request) -> bool:
    """Whether a connection was made before a request began, and so for another one."""
    setup = connection.timestamp_tcp_setup
    return setup is not None and setup < request.timestamp_start


def bracket_ipv6_host(request: http.Request) -> None:
    """Put an IPv6 address in `Host` into brackets (RFC 9110, 7.2), which mitmproxy leaves out."""
    host = request.host
    if ":" in host and request.headers.get("host") == url.hostport(request.scheme, host, request.port):
        request.headers["host"] = authority(request.scheme, host, request.port)


def _goes_to(request: http.Request, target: Target) -> bool:
    return request.host == target.host and request.port == target.port and request.scheme == target.scheme
