import json
from typing import Any

import pytest

from addons.exchange.exchanges import Exchanges
from addons.routing.routes import Router
from addons.upstream.errors import MAX_ERROR, UNKNOWN, ErrorBody, UpstreamErrors, read_error, wrapped_error
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
    assert error["param"] is None
    assert kind is None or error["type"] == kind


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"param": "messages", "code": "context_length_exceeded"}, ("messages", "context_length_exceeded")),
        ({"param": None, "code": 404}, (None, 404)),
        ({"code": 40.5}, (None, 40.5)),
        ({"param": 5, "code": True}, (None, None)),
        ({"param": ["a"], "code": {"a": 1}}, (None, None)),
        ({"param": "x" * 201, "code": "y" * 201}, (None, None)),
        ({"param": "'input': 'SECRET'", "code": "input_value='SECRET'"}, (None, None)),
    ],
)
def test_param_and_code_of_the_upstream_stay(nested: bool, given: dict[str, Any], expected: tuple[Any, Any]) -> None:
    body = {"message": "too long", "type": "invalid_request_error", **given}
    error = wrapped(400, {"error": body} if nested else body)
    assert (error["param"], error["code"]) == expected
    assert (error["message"], error["type"]) == ("too long", "invalid_request_error")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_code_that_is_no_number_of_json_is_none(number: bytes) -> None:
    assert wrapped(400, b'{"message":"x","code":%s}' % number)["code"] is None


@pytest.mark.parametrize("kind", ["Not Found", "Bad Request", "invalid_request_error", "BadRequestError", "a:b/c-d.e"])
def test_the_type_of_the_upstream_stays_as_it_is(kind: str) -> None:
    assert wrapped(404, {"message": "x", "type": kind})["type"] == kind
    assert read_error(json.dumps({"message": "x", "type": kind}).encode()).for_log() == f"{kind}: x"


@pytest.mark.parametrize("kind", ["", " Not Found", "x" * 65, "a\nb", "input=SECRET", 5, None])
def test_what_is_no_type_is_replaced(kind: Any) -> None:
    assert wrapped(404, {"message": "x", "type": kind})["type"] == "not_found"


@pytest.mark.parametrize(
    "text",
    [
        "[{'type': 'missing', 'loc': ('body', 'x'), 'msg': 'Field required', 'input': {'a': \"SECRET\", 'input': 1}}]",
        "1 validation error\nx\n  Input should be an integer [type=int_parsing, input_value='SECRET', input_type=str]",
        "[{'type': 'value_error', 'msg': 'Value error', 'ctx': {'error': ValueError('SECRET')}}]",
        '{"msg":"bad","input":"SECRET"}',
        "bad input=SECRET",
    ],
)
def test_what_pydantic_quotes_of_the_input_is_cut_off(text: str) -> None:
    assert "SECRET" in text
    assert "SECRET" not in wrapped_error(400, json.dumps({"message": text}).encode()).decode()
    assert "SECRET" not in str(read_error(json.dumps({"message": text}).encode()).for_log())
    assert wrapped(400, {"message": text})["message"][:3] == text[:3]


def test_a_message_that_quotes_nothing_is_kept() -> None:
    for text in ("the prompt has 9000 input tokens", "Invalid input: temperature must be at most 2"):
        assert wrapped(400, {"message": text})["message"] == text
        assert read_error(json.dumps({"message": text}).encode()).for_log() == text


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
    UpstreamErrors(Exchanges(Router().route_of)).responseheaders(flow)
    assert isinstance(response.stream, ErrorBody) is wraps
    assert (response.headers["content-type"] == "application/json") is wraps
    assert ("content-length" in response.headers) is not wraps


def test_an_error_without_a_body_gets_one(make_flow: MakeFlow) -> None:
    flow = make_flow(path="/v1/files")
    response = flow.response = head(404, content_length="0")
    addon = UpstreamErrors(Exchanges(Router().route_of))
    addon.responseheaders(flow)
    response.data.content = b""
    addon.response(flow)
    assert json.loads(response.content or b"")["error"]["message"] == UNKNOWN
    assert response.headers["content-length"] == str(len(response.content or b""))
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', "overloaded_error"),
        (b'{"message":"busy","type":"Not Found","param":"x","code":7}', "Not Found"),
        (b'{"message":"busy"}', "api_error"),
    ],
)
def test_below_messages_the_shape_is_anthropics(raw: bytes, kind: str) -> None:
    body = ErrorBody(503, readable=True, anthropic=True)
    assert body(raw) == []
    wrapped = body(b"")
    assert isinstance(wrapped, bytes)
    assert json.loads(wrapped) == {"type": "error", "error": {"type": kind, "message": "busy"}}
