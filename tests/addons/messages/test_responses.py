"""The responses that this proxy makes itself."""

import json

import pytest
from mitmproxy import http

from addons.messages.responses import (
    error_response,
    no_room,
    reject,
    respond_early,
    speaks_anthropic,
    too_large,
)
from tests.addons.conftest import MakeFlow


def body_of(response: http.Response | None) -> dict[str, object]:
    assert response is not None
    found: dict[str, object] = json.loads(response.content or b"")
    return found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", True),
        ("/v1/messages?beta=true", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages2", False),
        ("/v1/chat/completions?next=/v1/messages", False),
    ],
)
def test_speaks_anthropic_is_decided_by_the_path(make_flow: MakeFlow, path: str, expected: bool) -> None:
    assert speaks_anthropic(make_flow(path=path).request) is expected


def test_error_response_has_openais_shape_and_content_length(make_flow: MakeFlow) -> None:
    for request in (None, make_flow().request):
        answer = error_response(404, "There is none.", request)
        error = {"message": "There is none.", "type": "not_found", "param": None, "code": None}
        assert body_of(answer) == {"error": error}
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.content or b""))


def test_error_response_on_anthropic_paths_has_anthropics_shape(make_flow: MakeFlow) -> None:
    answer = error_response(413, "Too large.", make_flow(path="/v1/messages").request)
    assert body_of(answer) == {"type": "error", "error": {"type": "request_too_large", "message": "Too large."}}


def test_error_response_uses_an_explicit_error_type(make_flow: MakeFlow) -> None:
    answer = error_response(400, "No.", make_flow().request, "e2ee_unsupported")
    error = body_of(answer)["error"]
    assert isinstance(error, dict)
    assert error["type"] == "e2ee_unsupported"


def test_error_response_to_head_has_the_content_length_and_no_body(make_flow: MakeFlow) -> None:
    whole = error_response(404, "There is none.", make_flow(method="GET").request)
    answer = error_response(404, "There is none.", make_flow(method="HEAD").request)
    assert answer.raw_content == b""
    assert answer.headers["content-length"] == whole.headers["content-length"] != "0"


def test_error_response_401_has_a_www_authenticate_header() -> None:
    assert error_response(401, "No.").headers["www-authenticate"] == "Bearer"


def test_too_large_gives_413_and_no_room_gives_503_with_retry_after(make_flow: MakeFlow) -> None:
    large, full = too_large(100, make_flow().request), no_room(make_flow().request)
    assert (large.status_code, full.status_code) == (413, 503)
    assert "100 bytes" in str(body_of(large))
    assert full.headers["retry-after"] == "1"


def test_respond_early_streams_the_request_body_and_removes_expect(make_flow: MakeFlow) -> None:
    flow, answer = make_flow(expect="100-continue"), http.Response.make(204)
    respond_early(flow, answer)
    assert flow.response is answer
    assert flow.request.stream is True
    assert "expect" not in flow.request.headers


@pytest.mark.parametrize(("status", "closes"), [(400, True), (401, False), (413, False), (503, False)])
def test_reject_closes_the_connection_only_with_400(make_flow: MakeFlow, status: int, closes: bool) -> None:
    flow = make_flow()
    reject(flow, status, "No.", {"retry-after": "3"})
    assert flow.response is not None
    assert flow.response.status_code == status
    assert flow.response.headers["retry-after"] == "3"
    assert (flow.response.headers.get("connection") == "close") is closes
    assert flow.request.stream is True
