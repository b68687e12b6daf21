from urllib.parse import urlsplit

import pytest
from mitmproxy import flow as mitm_flow

from addons.exchange.attempt import Target
from addons.exchange.exchanges import Exchanges
from addons.messages.responses import reject
from addons.routing.routes import IMAGES
from addons.upstream.selection import UpstreamSelection
from addons.upstream.single import SingleUpstream
from tests.addons.conftest import MakeFlow


@pytest.fixture
def selection(exchanges: Exchanges) -> UpstreamSelection:
    return UpstreamSelection(SingleUpstream({IMAGES: urlsplit("https://img.example/v9/make")}), exchanges)


def test_upstream_selection_redirects_a_request_and_records_its_target(
    make_flow: MakeFlow, selection: UpstreamSelection, exchanges: Exchanges
) -> None:
    flow = make_flow(path="/v1/images/generations?x=1", host="vllm")
    route = exchanges.of(flow).route
    selection.requestheaders(flow)
    assert flow.request.url == "https://img.example/v9/make?x=1"
    assert flow.request.headers["host"] == "img.example"
    assert exchanges.of(flow).target == Target("https", "img.example", 443, "/v9/make")
    assert exchanges.of(flow).route is route, "the route stays that of what the client has asked for"


def test_upstream_selection_leaves_a_request_answered_by_the_proxy_unchanged(
    make_flow: MakeFlow, selection: UpstreamSelection, exchanges: Exchanges
) -> None:
    refused, failed = (make_flow(path="/v1/images/generations") for _ in range(2))
    reject(refused, 401, "no")
    failed.error = mitm_flow.Error("gone")
    page = make_flow(method="GET", path="/v1/signature/x")
    for flow in (refused, failed, page):
        before = flow.request.url
        selection.requestheaders(flow)
        assert flow.request.url == before
        assert exchanges.of(flow).target is None
