import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from attest_web.attestation.report_cache import MAX_PER_CLIENT, MAX_PER_STRANGER, ReportCache, TooManyReportsError
from attest_web.attestation.reports import ReportRequest
from attest_web.attestation.tls_fingerprint import TlsCertificateError
from attest_web.dstack.guest_agent import DstackError
from attest_web.gpu.evidence import GpuEvidenceError
from attest_web.signatures import SignedExchange
from attest_web.stores.signature_store import MemorySignatureStore, StoreUnavailableError
from tests.attest_web.conftest import AUTHORIZED, Evidence


class BrokenStore:
    """A store that fails, with an error that quotes what it should not."""

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        raise RuntimeError

    def get(self, chat_id: str) -> SignedExchange | None:
        raise RuntimeError(f"cannot find {chat_id}")


def check_error(response: Any, status: int, error_type: str) -> str:
    assert response.status_code == status
    assert response.content_type == "application/json"
    body = json.loads(response.data)
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert (body["error"]["type"], body["error"]["param"], body["error"]["code"]) == (error_type, None, None)
    message: str = body["error"]["message"]
    return message


def test_status_pages_need_no_token(client: FlaskClient) -> None:
    assert client.get("/").get_json()["status"] == "ok"
    assert client.get("/version").get_json() == {"version": "1.2.3", "git_revision": "abc123"}
    assert client.get("/health").get_json() == {"status": "ok"}
    assert client.get("/ready").get_json() == {
        "status": "ready",
        "keys": True,
        "upstream": True,
        "signature_store": "ok",
    }


def test_ready_without_a_responding_upstream_is_503(make_client: Callable[..., FlaskClient]) -> None:
    response = make_client(upstream_answers=False).get("/ready")
    assert response.status_code == 503
    assert response.get_json() == {"status": "not ready", "keys": True, "upstream": False, "signature_store": "ok"}
    assert make_client(upstream_answers=False).get("/health").status_code == 200


def test_ready_while_draining_is_503(make_client: Callable[..., FlaskClient]) -> None:
    response = make_client(draining=True).get("/ready")
    assert response.status_code == 503
    assert response.get_json() == {"status": "draining", "keys": True, "upstream": True, "signature_store": "ok"}


def test_the_signature_is_ecdsa_by_default(client: FlaskClient, vectors: dict[str, str]) -> None:
    ecdsa = {
        "text": vectors["text"],
        "signature": vectors["signature_ecdsa"],
        "signing_address": vectors["ecdsa_address"],
        "signing_algo": "ecdsa",
    }
    url = "/v1/signature/chatcmpl-123"
    assert client.get(url, headers=AUTHORIZED).get_json() == ecdsa
    assert client.get(url + "?signing_algo=ecdsa", headers=AUTHORIZED).get_json() == ecdsa
    assert client.get(url + "?signing_algo=ed25519", headers=AUTHORIZED).get_json() == {
        "text": vectors["text"],
        "signature": vectors["signature_ed25519"],
        "signing_address": vectors["ed25519_public_key"],
        "signing_algo": "ed25519",
    }


@pytest.mark.parametrize(
    "quoted",
    [
        "chatcmpl-with/slash%20and%20%C3%BC",
        "chatcmpl-with%2Fslash%20and%20%C3%BC",
        "/with//slashes/",
        "%2Fwith//slashes/",
    ],
)
def test_signature_route_accepts_an_id_with_any_characters(client: FlaskClient, quoted: str) -> None:
    assert client.get("/v1/signature/" + quoted, headers=AUTHORIZED).status_code == 200


def test_signature_of_an_unknown_id_is_404(client: FlaskClient) -> None:
    check_error(client.get("/v1/signature/nope", headers=AUTHORIZED), 404, "not_found")


def test_signature_of_an_unsigned_exchange_is_404_with_its_reason(make_client: Callable[..., FlaskClient]) -> None:
    store = MemorySignatureStore("model", 60)
    store.mark_unsigned(["rcpt-1", "chat-1"], "the exchange was cut short")
    for chat_id in ("rcpt-1", "chat-1"):
        response = make_client(store).get(f"/v1/signature/{chat_id}", headers=AUTHORIZED)
        assert response.status_code == 404
        assert json.loads(response.data)["error"] == {
            "message": "This exchange is not signed: the exchange was cut short.",
            "type": "not_found",
            "param": None,
            "code": "not_signed",
        }


class AwayStore(MemorySignatureStore):
    """One that cannot say whether there is a signature."""

    def get(self, chat_id: str) -> SignedExchange | None:
        raise StoreUnavailableError


def test_signature_with_the_store_unavailable_is_503_with_retry_after(make_client: Callable[..., FlaskClient]) -> None:
    response = make_client(AwayStore("model", 60)).get("/v1/signature/chat-1", headers=AUTHORIZED)
    check_error(response, 503, "server_error")
    assert response.headers["Retry-After"] == "1"


def test_signature_with_an_unknown_algorithm_is_400(client: FlaskClient) -> None:
    response = client.get("/v1/signature/chatcmpl-123?signing_algo=rsa", headers=AUTHORIZED)
    assert "ed25519" in check_error(response, 400, "bad_request")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff\xfe"}])
def test_signature_without_token_is_401(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.get("/v1/signature/chatcmpl-123", headers=headers)
    check_error(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_the_token_is_checked_before_the_store_is_read(client: FlaskClient) -> None:
    check_error(client.get("/v1/signature/nope?signing_algo=rsa"), 401, "unauthorized")


def test_an_unknown_path_is_404_and_a_wrong_method_405_with_allow(client: FlaskClient) -> None:
    check_error(client.get("/nope"), 404, "not_found")
    response = client.post("/version")
    check_error(response, 405, "bad_request")
    assert "GET" in response.headers["Allow"]


def test_unexpected_error_is_500_and_hides_its_details(
    make_client: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = make_client(BrokenStore()).get("/v1/signature/marked", headers=AUTHORIZED)
    assert "marked" not in check_error(response, 500, "server_error")
    assert "RuntimeError" in caplog.text


def test_head_and_options_requests_are_answered_without_a_token(client: FlaskClient) -> None:
    assert client.head("/health").status_code == 200
    assert client.options("/v1/signature/chatcmpl-123").status_code == 200


@pytest.mark.parametrize(("public", "share"), [(True, MAX_PER_STRANGER), (False, MAX_PER_CLIENT)])
def test_report_is_charged_to_the_forwarded_client(
    make_client: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch, public: bool, share: int
) -> None:
    charged: list[tuple[str | None, int]] = []

    def report(_: ReportCache, __: ReportRequest, ___: bytes | None, client: str | None, share: int) -> bytes:
        charged.append((client, share))
        return b"{}"

    monkeypatch.setattr(ReportCache, "report", report)
    headers = {"X-Forwarded-For": "1.2.3.4, 198.51.100.7", **AUTHORIZED}
    assert make_client(public=public).get(REPORT, headers=headers).status_code == 200
    assert charged == [("198.51.100.7", share)]


def test_report_head_request_is_405_and_makes_no_report(client: FlaskClient, evidence: Evidence) -> None:
    evidence.error = AssertionError()
    answer = client.head(REPORT, headers=AUTHORIZED)
    assert (answer.status_code, answer.data) == (405, b"")
    assert "HEAD" not in answer.headers["allow"]


def test_signature_stores_of_two_apps_are_separate(
    make_client: Callable[..., FlaskClient], signed: SignedExchange
) -> None:
    stores = [MemorySignatureStore("model", 60) for _ in range(2)]
    clients = [make_client(store) for store in stores]
    stores[0].put("only-here", signed)
    statuses = [client.get("/v1/signature/only-here", headers=AUTHORIZED).status_code for client in clients]
    assert statuses == [200, 404]


REPORT = "/v1/attestation/report"


def test_a_report_needs_a_token_unless_it_is_public(make_client: Callable[..., FlaskClient]) -> None:
    check_error(make_client().get(REPORT), 401, "unauthorized")
    assert make_client().get(REPORT, headers=AUTHORIZED).status_code == 200
    assert make_client(public=True).get(REPORT).status_code == 200


def test_a_report_is_about_the_requested_key(client: FlaskClient, vectors: dict[str, str]) -> None:
    def asked(**query: str) -> Any:
        return client.get(REPORT, query_string=query, headers=AUTHORIZED).get_json()

    ecdsa, ed25519 = vectors["ecdsa_address"], vectors["ed25519_public_key"]
    assert asked()["signing_address"] == ecdsa
    assert asked(signing_algo="ecdsa", signing_address=ecdsa.lower())["signing_address"] == ecdsa
    assert asked(signing_algo="ed25519")["signing_address"] == ed25519
    assert asked(signing_address=ed25519)["signing_algo"] == "ed25519"
    report = asked(nonce=vectors["nonce"])
    assert (report["request_nonce"], report["intel_quote"]) == (vectors["nonce"], vectors["report_data_ecdsa"])
    assert "tls_cert_fingerprint" not in report
    assert asked(include_tls_fingerprint="true")["tls_cert_fingerprint"] == (b"f" * 32).hex()


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ({"nonce": ""}, 400, "bad_request"),
        ({"nonce": "ab"}, 400, "bad_request"),
        ({"nonce": "0x" + "ab" * 31}, 400, "bad_request"),
        ({"nonce": "ab" * 33}, 400, "bad_request"),
        ({"nonce": "zz" * 32}, 400, "bad_request"),
        ({"nonce": "ab" * 32 + "\n"}, 400, "bad_request"),
        ({"nonce": "\u0661" * 64}, 400, "bad_request"),
        ({"signing_algo": "rsa"}, 400, "bad_request"),
        ({"include_tls_fingerprint": "perhaps"}, 400, "bad_request"),
        ({"signing_address": "0x" + "00" * 20}, 404, "not_found"),
        ({"signing_address": ""}, 404, "not_found"),
    ],
)
def test_an_invalid_parameter_is_400(client: FlaskClient, query: dict[str, str], status: int, kind: str) -> None:
    check_error(client.get(REPORT, query_string=query, headers=AUTHORIZED), status, kind)


def test_report_for_the_address_of_the_other_algorithm_is_404(client: FlaskClient, vectors: dict[str, str]) -> None:
    query = {"signing_algo": "ecdsa", "signing_address": vectors["ed25519_public_key"]}
    check_error(client.get(REPORT, query_string=query, headers=AUTHORIZED), 404, "not_found")


@pytest.mark.parametrize(
    "error",
    [
        DstackError("dstack at /run/x.sock is down"),
        GpuEvidenceError("/gpu/python is gone"),
        TlsCertificateError("no certificate at /tls.pem"),
    ],
)
def test_missing_evidence_is_503_and_the_reason_is_only_logged(
    client: FlaskClient, evidence: Evidence, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    evidence.error = error
    for _ in range(2):
        caplog.clear()
        response = client.get(REPORT, headers=AUTHORIZED)
        assert check_error(response, 503, "server_error").startswith("No report can be made now.")
        assert str(error) not in response.text
        assert str(error) in caplog.text
    evidence.error = None
    assert client.get(REPORT, headers=AUTHORIZED).status_code == 200


def test_a_flood_of_reports_is_429(client: FlaskClient, evidence: Evidence) -> None:
    evidence.error = TooManyReportsError()
    response = client.get(REPORT, headers=AUTHORIZED)
    check_error(response, 429, "rate_limited")
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["/v1//signature/chatcmpl-123", "/v1//attestation/report"])
def test_slashes_are_not_merged_and_there_is_no_redirect(client: FlaskClient, path: str) -> None:
    """A redirect would name the address that this proxy has on the inside."""
    check_error(client.get(path, headers=AUTHORIZED), 404, "not_found")


@pytest.mark.parametrize("header", ["X-Signing-Algo", "X-E2EE-Version", "x-encrypt-all-fields"])
@pytest.mark.parametrize("path", ["/health", "/v1/signature/chatcmpl-1", "/v1/attestation/report", "/nowhere"])
def test_a_request_for_end_to_end_encryption_is_refused(client: FlaskClient, path: str, header: str) -> None:
    check_error(client.get(path, headers={**AUTHORIZED, header: "1"}), 400, "e2ee_unsupported")
