import json
from typing import Any

import pytest

from addons.upstream.error_body import UNKNOWN, read_error, wrapped_error


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
def test_error_body_flat_and_nested_errors_are_wrapped_alike(body: Any, message: str, kind: str | None) -> None:
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
def test_error_body_param_and_code_are_kept_only_if_labels_or_numbers(
    nested: bool, given: dict[str, Any], expected: tuple[Any, Any]
) -> None:
    body = {"message": "too long", "type": "invalid_request_error", **given}
    error = wrapped(400, {"error": body} if nested else body)
    assert (error["param"], error["code"]) == expected
    assert (error["message"], error["type"]) == ("too long", "invalid_request_error")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_error_body_code_that_is_not_a_json_number_becomes_none(number: bytes) -> None:
    assert wrapped(400, b'{"message":"x","code":%s}' % number)["code"] is None


@pytest.mark.parametrize("kind", ["Not Found", "Bad Request", "invalid_request_error", "BadRequestError", "a:b/c-d.e"])
def test_error_body_type_that_is_a_label_is_kept(kind: str) -> None:
    assert wrapped(404, {"message": "x", "type": kind})["type"] == kind
    assert read_error(json.dumps({"message": "x", "type": kind}).encode()).for_log() == f"{kind}: x"


@pytest.mark.parametrize("kind", ["", " Not Found", "x" * 65, "a\nb", "input=SECRET", 5, None])
def test_error_body_invalid_type_is_replaced_by_that_of_the_status(kind: Any) -> None:
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
def test_error_body_removes_input_quoted_by_pydantic(text: str) -> None:
    assert "SECRET" in text
    assert "SECRET" not in wrapped_error(400, json.dumps({"message": text}).encode()).decode()
    assert "SECRET" not in str(read_error(json.dumps({"message": text}).encode()).for_log())
    assert wrapped(400, {"message": text})["message"][:3] == text[:3]


def test_error_body_message_without_quotes_is_kept() -> None:
    for text in ("the prompt has 9000 input tokens", "Invalid input: temperature must be at most 2"):
        assert wrapped(400, {"message": text})["message"] == text
        assert read_error(json.dumps({"message": text}).encode()).for_log() == text
