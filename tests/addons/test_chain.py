"""The composition root: the order of the addons, and the limits that each worker gets."""

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons

from addons import chain as chain_module
from addons.access.connection_limit import ConnectionLimit
from addons.access.gate import Gate
from addons.chain import SIDE_PORT_LEAST, make_chain
from addons.exchange.exchanges import Exchanges
from addons.exchange.route import Route
from addons.layers.connections.client_connections import ClientConnections
from addons.layers.reverse_proxy import ReverseProxy
from addons.lifecycle.drain import Drain
from addons.lifecycle.worker_context import WorkerContext
from addons.observability.observer import Observer
from addons.routing.routes import Router
from addons.signing.signer import Signer
from attest_web.settings import Settings, SettingsError, load_settings
from tests.addons.conftest import MakeFlow, head

type Make = Callable[..., Sequence[Any]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes chains, and ends them after the test."""
    monkeypatch.setattr(chain_module, "allow_open_files", lambda wanted: wanted)
    made: list[Any] = []
    with taddons.context(Proxyserver()) as tctx:
        tctx.options.update(mode=["reverse:http://upstream:9000"])

        def make(context: WorkerContext | None = None, **settings: str) -> Sequence[Any]:
            given = {"model_name": "m", "token": "t", "dev": "1", "attest_port": "0", **settings}
            chain = make_chain(load_settings(Settings, given), context or WorkerContext())
            made.extend(chain)
            return chain

        yield make
        for addon in made:
            if type(addon).__name__ in ("AttestationPages", "ManagementServer"):
                addon.done()


def find[T](chain: Sequence[Any], kind: type[T]) -> T:
    [found] = [addon for addon in chain if isinstance(addon, kind)]
    return found


def room(limit: ConnectionLimit, client: str | None = None) -> int:
    """Number of further connections that a limit accepts."""
    count = 0
    while limit.refusal(client) is None:
        limit.take(client)
        count += 1
    return count


@pytest.mark.parametrize(("workers", "expected"), [(1, 400), (4, 100), (3, 134)])
def test_chain_divides_max_connections_among_workers(make: Make, workers: int, expected: int) -> None:
    chain = make(WorkerContext(workers=workers), max_connections="400")
    assert room(find(chain, ClientConnections)._ports.proxied) == expected


def test_chain_divides_the_per_client_connection_share_among_workers(make: Make) -> None:
    chain = make(WorkerContext(workers=4), max_connections="400", max_connections_per_client="40")
    assert room(find(chain, ClientConnections)._ports.proxied, "203.0.113.1") == 10


def test_chain_client_share_is_a_quarter_by_default_and_unlimited_if_zero(make: Make) -> None:
    chain = make(max_connections="400")
    assert room(find(chain, ClientConnections)._ports.proxied, "203.0.113.1") == 100
    chain = make(max_connections="400", max_connections_per_client="0")
    assert room(find(chain, ClientConnections)._ports.proxied, "203.0.113.1") == 400


def test_chain_side_port_has_a_minimum_number_of_connections(make: Make) -> None:
    chain = make(max_connections="8")
    assert room(find(chain, ClientConnections)._ports.side) == SIDE_PORT_LEAST


@pytest.mark.parametrize(("workers", "expected"), [(1, 2**22), (4, 2**20)])
def test_chain_divides_the_body_memory_among_workers(make: Make, workers: int, expected: int) -> None:
    chain = make(WorkerContext(workers=workers), max_buffered_body_bytes=str(2**22))
    budget = find(chain, ReverseProxy)._config.bodies.budget
    body = budget.begin(lambda: None)
    assert body.add(expected)
    assert not body.add(1)


def test_chain_orders_the_drain_before_the_gate_and_the_gate_before_the_signer(make: Make) -> None:
    chain = make()
    kinds = [type(addon) for addon in chain]
    order = [kinds.index(kind) for kind in (ClientConnections, ReverseProxy, Drain, Gate, Signer, Observer)]
    assert order == sorted(order)


def test_chain_invalid_endpoint_url_raises_a_settings_error(make: Make) -> None:
    with pytest.raises(SettingsError) as raised:
        make(vllm_rerank_url="ftp://x/y")
    assert "VLLM_RERANK_URL" in str(raised.value.problems)


def tables_of(chain: Sequence[Any]) -> list[Exchanges]:
    """The tables of exchanges that the addons of a chain use."""
    return [held for addon in chain for held in vars(addon).values() if isinstance(held, Exchanges)]


def call(chain: Sequence[Any], hook: str, flow: http.HTTPFlow) -> None:
    """Call a hook of all addons that have it, as mitmproxy does."""
    for addon in chain:
        if hasattr(addon, hook):
            getattr(addon, hook)(flow)


def modify(message: http.Message, piece: bytes) -> None:
    """Pass a piece of a body to its modifier, `b""` at the end."""
    assert callable(message.stream)
    message.stream(piece)


def test_all_addons_look_in_the_one_table_of_exchanges(make: Make) -> None:
    tables = tables_of(make())
    assert len(tables) >= 8
    assert len(set(map(id, tables))) == 1


def test_an_exchange_has_one_record_from_its_first_hook_to_its_last_and_its_route_is_found_once(
    make: Make, make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[http.HTTPFlow] = []
    find_route = Router.route_of

    def count(router: Router, flow: http.HTTPFlow) -> Route:
        found.append(flow)
        return find_route(router, flow)

    monkeypatch.setattr(Router, "route_of", count)
    chain = make()
    exchanges, flow = tables_of(chain)[0], make_flow(b"{}", authorization="Bearer t")
    call([find(chain, Drain)], "requestheaders", flow)
    exchange = exchanges.find(flow)
    assert exchange is not None
    call(chain, "requestheaders", flow)
    assert flow.response is None
    for piece in (b"{}", b""):
        modify(flow.request, piece)
    call(chain, "request", flow)
    flow.response = head()
    call(chain, "responseheaders", flow)
    for piece in (b'{"id":"chatcmpl-1"}', b""):
        modify(flow.response, piece)
    call(chain, "response", flow)
    assert found == [flow]
    assert exchanges.of(flow) is exchange
    assert (exchange.chat_id, exchange.state, exchange.status) == ("chatcmpl-1", "signed", 200)
    assert flow.metadata == {}


def test_nothing_is_left_of_an_exchange_when_its_flow_is_gone_without_a_last_hook(
    make: Make, make_flow: MakeFlow
) -> None:
    chain = make()
    exchanges, flow = tables_of(chain)[0], make_flow(b"{}", authorization="Bearer t")
    call(chain, "requestheaders", flow)
    call(chain, "request", flow)
    flow.response = head(content_type="text/event-stream")
    call(chain, "responseheaders", flow)
    assert exchanges.flows() == [flow]
    assert exchanges.open_streams() == 1
    del flow
    gc.collect()
    assert exchanges.flows() == []
    assert exchanges.open_streams() == 0
