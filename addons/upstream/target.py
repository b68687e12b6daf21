"""Directs requests to their targets, and records the target of each attempt."""

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.net.http import url

from addons.exchange.attempt import Attempt, Target
from addons.exchange.record import Exchange
from addons.messages.authority import authority


def direct(request: http.Request, target: Target) -> None:
    """Direct a request to a target, with the matching `Host`. The query is unchanged."""
    if not _goes_to(request, target):
        request.scheme = target.scheme
        request.port = target.port
        request.host = target.host  # this sets the Host header, too
    if target.path is not None:
        _, mark, query = request.data.path.partition(b"?")
        request.data.path = target.path.encode("ascii") + mark + query


def target_of(request: http.Request, chosen: Target | None) -> Target:
    """The target of a request.

    Args:
        request: The request as it will be sent.
        chosen: The policy's choice. It is used unless an operator's addon has changed the target of the request.
    """
    if chosen is not None and _goes_to(request, chosen):
        return chosen
    return Target(request.scheme, request.host, request.port)


def begin_attempt(exchange: Exchange, request: http.Request) -> Attempt:
    """Record a new attempt, and correct the request's `Host`.

    Args:
        exchange: The record of the request.
        request: The request as it will be sent.
    """
    bracket_ipv6_host(request)
    attempt = Attempt(target_of(request, exchange.target))
    exchange.attempts.append(attempt)
    return attempt


def is_reused(connection: Server, request: http.Request) -> bool:
    """Whether a connection was made before a request began, and so for an earlier request."""
    setup = connection.timestamp_tcp_setup
    return setup is not None and setup < request.timestamp_start


def bracket_ipv6_host(request: http.Request) -> None:
    """Put an IPv6 address in `Host` into brackets (RFC 9110, 7.2), which mitmproxy does not do."""
    host = request.host
    if ":" in host and request.headers.get("host") == url.hostport(request.scheme, host, request.port):
        request.headers["host"] = authority(request.scheme, host, request.port)


def _goes_to(request: http.Request, target: Target) -> bool:
    return request.host == target.host and request.port == target.port and request.scheme == target.scheme
