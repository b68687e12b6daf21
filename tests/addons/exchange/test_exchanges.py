"""The one look-up from a flow to its record: when a record is made, how long it lasts, and where it does not appear."""

import gc
import weakref

from mitmproxy.test import tflow

from addons.bodies.pipeline import BodyPipeline
from addons.exchange.exchanges import Exchanges
from addons.exchange.token_times import TokenTimes
from tests.addons.conftest import MakeFlow


def test_exchange_is_created_with_its_route_and_peer_at_the_first_lookup(
    exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow = make_flow()
    assert exchanges.find(flow) is None
    exchange = exchanges.of(flow)
    assert (exchange.route.name, exchange.peer) == ("/v1/chat/completions", flow.client_conn.peername)
    assert exchanges.of(flow) is exchanges.find(flow) is exchange


def test_exchange_keeps_its_first_route_when_the_request_is_redirected(
    exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow = make_flow(path="/v1/tokenize")
    before = exchanges.of(flow).route
    flow.request.path = "/tokenize"
    assert exchanges.of(flow).route is before
    assert exchanges.of(make_flow(path="/tokenize")).route is not before


def test_exchanges_of_flows_with_equal_requests_are_separate(exchanges: Exchanges) -> None:
    flow = tflow.tflow()
    assert exchanges.of(flow) is not exchanges.of(flow.copy())


def test_exchange_of_a_copied_flow_is_not_found(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flow = make_flow()
    exchanges.of(flow)
    assert exchanges.find(flow.copy()) is None
    assert exchanges.find(tflow.ttcpflow()) is None
    assert exchanges.find(None) is None


def test_exchange_is_freed_with_its_flow_without_garbage_collection(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flow = make_flow()
    body = exchanges.of(flow).request_body = BodyPipeline()
    body_is = weakref.ref(body)
    gc.disable()
    try:
        del flow, body
        assert body_is() is None
        assert exchanges.flows() == []
    finally:
        gc.enable()


def test_exchanges_lists_flows_in_order_of_arrival(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flows = [make_flow() for _ in range(5)]
    for flow in flows:
        exchanges.of(flow)
    assert exchanges.flows() == flows


def test_exchange_is_not_part_of_its_flows_serialised_state(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flow = make_flow(authorization="Bearer s3cret")
    before = flow.get_state()
    exchange = exchanges.of(flow)
    exchange.authorization, exchange.receipt_id, exchange.request_body = "Bearer s3cret", "rcpt-1", BodyPipeline()
    assert flow.get_state() == before
    assert flow.metadata == {}


def test_open_streams_counts_responses_that_have_begun_and_not_ended(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flows = [make_flow() for _ in range(4)]
    waiting, streaming, ended, other = map(exchanges.of, flows)
    for exchange in (waiting, streaming, ended):
        exchange.times = TokenTimes([1.0])
    for exchange in (streaming, ended, other):
        exchange.upstream_status = 200
    ended.ended = True
    assert exchanges.open_streams() == 1
