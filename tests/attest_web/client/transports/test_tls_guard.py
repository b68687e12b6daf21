"""What stops a request before anything is sent, at the handshake of a connection that does nothing else."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from attest_web.client.proving.errors import MismatchError, UnprovenError
from attest_web.client.transports.tls_guard import TlsGuard, UnknownTlsKeyError
from attest_web.verify.primitives.checks import Check, Status
from tests.attest_web.client.transports.connections import CERTIFICATE, HOST, KEY, Connection, connect

FORWARD_PROXY = "forward-proxy.test"
OTHER_KEY = bytes(reversed(KEY))


def connect_async(guard: TlsGuard, connection: Connection, host: str) -> None:
    async def trace() -> None:
        await guard.atrace("connection.start_tls.started", {"server_hostname": host})
        await guard.atrace("connection.start_tls.complete", {"return_value": connection})

    asyncio.run(trace())


Connect = Callable[[TlsGuard, Connection, str], None]
BOTH = pytest.mark.parametrize("connect", [connect, connect_async])


def judging(status: Status) -> Callable[[bytes], list[Check]]:
    def verify_certificate(certificate: bytes) -> list[Check]:
        assert certificate == CERTIFICATE
        return [Check("quote signature", Status.PASSED, ""), Check("compose hash", status, "another app")]

    return verify_certificate


@BOTH
@pytest.mark.parametrize("known", [{KEY}, {OTHER_KEY, KEY}, None], ids=["this", "two", "any"])
def test_a_connection_to_a_known_tls_key_is_used(connect: Connect, known: set[bytes] | None) -> None:
    connection = Connection()
    connect(TlsGuard(HOST, known), connection, HOST)
    assert not connection.closed


@BOTH
@pytest.mark.parametrize("known", [set(), {OTHER_KEY}], ids=["none", "another"])
def test_tls_guard_unknown_tls_key_closes_the_connection_before_the_request(
    connect: Connect, known: set[bytes]
) -> None:
    connection = Connection()
    with pytest.raises(UnknownTlsKeyError) as caught:
        connect(TlsGuard(HOST, known), connection, HOST)
    assert caught.value.key == KEY
    assert connection.closed


@BOTH
def test_tls_guard_ignores_the_tls_key_of_a_forward_proxy(connect: Connect) -> None:
    guard = TlsGuard(HOST, {OTHER_KEY})
    through = Connection()
    connect(guard, through, FORWARD_PROXY)
    assert not through.closed
    with pytest.raises(UnknownTlsKeyError):
        connect(guard, Connection(), HOST)


@BOTH
@pytest.mark.parametrize("host", [HOST, FORWARD_PROXY])
@pytest.mark.parametrize(
    ("status", "error"), [(Status.FAILED, MismatchError), (Status.NOT_MADE, UnprovenError)], ids=["failed", "not made"]
)
def test_tls_guard_rejected_certificate_stops_the_request_even_of_a_forward_proxy(
    connect: Connect, host: str, status: Status, error: type[Exception]
) -> None:
    connection = Connection()
    with pytest.raises(error, match="another app"):
        connect(TlsGuard(HOST, None, judging(status)), connection, host)
    assert connection.closed


@BOTH
def test_tls_guard_valid_certificate_still_needs_a_known_tls_key(connect: Connect) -> None:
    connection = Connection()
    connect(TlsGuard(HOST, {KEY}, judging(Status.PASSED)), connection, HOST)
    assert not connection.closed
    with pytest.raises(UnknownTlsKeyError):
        connect(TlsGuard(HOST, {OTHER_KEY}, judging(Status.PASSED)), Connection(), HOST)


@BOTH
@pytest.mark.parametrize("known", [{KEY}, None])
def test_tls_guard_http_2_connection_is_refused(connect: Connect, known: set[bytes] | None) -> None:
    connection = Connection(protocol="h2")
    with pytest.raises(UnprovenError, match=r"HTTP/1\.1"):
        connect(TlsGuard(HOST, known), connection, HOST)
    assert connection.closed


@BOTH
@pytest.mark.parametrize("certificate", [b"", CERTIFICATE[:-1], b"\x30\x00"])
def test_tls_guard_unreadable_certificate_is_refused(connect: Connect, certificate: bytes) -> None:
    connection = Connection(certificate)
    with pytest.raises(UnprovenError, match="cannot be read"):
        connect(TlsGuard(HOST, None), connection, HOST)
    assert connection.closed


def test_tls_guard_ignores_trace_events_other_than_the_tls_handshake() -> None:
    guard = TlsGuard(HOST, set())
    events: list[tuple[str, dict[str, Any]]] = [
        ("connection.connect_tcp.complete", {"return_value": Connection()}),
        ("http11.send_request_headers.started", {}),
    ]
    for event, info in events:
        guard.trace(event, info)
