"""The composition root: the order of the addons, and the limits that each worker gets."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons

from addons import chain as chain_module
from addons.access.connection_limit import ConnectionLimit
from addons.access.gate import Gate
from addons.chain import SIDE_PORT_LEAST, make_chain
from addons.layers.connections.client_connections import ClientConnections
from addons.layers.reverse_proxy import ReverseProxy
from addons.lifecycle.drain import Drain
from addons.lifecycle.worker_context import WorkerContext
from addons.observability.observer import Observer
from addons.signing.signer import Signer
from attest_web.settings import Settings, SettingsError, load_settings

type Make = Callable[..., Sequence[Any]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes chains, and ends them."""
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
    """How many more connections a limit has room for."""
    count = 0
    while limit.refusal(client) is None:
        limit.take(client)
        count += 1
    return count


@pytest.mark.parametrize(("workers", "expected"), [(1, 400), (4, 100), (3, 134)])
def test_connections_for_all_workers_are_divided_among_them(make: Make, workers: int, expected: int) -> None:
    chain = make(WorkerContext(workers=workers), max_connections="400")
    assert room(find(chain, ClientConnections)._ports.proxied) == expected


def test_a_clients_share_of_the_connections_is_divided_among_the_workers_too(make: Make) -> None:
    chain = make(WorkerContext(workers=4), max_connections="400", max_connections_per_client="40")
    assert room(find(chain, ClientConnections)._ports.proxied, "203.0.113.1") == 10


def test_a_client_has_a_quarter_by_default_and_all_where_the_settings_say_so(make: Make) -> None:
    chain = make(max_connections="400")
    assert room(find(chain, ClientConnections)._ports.proxied, "203.0.113.1") == 100
    chain = make(max_connections="400", max_connections_per_client="0")
    assert room(find(chain, ClientConnections)._ports.proxied, "203.0.113.1") == 400


def test_the_side_port_has_room_for_probes_however_few_connections_there_may_be(make: Make) -> None:
    chain = make(max_connections="8")
    assert room(find(chain, ClientConnections)._ports.side) == SIDE_PORT_LEAST


@pytest.mark.parametrize(("workers", "expected"), [(1, 2**22), (4, 2**20)])
def test_the_memory_for_waiting_bodies_is_divided_among_the_workers(make: Make, workers: int, expected: int) -> None:
    chain = make(WorkerContext(workers=workers), max_buffered_body_bytes=str(2**22))
    budget = find(chain, ReverseProxy)._config.bodies.budget
    body = budget.begin(lambda: None)
    assert body.add(expected)
    assert not body.add(1)


def test_a_request_meets_the_gate_before_the_signer_and_the_drain_before_both(make: Make) -> None:
    chain = make()
    kinds = [type(addon) for addon in chain]
    order = [kinds.index(kind) for kind in (ClientConnections, ReverseProxy, Drain, Gate, Signer, Observer)]
    assert order == sorted(order)


def test_addresses_that_make_no_sense_are_refused_before_anything_is_made(make: Make) -> None:
    with pytest.raises(SettingsError) as raised:
        make(vllm_rerank_url="ftp://x/y")
    assert "VLLM_RERANK_URL" in str(raised.value.problems)
