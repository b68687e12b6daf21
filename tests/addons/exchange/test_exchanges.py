"""The one look-up from a flow to its record: when a record is made, how long it lasts, and where it does not appear."""

import gc
import weakref

from mitmproxy.test import tflow

from addons.bodies.pipeline import BodyPipeline
from addons.exchange.exchanges import Exchanges
from addons.exchange.token_times import TokenTimes
from tests.addons.conftest import MakeFlow


def test_a_record_begins_with_the_route_and_the_client_at_the_first_look_up(
    exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow = make_flow()
    assert exchanges.find(flow) is None
    exchange = exchanges.of(flow)
    assert (exchange.route.name, exchange.peer) == ("/v1/chat/completions", flow.client_conn.peername)
    assert exchanges.of(flow) is exchanges.find(flow) is exchange


def test_the_route_is_that_of_the_first_look_up_when_a_request_is_redirected(
    exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow = make_flow(path="/v1/tokenize")
    before = exchanges.of(flow).route
    flow.request.path = "/tokenize"
    assert exchanges.of(flow).route is before
    assert exchanges.of(make_flow(path="/tokenize")).route is not before


def test_two_flows_with_equal_requests_have_records_of_their_own(exchanges: Exchanges) -> None:
    flow = tflow.tflow()
    assert exchanges.of(flow) is not exchanges.of(flow.copy())


def test_a_copy_of_a_flow_has_no_record(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flow = make_flow()
    exchanges.of(flow)
    assert exchanges.find(flow.copy()) is None
    assert exchanges.find(tflow.ttcpflow()) is None
    assert exchanges.find(None) is None


def test_a_record_is_freed_with_its_flow_without_the_garbage_collector(
    exchanges: Exchanges, make_flow: MakeFlow
) -> None:
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


def test_all_flows_are_given_in_the_order_of_their_coming(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flows = [make_flow() for _ in range(5)]
    for flow in flows:
        exchanges.of(flow)
    assert exchanges.flows() == flows


def test_a_flow_is_serialised_as_if_it_had_no_record(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flow = make_flow(authorization="Bearer s3cret")
    before = flow.get_state()
    exchange = exchanges.of(flow)
    exchange.authorization, exchange.receipt_id, exchange.request_body = "Bearer s3cret", "rcpt-1", BodyPipeline()
    assert flow.get_state() == before
    assert flow.metadata == {}


def test_open_streams_are_those_whose_response_has_begun_and_not_ended(
    exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flows = [make_flow() for _ in range(4)]
    waiting, streaming, ended, other = map(exchanges.of, flows)
    for exchange in (waiting, streaming, ended):
        exchange.times = TokenTimes([1.0])
    for exchange in (streaming, ended, other):
        exchange.upstream_status = 200
    ended.ended = True
    assert exchanges.open_streams() == 1
