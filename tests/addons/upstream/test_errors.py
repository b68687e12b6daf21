import json

import pytest
from mitmproxy.test import tflow

from addons.exchange.exchanges import Exchanges
from addons.routing.routes import Router
from addons.upstream.error_body import UNKNOWN
from addons.upstream.errors import MAX_ERROR, ErrorBody, ErrorLogger, UpstreamErrors
from tests.addons.conftest import MakeFlow, head


def test_error_wrapping_happens_at_the_end_and_discards_an_oversized_error() -> None:
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
def test_error_wrapping_applies_to_catch_all_errors_only(
    make_flow: MakeFlow, method: str, path: str, status: int, wraps: bool
) -> None:
    flow = make_flow(method=method, path=path)
    response = flow.response = head(status, content_type="text/html", content_length="9")
    UpstreamErrors(Exchanges(Router().route_of)).responseheaders(flow)
    assert isinstance(response.stream, ErrorBody) is wraps
    assert (response.headers["content-type"] == "application/json") is wraps
    assert ("content-length" in response.headers) is not wraps


def test_error_wrapping_gives_an_empty_error_a_body(make_flow: MakeFlow) -> None:
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
def test_error_wrapping_supports_anthropics_shape(raw: bytes, kind: str) -> None:
    body = ErrorBody(503, readable=True, anthropic=True)
    assert body(raw) == []
    wrapped = body(b"")
    assert isinstance(wrapped, bytes)
    assert json.loads(wrapped) == {"type": "error", "error": {"type": kind, "message": "busy"}}


def test_error_logger_records_a_forwarded_error_at_its_end_without_quotes() -> None:
    flow = tflow.tflow()
    exchange = Exchanges(Router().route_of).of(flow)
    logger = ErrorLogger(exchange, True)
    assert logger(b'{"message":"no such mod') == b'{"message":"no such mod'
    assert exchange.upstream_error is None
    assert logger(b"""el: 'SECRET'"}""") == b"""el: 'SECRET'"}"""
    assert logger(b"") == b""
    assert exchange.upstream_error is not None
    assert exchange.upstream_error.startswith("no such model: ")
    assert "SECRET" not in exchange.upstream_error


def test_error_logger_applies_the_previous_modifier() -> None:
    exchange = Exchanges(Router().route_of).of(tflow.tflow())
    logger = ErrorLogger(exchange, lambda piece: [piece.upper()])
    assert logger(b'{"message":"busy"}') == [b'{"MESSAGE":"BUSY"}']
    logger(b"")
    assert exchange.upstream_error == "busy"


def test_error_logger_does_not_record_an_oversized_error() -> None:
    exchange = Exchanges(Router().route_of).of(tflow.tflow())
    logger = ErrorLogger(exchange, True)
    for piece in (b'{"message":"busy"}', b" " * MAX_ERROR, b""):
        assert logger(piece) == piece
    assert exchange.upstream_error is None
