import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http

from addons.access.client_addresses import ClientAddresses
from addons.access.rate_limit import RateLimit
from attest_web.middleware.rate_limit import RateLimiter
from tests.addons.conftest import MakeFlow


@pytest.fixture
def addon() -> RateLimit:
    return RateLimit(RateLimiter(1, 1), ClientAddresses(trust_proxy=True))


def status(addon: RateLimit, flow: http.HTTPFlow) -> int | None:
    flow.client_conn.peername = ("10.0.0.1", 4711)
    addon.requestheaders(flow)
    return flow.response.status_code if flow.response is not None else None


def forwarded(make_flow: MakeFlow, *lines: str) -> http.HTTPFlow:
    flow = make_flow()
    flow.request.headers.set_all("x-forwarded-for", lines)
    return flow


def test_rate_limit_uses_the_last_entry_of_the_last_x_forwarded_for_line(addon: RateLimit, make_flow: MakeFlow) -> None:
    assert status(addon, forwarded(make_flow, "198.51.100.1")) is None
    assert status(addon, forwarded(make_flow, "198.51.100.9", "198.51.100.8, 198.51.100.1")) == 429
    assert status(addon, forwarded(make_flow, "198.51.100.1, 198.51.100.1", "198.51.100.2")) is None


def test_rate_limit_invalid_x_forwarded_for_counts_for_the_peer(addon: RateLimit, make_flow: MakeFlow) -> None:
    assert status(addon, forwarded(make_flow, "\udcff\udcfe")) is None
    assert status(addon, make_flow()) == 429


def test_rate_limit_ignores_requests_already_answered_or_failed(addon: RateLimit, make_flow: MakeFlow) -> None:
    refused = make_flow()
    refused.error = mitm_flow.Error("bad headers")
    assert status(addon, refused) is None
    answered = make_flow()
    answered.response = http.Response.make(503)
    assert status(addon, answered) == 503
    assert status(addon, make_flow()) is None


def test_rate_limit_exempts_the_exact_health_path_with_any_query(addon: RateLimit, make_flow: MakeFlow) -> None:
    assert status(addon, make_flow()) is None
    assert status(addon, make_flow(method="GET", path="/health?x=1")) is None
    for path in ("/health/", "//health", "/healthz", "/v1/models"):
        assert status(addon, make_flow(method="GET", path=path)) == 429


def test_rate_limit_applies_to_a_client_without_an_address(addon: RateLimit, make_flow: MakeFlow) -> None:
    for expected in (None, 429):
        flow = make_flow()
        flow.client_conn.peername = None  # type: ignore[assignment]  # a connection can be gone that early
        addon.requestheaders(flow)
        assert (flow.response.status_code if flow.response else None) == expected


def test_rate_limit_counts_by_x_real_ip(addon: RateLimit, make_flow: MakeFlow) -> None:
    assert status(addon, make_flow(x_real_ip="198.51.100.1")) is None
    assert status(addon, make_flow(x_real_ip="198.51.100.1")) == 429
    assert status(addon, make_flow(x_real_ip="198.51.100.2")) is None


def test_rate_limit_has_a_separate_budget_for_signature_requests(addon: RateLimit, make_flow: MakeFlow) -> None:
    assert [status(addon, make_flow()) for _ in range(2)] == [None, 429]
    fetched = [status(addon, make_flow(method="GET", path="/v1/signature/x?signing_algo=ecdsa")) for _ in range(2)]
    assert fetched == [None, 429]


def test_rate_limit_counts_an_unreadable_request_for_the_peer(addon: RateLimit, make_flow: MakeFlow) -> None:
    flow = make_flow()
    flow.client_conn.peername = ("10.0.0.1", 4711)
    addon.unreadable(flow.client_conn)
    assert status(addon, flow) == 429
