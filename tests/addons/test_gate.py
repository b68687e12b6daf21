import json

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http

from addons.gate import Gate
from addons.routes import MAX_PROOF_REQUEST, Router, Size
from attest_web.auth import Tokens
from tests.addons.conftest import MakeFlow


@pytest.fixture
def gate() -> Gate:
    sizes = {Size.PROOF: MAX_PROOF_REQUEST, Size.REQUEST: 100, Size.IMAGE: 200, Size.AUDIO: 300, Size.LARGEST: 300}
    return Gate(Tokens(["s3cret"]), Router(), sizes)


def error_type(flow: http.HTTPFlow) -> str:
    assert flow.response is not None
    kind: str = json.loads(flow.response.content or b"")["error"]["type"]
    return kind


def test_a_token_opens_and_goes_no_further(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(b"{}", authorization="Bearer s3cret")
    gate.requestheaders(flow)
    assert flow.response is None
    assert flow.request.stream is False
    assert "authorization" not in flow.request.headers


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer \udcff"}])
def test_without_one_the_answer_is_set_before_the_body(
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


def test_credentials_go_no_further_however_they_are_spelt(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(authorization="Bearer s3cret", x_api_key="s3cret", cookie="a=s3cret", x_other="kept")
    flow.request.headers.fields = (*flow.request.headers.fields, (b"Authorization ", b"Bearer s3cret"))
    gate.requestheaders(flow)
    assert "s3cret" not in repr(flow.request.headers.fields)
    assert flow.request.headers["x-other"] == "kept"


def test_two_authorization_headers_are_none(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow()
    flow.request.headers.set_all("authorization", ["Bearer s3cret", "Bearer s3cret"])
    gate.requestheaders(flow)
    assert error_type(flow) == "unauthorized"


@pytest.mark.parametrize(("length", "refused"), [("100", False), ("101", True), ("999999999999999999", True)])
def test_a_length_over_the_limit_is_refused_on_the_headers(
    gate: Gate, make_flow: MakeFlow, length: str, refused: bool
) -> None:
    flow = make_flow(authorization="Bearer s3cret", content_length=length)
    gate.requestheaders(flow)
    assert (flow.response is not None) is refused
    if refused:
        assert error_type(flow) == "payload_too_large"


def test_proof_pages_ask_for_the_token_themselves_and_take_little(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(method="GET", path="/v1/signature/x", authorization="Bearer s3cret")
    gate.requestheaders(flow)
    assert flow.response is None
    assert "authorization" not in flow.request.headers
    assert gate.body_limit(flow) == MAX_PROOF_REQUEST


@pytest.mark.parametrize(
    ("path", "limit", "streams"),
    [
        ("/v1/chat/completions", 100, False),
        ("/v1/embeddings", 100, False),
        ("/v1/images/generations", 200, False),
        ("/v1/images/edits", 200, True),
        ("/v1/audio/transcriptions", 300, True),
        ("/v1/tokenize", 100, True),
        ("/v1/files", 300, True),
    ],
)
def test_only_json_is_held_and_each_route_has_its_limit(
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
def test_anthropics_clients_may_send_the_token_as_they_do(
    gate: Gate, make_flow: MakeFlow, path: str, headers: dict[str, str], opens: bool
) -> None:
    flow = make_flow(path=path, **headers)
    gate.requestheaders(flow)
    assert (flow.response is None) is opens
    assert "x-api-key" not in flow.request.headers


def test_what_mitmproxy_has_refused_keeps_its_error_and_loses_its_token(gate: Gate, make_flow: MakeFlow) -> None:
    flow = make_flow(authorization="Bearer s3cret")
    flow.error = mitm_flow.Error("bad headers")
    gate.requestheaders(flow)
    assert flow.response is None
    assert "authorization" not in flow.request.headers
