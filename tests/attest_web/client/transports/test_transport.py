"""What a transport goes by: which connections it guards, which answers it takes, and what it asks proof by."""

from typing import Any

import httpx2
import pytest

from attest_web.client.proving.errors import UnprovenError
from attest_web.client.proving.trust import KnownSigners
from attest_web.client.transports.tls_guard import TlsGuard, UnknownTlsKeyError
from attest_web.client.transports.transport import TransportConfig, ids_of, refuse_encoding
from tests.attest_web.client.transports.connections import HOST, KEY, Connection, connect

BASE = f"https://{HOST}/v1"


class Trust(KnownSigners):
    """Knows some TLS keys."""

    def __init__(self, *tls_keys: bytes) -> None:
        super().__init__([])
        self._tls_keys = frozenset(tls_keys)

    @property
    def tls_keys(self) -> frozenset[bytes]:
        return self._tls_keys


def rules(*tls_keys: bytes, **more: Any) -> TransportConfig:
    given: dict[str, Any] = {"tls": True} | more
    return TransportConfig(BASE, BASE, Trust(*tls_keys), **given)


def guard(made: TransportConfig, url: str = f"{BASE}/chat/completions", **more: bool) -> TlsGuard:
    found = made.guard(httpx2.URL(url), **more)
    assert found is not None
    return found


def test_transport_guard_allows_only_an_attested_tls_key() -> None:
    connect(guard(rules(KEY)), Connection(), HOST)
    for known in ((), (bytes(32),)):
        with pytest.raises(UnknownTlsKeyError):
            connect(guard(rules(*known)), Connection(), HOST)


def test_transport_guard_allows_any_tls_key_for_report_requests() -> None:
    connect(guard(rules(), about_keys=True), Connection(), HOST)


def test_transport_guard_is_absent_without_tls_binding_and_for_other_origins() -> None:
    assert rules(tls=False).guard(httpx2.URL(f"{BASE}/chat/completions")) is None
    for elsewhere in ("https://proof.test/v1", f"https://{HOST}:8443/v1", f"http://{HOST}/v1"):
        assert rules().guard(httpx2.URL(elsewhere)) is None


@pytest.mark.parametrize(
    ("more", "may"),
    [
        ({"tls": False}, True),
        ({"tls": True}, False),
        ({"tls": False, "public_reports": True}, False),
        ({"tls": False, "allow_unproven": {"/other"}}, False),
    ],
    ids=str,
)
def test_allow_unproven_request_may_precede_attestation_only_without_tls_binding(
    more: dict[str, Any], may: bool
) -> None:
    assert rules(**({"allow_unproven": {"/models"}} | more)).may_go_unattested("/models") is may


def test_a_signature_is_requested_by_the_receipt_first() -> None:
    response = httpx2.Response(200, headers={"x-receipt-id": "rcpt-1"})
    assert ids_of(response, "chatcmpl-1") == ["rcpt-1", "chatcmpl-1"]
    assert ids_of(response, "rcpt-1") == ids_of(response, None) == ["rcpt-1"]
    assert ids_of(httpx2.Response(200), "chatcmpl-1") == ["chatcmpl-1"]
    assert ids_of(httpx2.Response(200, headers={"x-receipt-id": ".."}), "a/b") == []


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8", None])
def test_response_in_utf_8_is_accepted(charset: str | None) -> None:
    head = {"content-type": "application/json" + ("" if charset is None else f"; charset={charset}")}
    refuse_encoding(httpx2.Response(200, headers=head))


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32", "utf-7", "cp500", "us-ascii", "utf-8-sig"])
def test_response_in_another_charset_is_refused(charset: str) -> None:
    with pytest.raises(UnprovenError, match="charset"):
        refuse_encoding(httpx2.Response(200, headers={"content-type": f"application/json; charset={charset}"}))
