from urllib.parse import urlsplit

import pytest
from mitmproxy import http
from mitmproxy.test import tflow, tutils

from addons.exchange.route import Kind, Route, Size, StreamFormat
from addons.routing.routes import IMAGES, Router, body_sizes, endpoint_overrides, find_route
from attest_web.settings import Settings, load_settings


def route(method: str, target: str, **headers: str) -> Route:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return find_route(tutils.treq(method=method.encode(), path=target.encode(), headers=http.Headers(fields)))


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/completions", "/v1/completions?x=1"])
def test_chats_and_completions_are_signed_and_need_a_token(target: str) -> None:
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
def test_proof_pages_are_never_the_upstreams(method: str, target: str) -> None:
    assert route(method, target).kind is Kind.PROOF


def test_models_need_no_token() -> None:
    assert route("GET", "/v1/models").needs_token is False
    assert route("POST", "/v1/models").needs_token is True


def test_options_need_a_token() -> None:
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
def test_what_is_written_otherwise_is_something_else_and_needs_a_token(method: str, target: str) -> None:
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
def test_json_routes_are_signed_and_held(target: str, stream_format: StreamFormat, size: Size) -> None:
    assert route("POST", target) == Route(Kind.SIGNED, target, is_json=True, stream_format=stream_format, size=size)


def test_multipart_routes_are_signed_and_stream() -> None:
    assert route("POST", "/v1/images/edits") == Route(Kind.SIGNED, "/v1/images/edits", size=Size.IMAGE)
    transcriptions = Route(Kind.SIGNED, "/v1/audio/transcriptions", size=Size.AUDIO, signs_any_type=True)
    assert route("POST", "/v1/audio/transcriptions") == transcriptions


@pytest.mark.parametrize(
    ("method", "target", "needs_token", "asked_for"),
    [
        ("POST", "/v1/tokenize?a=b", True, b"/tokenize?a=b"),
        ("GET", "/v1/metrics", False, b"/metrics"),
        ("POST", "/v1/chat/completions?x", True, b"/v1/chat/completions?x"),
    ],
)
def test_the_upstream_may_have_it_elsewhere(method: str, target: str, needs_token: bool, asked_for: bytes) -> None:
    flow = tflow.tflow(req=tutils.treq(method=method.encode(), path=target.encode(), host="vllm", port=8000))
    router = Router()
    found = router.route_of(flow)
    assert found.needs_token is needs_token
    router.redirect(flow.request, found)
    assert flow.request.data.path == asked_for
    assert (flow.request.host, flow.request.port) == ("vllm", 8000)


@pytest.mark.parametrize(("url", "port"), [("https://img.example/v9/make", 443), ("http://[::1]:81/v9/make", 81)])
def test_another_server_may_have_it(url: str, port: int) -> None:
    flow = tflow.tflow(req=tutils.treq(method=b"POST", path=b"/v1/images/generations?x=1", host="vllm", port=8000))
    router = Router({IMAGES: urlsplit(url)})
    router.redirect(flow.request, router.route_of(flow))
    there = urlsplit(url)
    assert (flow.request.scheme, flow.request.host, flow.request.port) == (there.scheme, there.hostname, port)
    assert flow.request.data.path == b"/v9/make?x=1"


def test_every_limit_has_a_setting_and_the_catch_all_the_largest() -> None:
    given = {"model_name": "m", "token": "t", "vllm_proxy_max_audio_request_size": "7", "vllm_images_url": "http://x/y"}
    settings = load_settings(Settings, given)
    sizes = body_sizes(settings)
    assert set(sizes) == set(Size)
    assert (sizes[Size.AUDIO], sizes[Size.LARGEST]) == (7, 50 * 2**20)
    assert {path: url.geturl() for path, url in endpoint_overrides(settings).items()} == {IMAGES: "http://x/y"}
