"""The outcome that a stream gets for each end of an upstream connection."""

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseEndOfMessage,
    ResponseProtocolError,
)

from addons.exchange.attempt import AttemptOutcome
from addons.layers.http1.client import MAX_HEAD, MAX_INTERIM, ApiHttp1Client
from addons.layers.upstream_failure import UpstreamFailure, outcome_of
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.wire import make_context

HEAD = b"HTTP/1.1 200 OK\r\n"
SIZED = HEAD + b"Content-Length: 4\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def received_from(answer: bytes, *, closes: bool) -> list[HttpEvent]:
    """The event that a stream gets when an upstream sends bytes after its GET, and then may close the connection."""
    client = ApiHttp1Client(make_context(), KeepAliveLimit(1))
    client.conn.state = ConnectionState.OPEN
    [opening] = [command for command in client.handle_event(events.Start()) if isinstance(command, commands.Command)]
    assert isinstance(opening, commands.OpenConnection)
    told: list[commands.Command] = list(client.handle_event(events.OpenConnectionCompleted(opening, None)))
    request = http.Request.make("GET", "http://upstream:9000/v1/models")
    for sent in (RequestHeaders(1, request, True), RequestEndOfMessage(1)):
        told += client.handle_event(sent)
    if answer:
        told += client.handle_event(events.DataReceived(client.conn, answer))
    if closes:
        client.conn.state = ConnectionState.CLOSED
        told += client.handle_event(events.ConnectionClosed(client.conn))
    return [command.event for command in told if isinstance(command, ReceiveHttp)]


@pytest.mark.parametrize(
    ("answer", "closes", "outcome"),
    [
        (b"", True, AttemptOutcome.CLOSED),
        (HEAD, True, AttemptOutcome.TRUNCATED),
        (SIZED + b"abc", True, AttemptOutcome.TRUNCATED),
        (CHUNKED + b"4\r\nabcd\r\n", True, AttemptOutcome.TRUNCATED),
        (CHUNKED + b"x\r\n", False, AttemptOutcome.INVALID),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, AttemptOutcome.INVALID),
        (HEAD + b"X: y\0\r\n\r\n", False, AttemptOutcome.INVALID),
        (HEAD + b"X: " + b"y" * MAX_HEAD, False, AttemptOutcome.INVALID),
        (CHUNKED + b"0\r\nX: " + b"y" * MAX_HEAD, False, AttemptOutcome.INVALID),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1), False, AttemptOutcome.INVALID),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", False, AttemptOutcome.INVALID),
    ],
)
def test_upstream_failure_has_the_outcome_of_the_failed_attempt(
    answer: bytes, closes: bool, outcome: AttemptOutcome
) -> None:
    *_, failure = received_from(answer, closes=closes)
    assert isinstance(failure, UpstreamFailure)
    assert failure.outcome is outcome_of(failure) is outcome
    assert failure.code is ErrorCode.GENERIC_SERVER_ERROR, "it is answered for with 502"


@pytest.mark.parametrize("closes", [True, False])
def test_upstream_failure_is_not_reported_for_a_complete_response(closes: bool) -> None:
    *_, last = received_from(SIZED + b"abcd", closes=closes)
    assert isinstance(last, ResponseEndOfMessage)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (ErrorCode.CONNECT_FAILED, AttemptOutcome.CONNECT_FAILED),
        (ErrorCode.KILL, AttemptOutcome.ABANDONED),
        (ErrorCode.CANCEL, AttemptOutcome.ABANDONED),
    ],
)
def test_outcome_of_a_mitmproxy_error_follows_its_code(code: ErrorCode, outcome: AttemptOutcome) -> None:
    assert outcome_of(ResponseProtocolError(1, "server closed connection", code)) is outcome
