import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from attest_web.app import ProofSources, create_app
from attest_web.auth import Tokens
from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, sign_text
from attest_web.store import MemorySignatureStore, SignatureStore

AUTHORIZED = {"Authorization": "Bearer s3cret"}


class BrokenStore:
    """A store that fails, with an error that quotes what it should not."""

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        raise RuntimeError

    def get(self, chat_id: str) -> SignedExchange | None:
        raise RuntimeError(f"cannot find {chat_id}")


@pytest.fixture
def signed(keys: SigningKeys, vectors: dict[str, str]) -> SignedExchange:
    return sign_text(keys, vectors["text"])


@pytest.fixture
def make_client(signed: SignedExchange) -> Callable[..., FlaskClient]:
    def make(store: SignatureStore | None = None, *, upstream_answers: bool = True) -> FlaskClient:
        if store is None:
            store = MemorySignatureStore("model", 60)
            store.put("chatcmpl-123", signed)
            store.put("chatcmpl-with/slash and ü", signed)
            store.put("/with//slashes/", signed)
        sources = ProofSources(Tokens(["other", "s3cret"]), store, lambda: upstream_answers, "1.2.3", "abc123")
        return create_app(sources).test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()


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
    assert client.get("/ready").get_json() == {"status": "ready", "keys": True, "upstream": True}


def test_not_ready_while_the_upstream_does_not_answer(make_client: Callable[..., FlaskClient]) -> None:
    response = make_client(upstream_answers=False).get("/ready")
    assert response.status_code == 503
    assert response.get_json() == {"status": "not ready", "keys": True, "upstream": False}
    assert make_client(upstream_answers=False).get("/health").status_code == 200


def test_signature_is_ecdsa_unless_asked_otherwise(client: FlaskClient, vectors: dict[str, str]) -> None:
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
def test_an_id_may_hold_anything(client: FlaskClient, quoted: str) -> None:
    assert client.get("/v1/signature/" + quoted, headers=AUTHORIZED).status_code == 200


def test_unknown_id_is_404(client: FlaskClient) -> None:
    check_error(client.get("/v1/signature/nope", headers=AUTHORIZED), 404, "not_found")


def test_unknown_algorithm_is_400(client: FlaskClient) -> None:
    response = client.get("/v1/signature/chatcmpl-123?signing_algo=rsa", headers=AUTHORIZED)
    assert "ed25519" in check_error(response, 400, "bad_request")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff\xfe"}])
def test_signature_without_token_is_401(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.get("/v1/signature/chatcmpl-123", headers=headers)
    check_error(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_the_token_is_asked_for_before_anything_is_told(client: FlaskClient) -> None:
    check_error(client.get("/v1/signature/nope?signing_algo=rsa"), 401, "unauthorized")


def test_unknown_path_is_404_and_wrong_method_says_what_is_allowed(client: FlaskClient) -> None:
    check_error(client.get("/nope"), 404, "not_found")
    response = client.post("/version")
    check_error(response, 405, "bad_request")
    assert "GET" in response.headers["Allow"]


def test_a_bug_is_500_and_hides_its_details(
    make_client: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = make_client(BrokenStore()).get("/v1/signature/marked", headers=AUTHORIZED)
    assert "marked" not in check_error(response, 500, "server_error")
    assert "RuntimeError" in caplog.text


def test_head_and_options_need_no_more_than_get(client: FlaskClient) -> None:
    assert client.head("/health").status_code == 200
    assert client.options("/v1/signature/chatcmpl-123").status_code == 200


def test_two_apps_share_nothing(make_client: Callable[..., FlaskClient], signed: SignedExchange) -> None:
    stores = [MemorySignatureStore("model", 60) for _ in range(2)]
    clients = [make_client(store) for store in stores]
    stores[0].put("only-here", signed)
    statuses = [client.get("/v1/signature/only-here", headers=AUTHORIZED).status_code for client in clients]
    assert statuses == [200, 404]
