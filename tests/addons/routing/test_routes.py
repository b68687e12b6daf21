import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from addons.exchange.route import Kind, Route, Size, StreamFormat
from addons.routing.routes import body_sizes, find_route
from attest_web.settings import Settings, load_settings


def route(method: str, target: str, **headers: str) -> Route:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return find_route(tutils.treq(method=method.encode(), path=target.encode(), headers=http.Headers(fields)))


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/completions", "/v1/completions?x=1"])
def test_route_of_chat_and_completions_is_signed_and_needs_a_token(target: str) -> None:
    found = route("POST", target)
    assert found.kind is Kind.SIGNED
    assert found.needs_token


PROOF = [
    "/",
    "/?x",
    "/version",
    "/health",
    "/ready",
    "/metrics",
    "/v1/attestation/report?nonce=1",
    "/v1/signature/a/b",
    "/proof-page/page.js",
]


@pytest.mark.parametrize("target", PROOF)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_route_of_a_proof_page_is_proof_for_every_method(method: str, target: str) -> None:
    assert route(method, target).kind is Kind.PROOF


def test_route_of_get_models_needs_no_token() -> None:
    assert route("GET", "/v1/models").needs_token is False
    assert route("POST", "/v1/models").needs_token is True


def test_route_of_options_needs_a_token() -> None:
    preflight = {"origin": "https://chat.example", "access_control_request_method": "POST"}
    assert route("OPTIONS", "/v1/chat/completions", **preflight).needs_token is True, "Cors answers those"
    assert route("OPTIONS", "/v1/chat/completions").needs_token is True


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
def test_route_of_another_method_or_spelling_is_the_signed_catch_all(method: str, target: str) -> None:
    assert route(method, target) == Route(Kind.SIGNED, size=Size.LARGEST, wraps_errors=True)


@pytest.mark.parametrize(
    ("target", "stream_format", "size"),
    [
        ("/v1/embeddings", StreamFormat.ANY, Size.REQUEST),
        ("/v1/rerank", StreamFormat.ANY, Size.REQUEST),
        ("/v1/score", StreamFormat.ANY, Size.REQUEST),
        ("/v1/responses", StreamFormat.RESPONSES, Size.REQUEST),
        ("/v1/messages", StreamFormat.MESSAGES, Size.REQUEST),
        ("/v1/images/generations", StreamFormat.ANY, Size.IMAGE),
    ],
)
def test_route_of_json_endpoints_is_signed_and_marked_as_json(
    target: str, stream_format: StreamFormat, size: Size
) -> None:
    assert route("POST", target) == Route(Kind.SIGNED, target, is_json=True, stream_format=stream_format, size=size)


def test_route_of_multipart_endpoints_is_signed_and_not_marked_as_json() -> None:
    assert route("POST", "/v1/images/edits") == Route(Kind.SIGNED, "/v1/images/edits", size=Size.IMAGE)
    transcriptions = Route(Kind.SIGNED, "/v1/audio/transcriptions", size=Size.AUDIO, signs_any_type=True)
    assert route("POST", "/v1/audio/transcriptions") == transcriptions


@pytest.mark.parametrize(
    ("method", "target", "needs_token", "path"),
    [
        ("POST", "/v1/tokenize?a=b", True, "/tokenize"),
        ("GET", "/v1/metrics", False, "/metrics"),
        ("POST", "/v1/chat/completions?x", True, None),
    ],
)
def test_route_path_is_the_upstreams_path_if_it_differs(
    method: str, target: str, needs_token: bool, path: str | None
) -> None:
    found = route(method, target)
    assert (found.needs_token, found.path) == (needs_token, path)


def test_body_sizes_have_a_setting_each_and_the_catch_all_the_largest() -> None:
    given = {"model_name": "m", "token": "t", "vllm_proxy_max_audio_request_size": "7"}
    settings = load_settings(Settings, given)
    sizes = body_sizes(settings)
    assert set(sizes) == set(Size)
    assert (sizes[Size.AUDIO], sizes[Size.LARGEST]) == (7, 50 * 2**20)
