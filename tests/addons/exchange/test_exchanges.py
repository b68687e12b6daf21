"""The one look-up from a flow to its record: when a record begins, what it lasts as long as, and what it is not in."""

import gc
import weakref

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from addons.bodies.pipeline import BodyPipeline
from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.exchange.route import Kind, Route
from addons.exchange.token_times import TokenTimes
from tests.addons.conftest import MakeFlow

ROUTE = Route(Kind.SIGNED, "/v1/chat/completions")


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


def test_what_the_layers_do_with_a_flow_is_noted_in_its_record(exchanges: Exchanges, make_flow: MakeFlow) -> None:
    flow = make_flow()
    exchanges.mark_changed(flow)
    exchanges.mark_left(flow)
    exchanges.mark_answered(flow, http.Response.make(504))
    exchange = exchanges.of(flow)
    assert (exchange.changed, exchange.left_by_client, exchange.layers_status) == (True, True, 504)


@pytest.mark.parametrize(
    ("state", "reason", "found"),
    [
        (None, "cut short", ("unsigned", "cut short")),
        ("pending", "cut short", ("unsigned", "cut short")),
        ("signed", "cut short", ("signed", None)),
    ],
)
def test_what_has_been_signed_stays_signed(state: str | None, reason: str, found: tuple[str, str | None]) -> None:
    exchange = Exchange(ROUTE, state=state)  # type: ignore[arg-type]
    exchange.leave_unsigned(reason)
    assert (exchange.state, exchange.reason) == found


def test_a_record_shows_nothing_of_its_fields() -> None:
    assert "s3cret" not in repr(Exchange(ROUTE, authorization="Bearer s3cret", credential="s3cret"))


def test_a_response_is_made_here_unless_the_upstream_has_answered() -> None:
    assert Exchange(ROUTE).made_here
    assert not Exchange(ROUTE, upstream_status=200).made_here


def test_a_websocket_is_one_whose_handshake_the_upstream_has_accepted() -> None:
    assert Exchange(ROUTE, upstream_status=101).is_websocket
    assert not Exchange(ROUTE, upstream_status=200).is_websocket
