import json
from typing import Any

import pytest

from addons.routes import Router
from addons.upstream_errors import MAX_ERROR, UNKNOWN, ErrorBody, UpstreamErrors, without_input, wrapped_error
from tests.addons.conftest import MakeFlow, head


def wrapped(status: int, body: Any) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads(wrapped_error(status, raw))
    assert list(answer) == ["error"]
    return answer["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("body", "message", "kind"),
    [
        ({"message": "no such model", "type": "NotFoundError", "code": 404}, "no such model", "NotFoundError"),
        ({"error": {"message": "no such model", "type": "invalid_request_error"}}, "no such model", None),
        ({"error": "busy"}, "busy", "bad_request"),
        ({"detail": "Not Found"}, "Not Found", "bad_request"),
        ({"detail": [{"loc": ["body", "n"], "msg": "too small", "input": "SECRET"}]}, "body.n: too small", None),
        ({"message": "x", "type": "<script>"}, "x", "bad_request"),
        ({"message": 7}, UNKNOWN, "bad_request"),
        ({"error": None}, UNKNOWN, "bad_request"),
        ([1], UNKNOWN, "bad_request"),
        (b"<html>nginx", UNKNOWN, "bad_request"),
        (b"", UNKNOWN, "bad_request"),
        (b"[" * 100_000, UNKNOWN, "bad_request"),
    ],
)
def test_flat_and_nested_errors_are_wrapped_alike(body: Any, message: str, kind: str | None) -> None:
    error = wrapped(422, body)
    assert error["message"] == message
    assert error["param"] is error["code"] is None
    assert kind is None or error["type"] == kind


@pytest.mark.parametrize(
    "text",
    [
        "[{'type': 'missing', 'loc': ('body', 'x'), 'msg': 'Field required', 'input': {'a': \"SECRET\", 'input': 1}}]",
        "1 validation error\nx\n  Input should be an integer [type=int_parsing, input_value='SECRET', input_type=str]",
        '{"msg":"bad","input":"SECRET"}',
        "bad input=SECRET",
    ],
)
def test_what_pydantic_quotes_of_the_input_is_cut_off(text: str) -> None:
    assert "SECRET" in text
    assert "SECRET" not in without_input(text)
    assert "SECRET" not in wrapped_error(400, json.dumps({"message": text}).encode()).decode()
    assert without_input(text)[:3] == text[:3]


def test_a_message_that_quotes_nothing_is_kept() -> None:
    assert without_input("the prompt has 9000 input tokens") == "the prompt has 9000 input tokens"


def test_an_error_streams_out_whole_or_not_at_all() -> None:
    body = ErrorBody(500, readable=True)
    assert body(b'{"message":') == []
    assert body(b'"busy"}') == []
    assert json.loads(bytes(body(b"")))["error"]["message"] == "busy"  # type: ignore[arg-type]
    endless = ErrorBody(500, readable=True)
    for _ in range(MAX_ERROR // 1000 + 2):
        assert endless(b"x" * 1000) == []
    assert endless._body is None
    assert json.loads(bytes(endless(b"")))["error"]["message"] == UNKNOWN  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "status", "wraps"),
    [
        ("POST", "/v1/files", 404, True),
        ("GET", "/v1/models/x", 500, True),
        ("HEAD", "/v1/models/x", 500, False),
        ("POST", "/v1/files", 302, False),
        ("POST", "/v1/chat/completions", 404, False),
        ("POST", "/v1/tokenize", 404, False),
    ],
)
def test_only_errors_of_the_catch_all_are_wrapped(
    make_flow: MakeFlow, method: str, path: str, status: int, wraps: bool
) -> None:
    flow = make_flow(method=method, path=path)
    response = flow.response = head(status, content_type="text/html", content_length="9")
    UpstreamErrors(Router()).responseheaders(flow)
    assert isinstance(response.stream, ErrorBody) is wraps
    assert (response.headers["content-type"] == "application/json") is wraps
    assert ("content-length" in response.headers) is not wraps


def test_an_error_without_a_body_gets_one(make_flow: MakeFlow) -> None:
    flow = make_flow(path="/v1/files")
    response = flow.response = head(404, content_length="0")
    addon = UpstreamErrors(Router())
    addon.responseheaders(flow)
    response.data.content = b""
    addon.response(flow)
    assert json.loads(response.content or b"")["error"]["message"] == UNKNOWN
    assert response.headers["content-length"] == str(len(response.content or b""))
    assert "transfer-encoding" not in response.headers
