import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from addons.routes import Kind, Route, find_route


def route(method: str, target: str, **headers: str) -> Route:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return find_route(tutils.treq(method=method.encode(), path=target.encode(), headers=http.Headers(fields)))


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/completions", "/v1/completions?x=1"])
def test_chats_and_completions_are_signed_and_need_a_token(target: str) -> None:
    found = route("POST", target)
    assert found.kind is Kind.SIGNED
    assert found.needs_token


PROOF = ["/", "/?x", "/version", "/health", "/ready", "/metrics", "/v1/attestation/report?nonce=1", "/v1/signature/a/b"]


@pytest.mark.parametrize("target", PROOF)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_proof_pages_are_never_the_upstreams(method: str, target: str) -> None:
    assert route(method, target).kind is Kind.PROOF


def test_models_need_no_token() -> None:
    assert route("GET", "/v1/models").needs_token is False
    assert route("POST", "/v1/models").needs_token is True


def test_a_preflight_needs_no_token_and_any_other_options_does() -> None:
    preflight = {"origin": "https://chat.example", "access_control_request_method": "POST"}
    assert route("OPTIONS", "/v1/chat/completions", **preflight).needs_token is False
    assert route("OPTIONS", "/v1/chat/completions").needs_token is True
    assert route("options", "/v1/chat/completions", **preflight).needs_token is True
    assert route("OPT\u0131ONS", "/v1/chat/completions", **preflight).needs_token is True


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/chat/completions"),
        ("post", "/v1/chat/completions"),
        ("get", "/v1/models"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/chat%2Fcompletions"),
        ("GET", "/v1/%73ignature/x"),
        ("GET", "/x/../v1/signature/x"),
        ("GET", "/v1/models/"),
        ("GET", "*"),
        ("GET", ""),
    ],
)
def test_what_is_written_otherwise_is_something_else_and_needs_a_token(method: str, target: str) -> None:
    found = route(method, target)
    assert found.kind is Kind.PASSED
    assert found.needs_token
