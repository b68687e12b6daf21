from urllib.parse import urlsplit

import pytest
from mitmproxy import http

from addons.exchange.attempt import Attempt, AttemptOutcome, Target
from addons.exchange.record import Exchange
from addons.routing.routes import IMAGES, find_route
from addons.upstream.single import IDLE_LOSS, SingleUpstream, endpoint_overrides
from attest_web.settings import Settings, load_settings
from tests.addons.clock import Clock

VLLM = Target("http", "vllm", 8000)


def asked(method: str, target: str) -> tuple[Exchange, http.Request]:
    request = http.Request.make(method, f"http://vllm:8000{target}")
    return Exchange(find_route(request)), request


@pytest.mark.parametrize(
    ("method", "target", "path"),
    [
        ("POST", "/v1/tokenize?a=b", "/tokenize"),
        ("GET", "/v1/metrics", "/metrics"),
        ("POST", "/v1/chat/completions?x", None),
        ("POST", "/v1/images/generations", None),
        ("GET", "/anything", None),
    ],
)
def test_single_upstream_chooses_the_upstream_of_the_mode_by_default(
    method: str, target: str, path: str | None
) -> None:
    assert SingleUpstream().choose(*asked(method, target)) == Target("http", "vllm", 8000, path)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://img.example/v9/make", Target("https", "img.example", 443, "/v9/make")),
        ("http://[::1]:81/v9/make", Target("http", "::1", 81, "/v9/make")),
    ],
)
def test_single_upstream_chooses_the_override_of_an_endpoint(url: str, target: Target) -> None:
    policy = SingleUpstream({IMAGES: urlsplit(url)})
    assert policy.choose(*asked("POST", "/v1/images/generations?x=1")) == target
    assert policy.choose(*asked("GET", "/v1/images/generations")) == VLLM, "only the POST is that endpoint"
    assert policy.choose(*asked("POST", "/v1/images/edits")) == VLLM


def test_endpoint_overrides_have_a_setting_each() -> None:
    names = {
        "/v1/images/generations": "vllm_images_url",
        "/v1/images/edits": "vllm_images_edits_url",
        "/v1/audio/transcriptions": "vllm_transcriptions_url",
        "/v1/rerank": "vllm_rerank_url",
        "/v1/score": "vllm_score_url",
    }
    for path, name in names.items():
        settings = load_settings(Settings, {"model_name": "m", "token": "t", name: "http://x/y"})
        assert {path: url.geturl() for path, url in endpoint_overrides(settings).items()} == {path: "http://x/y"}


def failed(
    clock: Clock,
    outcome: AttemptOutcome = AttemptOutcome.CLOSED,
    *,
    reused: bool = True,
    ago: float = 0.01,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    body: bytes | None = b"{}",
) -> Target | None:
    """Where a request is sent again whose attempt has failed."""
    exchange, request = asked(method, path)
    exchange.attempts.append(Attempt(VLLM, reused, clock() - ago, outcome=outcome))
    return SingleUpstream(clock=clock).retry(exchange, request, body)


def test_single_upstream_retries_a_request_lost_on_an_idle_connection() -> None:
    clock = Clock()
    assert failed(clock) == VLLM
    assert failed(clock, ago=IDLE_LOSS - 0.001) == VLLM
    assert failed(clock, method="GET", path="/v1/models", body=b"") == VLLM


@pytest.mark.parametrize("outcome", [one for one in AttemptOutcome if one is not AttemptOutcome.CLOSED])
def test_single_upstream_does_not_retry_after_another_outcome(outcome: AttemptOutcome) -> None:
    assert failed(Clock(), outcome) is None


def test_single_upstream_does_not_retry_a_request_that_may_have_taken_effect() -> None:
    clock = Clock()
    assert failed(clock, reused=False) is None
    assert failed(clock, ago=IDLE_LOSS) is None
    assert failed(clock, body=None) is None
    assert failed(clock, path="/v1/responses") is None
    assert failed(clock, body=b'{"store":true}') is None


def test_single_upstream_does_not_retry_an_attempt_that_was_never_sent() -> None:
    exchange, request = asked("GET", "/v1/models")
    exchange.attempts.append(Attempt(VLLM, True, None, outcome=AttemptOutcome.CLOSED))
    assert SingleUpstream().retry(exchange, request, b"") is None
