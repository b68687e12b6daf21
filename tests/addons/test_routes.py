import pytest

from addons.routes import Kind, find_route


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/completions", "/v1/completions?x=1"])
def test_chats_and_completions_are_signed_and_need_a_token(target: str) -> None:
    route = find_route("POST", target)
    assert route.kind is Kind.SIGNED
    assert route.needs_token


@pytest.mark.parametrize(
    "target",
    ["/", "/?x", "/version", "/health", "/ready", "/metrics", "/v1/attestation/report?nonce=1", "/v1/signature/a/b"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_proof_pages_are_never_the_upstreams(method: str, target: str) -> None:
    assert find_route(method, target).kind is Kind.PROOF


def test_models_need_no_token() -> None:
    assert find_route("GET", "/v1/models").needs_token is False
    assert find_route("POST", "/v1/models").needs_token is True


def test_a_preflight_needs_no_token() -> None:
    assert find_route("OPTIONS", "/v1/chat/completions").needs_token is False


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/chat/completions"),
        ("post", "/v1/chat/completions"),
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
    route = find_route(method, target)
    assert route.kind is Kind.PASSED
    assert route.needs_token
