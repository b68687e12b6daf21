"""The CORS headers of this proxy's own responses and of an upstream's."""

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http

from addons.access.cors import Cors
from attest_web.middleware.cors import EXPOSED, CorsPolicy
from tests.addons.conftest import MakeFlow, head

ORIGIN = "https://chat.example"


@pytest.fixture
def cors() -> Cors:
    return Cors(CorsPolicy(frozenset({ORIGIN})))


@pytest.fixture
def preflight(make_flow: MakeFlow) -> http.HTTPFlow:
    return make_flow(
        method="OPTIONS",
        origin=ORIGIN,
        access_control_request_method="POST",
        access_control_request_headers="authorization",
    )


def allowed(response: http.Response | None) -> str | None:
    assert response is not None
    return response.headers.get("access-control-allow-origin")


def test_cors_preflight_is_answered_with_204_and_not_forwarded(cors: Cors, preflight: http.HTTPFlow) -> None:
    cors.requestheaders(preflight)
    answer = preflight.response
    assert answer is not None
    assert answer.status_code == 204
    assert "content-length" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "authorization"
    assert preflight.request.stream is True
    before = dict(answer.headers)
    cors.response(preflight)
    assert dict(answer.headers) == before


@pytest.mark.parametrize(
    "headers", [{}, {"origin": ORIGIN}, {"access_control_request_method": "POST"}], ids=["none", "origin", "method"]
)
def test_cors_options_request_that_is_not_a_preflight_is_not_answered(
    cors: Cors, make_flow: MakeFlow, headers: dict[str, str]
) -> None:
    flow = make_flow(method="OPTIONS", **headers)
    cors.requestheaders(flow)
    assert flow.response is None


def test_cors_preflight_already_refused_is_left_unchanged(cors: Cors, preflight: http.HTTPFlow) -> None:
    refusal = preflight.response = http.Response.make(400)
    cors.requestheaders(preflight)
    assert preflight.response is refusal
    preflight.response, preflight.error = None, mitm_flow.Error("bad headers")
    cors.requestheaders(preflight)
    assert preflight.response is None


def test_cors_replaces_upstream_cors_headers_and_merges_expose_headers(cors: Cors, make_flow: MakeFlow) -> None:
    flow = make_flow(origin=ORIGIN)
    flow.response = head(
        access_control_allow_origin="*",
        Access_Control_Allow_Credentials="true",
        access_control_expose_headers="x-of-the-model",
        vary="Accept",
        x_other="kept",
    )
    cors.responseheaders(flow)
    headers = flow.response.headers
    assert headers.get_all("access-control-allow-origin") == [ORIGIN]
    assert "access-control-allow-credentials" not in headers
    assert headers["access-control-expose-headers"] == f"{EXPOSED}, x-of-the-model"
    assert headers.get_all("vary") == ["Accept", "Origin"]
    assert headers["x-other"] == "kept"


def test_cors_disallowed_origin_gets_no_allow_origin_and_a_vary_header(cors: Cors, make_flow: MakeFlow) -> None:
    flow = make_flow(origin="https://evil.example")
    flow.response = head(access_control_allow_origin="*", vary="accept, ORIGIN")
    cors.responseheaders(flow)
    assert allowed(flow.response) is None
    assert flow.response.headers.get_all("vary") == ["accept, ORIGIN"], "it is there already"


def test_cors_headers_are_added_to_a_response_made_by_the_proxy(cors: Cors, make_flow: MakeFlow) -> None:
    flow = make_flow(origin=ORIGIN)
    flow.response = http.Response.make(401, b"{}")
    cors.response(flow)
    assert allowed(flow.response) == ORIGIN


def test_cors_response_hook_leaves_a_streamed_response_unchanged(cors: Cors, make_flow: MakeFlow) -> None:
    flow = make_flow(origin=ORIGIN)
    flow.response = head()
    cors.response(flow)
    assert allowed(flow.response) is None
    flow.response = None
    cors.responseheaders(flow)
    cors.response(flow)
