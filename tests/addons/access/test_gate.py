import json

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http

from addons.access.gate import Gate
from addons.exchange.exchanges import Exchanges
from addons.exchange.route import Size
from addons.routing.routes import MAX_PROOF_REQUEST
from attest_web.middleware.auth import Tokens
from tests.addons.conftest import MakeFlow


@pytest.fixture
def gate(exchanges: Exchanges) -> Gate:
    sizes = {Size.PROOF: MAX_PROOF_REQUEST, Size.REQUEST: 100, Size.IMAGE: 200, Size.AUDIO: 300, Size.LARGEST: 300}
    return Gate(Tokens(["s3cret"]), sizes, exchanges)


def error_type(flow: http.HTTPFlow) -> str:
    assert flow.response is not None
    kind: str = json.loads(flow.response.content or b"")["error"]["type"]
    return kind


def test_gate_accepts_a_valid_token_and_does_not_forward_it(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(b"{}", authorization="Bearer s3cret")
    gate.requestheaders(flow)
    assert flow.response is None
    assert flow.request.stream is True
    assert "authorization" not in flow.request.headers


def test_gate_records_the_credential_of_a_valid_token_and_not_the_token(
    gate: Gate, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    mine, anothers = make_flow(b"{}", authorization="Bearer s3cret"), make_flow(b"{}", authorization="Bearer wrong")
    for flow in (mine, anothers):
        gate.requestheaders(flow)
    assert exchanges.of(mine).credential == gate.tokens.credential(b"Bearer s3cret")
    assert "s3cret" not in exchanges.of(mine).credential
    assert exchanges.of(anothers).credential == ""


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer \udcff"}])
def test_gate_missing_or_wrong_token_gets_401_before_the_body(
    gate: Gate, make_flow: MakeFlow, headers: dict[str, str]
) -> None:
    flow = make_flow(b"{}", expect="100-continue", **headers)
    gate.requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 401
    assert flow.response.headers["www-authenticate"] == "Bearer"
    assert error_type(flow) == "unauthorized"
    assert flow.request.stream is True, "this makes ApiHttpStream answer at once"
    assert "expect" not in flow.request.headers, "a 100 would invite the body"
    assert "authorization" not in flow.request.headers


@pytest.mark.parametrize(
    "name", ["Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "api-key", "API-KEY", "Cookie", "Api-Key "]
)
def test_gate_removes_every_credential_header(gate: Gate, make_flow: MakeFlow, name: str) -> None:
    flow = make_flow(authorization="Bearer s3cret", x_other="kept")
    flow.request.headers.fields = (*flow.request.headers.fields, (name.encode(), b"Bearer s3cret"))
    gate.requestheaders(flow)
    assert "s3cret" not in repr(flow.request.headers.fields)
    assert flow.request.headers["x-other"] == "kept"


def test_gate_duplicate_authorization_headers_get_401(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow()
    flow.request.headers.set_all("authorization", ["Bearer s3cret", "Bearer s3cret"])
    gate.requestheaders(flow)
    assert error_type(flow) == "unauthorized"


@pytest.mark.parametrize(("length", "refused"), [("100", False), ("101", True), ("999999999999999999", True)])
def test_gate_content_length_over_the_limit_is_refused_on_the_headers(
    gate: Gate, make_flow: MakeFlow, length: str, refused: bool
) -> None:
    flow = make_flow(authorization="Bearer s3cret", content_length=length)
    gate.requestheaders(flow)
    assert (flow.response is not None) is refused
    if refused:
        assert error_type(flow) == "payload_too_large"


def test_gate_proof_page_request_passes_without_its_token_and_has_a_small_body_limit(
    gate: Gate, make_flow: MakeFlow
) -> None:
    flow = make_flow(method="GET", path="/v1/signature/x", authorization="Bearer s3cret")
    gate.requestheaders(flow)
    assert flow.response is None
    assert "authorization" not in flow.request.headers
    assert gate.body_limit(flow) == MAX_PROOF_REQUEST


@pytest.mark.parametrize(
    ("path", "limit", "streams"),
    [
        ("/v1/chat/completions", 100, True),
        ("/v1/embeddings", 100, True),
        ("/v1/images/generations", 200, True),
        ("/v1/images/edits", 200, True),
        ("/v1/audio/transcriptions", 300, True),
        ("/v1/tokenize", 100, True),
        ("/v1/files", 300, True),
        ("/v1/signature/x", MAX_PROOF_REQUEST, False),
    ],
)
def test_gate_streams_all_but_proof_pages_and_applies_each_routes_body_limit(
    gate: Gate, make_flow: MakeFlow, path: str, limit: int, streams: bool
) -> None:
    fits = make_flow(path=path, authorization="Bearer s3cret", content_length=str(limit))
    gate.requestheaders(fits)
    assert fits.response is None
    assert fits.request.stream is streams
    larger = make_flow(path=path, authorization="Bearer s3cret", content_length=str(limit + 1))
    gate.requestheaders(larger)
    assert error_type(larger) == "payload_too_large"


@pytest.mark.parametrize(
    ("path", "headers", "opens"),
    [
        ("/v1/messages", {"x_api_key": "s3cret"}, True),
        ("/v1/messages/count_tokens?x", {"x_api_key": "s3cret"}, True),
        ("/v1/messages", {"x_api_key": "wrong"}, False),
        ("/v1/messages", {"x_api_key": "s3cret", "authorization": "Bearer wrong"}, False),
        ("/v1/messagesx", {"x_api_key": "s3cret"}, False),
        ("/v1/chat/completions", {"x_api_key": "s3cret"}, False),
    ],
)
def test_gate_accepts_the_token_in_x_api_key_on_anthropic_paths_only(
    gate: Gate, make_flow: MakeFlow, path: str, headers: dict[str, str], opens: bool
) -> None:
    flow = make_flow(path=path, **headers)
    gate.requestheaders(flow)
    assert (flow.response is None) is opens
    assert "x-api-key" not in flow.request.headers


def test_gate_request_rejected_by_mitmproxy_keeps_its_error_and_loses_its_token(
    gate: Gate, make_flow: MakeFlow
) -> None:
    flow = make_flow(authorization="Bearer s3cret")
    flow.error = mitm_flow.Error("bad headers")
    gate.requestheaders(flow)
    assert flow.response is None
    assert "authorization" not in flow.request.headers


E2EE_HEADERS = [
    "X-Signing-Algo",
    "x-client-pub-key",
    "X-MODEL-PUB-KEY",
    "X-Encryption-Version",
    "X-Encrypt-All-Fields",
    "X-E2EE-Version",
    "X-E2EE-Anything",
    "X_Signing_Algo",
    "x-client_pub_key",
    "X_E2EE_Version",
]


@pytest.mark.parametrize("name", E2EE_HEADERS)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/chat/completions"), ("POST", "/v1/audio/transcriptions"), ("GET", "/v1/models"), ("PUT", "/other")],
)
def test_a_request_for_end_to_end_encryption_is_refused(
    gate: Gate, make_flow: MakeFlow, method: str, path: str, name: str
) -> None:
    flow = make_flow(method=method, path=path, authorization="Bearer s3cret")
    flow.request.headers[name] = "1"
    gate.requestheaders(flow)
    assert flow.response is not None
    assert (flow.response.status_code, error_type(flow)) == (400, "e2ee_unsupported")


def test_gate_websocket_with_an_e2ee_header_is_refused(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(method="GET", path="/v1/realtime", authorization="Bearer s3cret")
    flow.request.headers.update(
        {
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "x-signing-algo": "ecdsa",
        }
    )
    gate.requestheaders(flow)
    assert error_type(flow) == "e2ee_unsupported"
    assert "upgrade" not in flow.request.headers


def test_gate_e2ee_header_without_a_token_gets_401(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(b"{}", x_signing_algo="ecdsa")
    gate.requestheaders(flow)
    assert error_type(flow) == "unauthorized"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"])
def test_gate_errors_on_anthropic_paths_have_anthropics_shape(gate: Gate, make_flow: MakeFlow, path: str) -> None:
    flow = make_flow(b"{}", path=path)
    gate.requestheaders(flow)
    assert flow.response is not None
    body = json.loads(flow.response.content or b"")
    assert body.keys() == {"type", "error"}
    assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
    assert set(body["error"]) == {"type", "message"}
