from collections.abc import Callable

import pytest
from mitmproxy import http

from addons.access.client_addresses import ClientAddresses, address_of
from tests.addons.conftest import MakeFlow

PROXY, CLIENT = "10.0.0.2", "203.0.113.7"


@pytest.fixture
def flow_from(make_flow: MakeFlow) -> Callable[..., http.HTTPFlow]:
    """Makes a flow of a client at an address."""

    def make(peer: str | None, **headers: str) -> http.HTTPFlow:
        flow = make_flow(**headers)
        flow.client_conn.peername = (peer, 4000) if peer is not None else None  # type: ignore[assignment]
        return flow

    return make


def test_client_address_is_taken_from_the_headers_of_a_private_network_proxy(
    flow_from: Callable[..., http.HTTPFlow],
) -> None:
    addresses = ClientAddresses(trust_proxy=True)
    for headers in ({"x_forwarded_for": f"198.51.100.1, {CLIENT}"}, {"x_real_ip": CLIENT}):
        flow = flow_from(PROXY, **headers)
        assert addresses.client_of(flow) == addresses.sharer_of(flow) == CLIENT


def test_client_address_without_trust_proxy_is_that_of_the_peer(flow_from: Callable[..., http.HTTPFlow]) -> None:
    addresses = ClientAddresses(trust_proxy=False)
    flow = flow_from(PROXY, x_forwarded_for=CLIENT, x_real_ip=CLIENT)
    assert addresses.client_of(flow) == addresses.sharer_of(flow) == PROXY
    assert addresses.sharer_of_peer(PROXY) == PROXY


def test_client_address_headers_from_a_public_peer_are_ignored(flow_from: Callable[..., http.HTTPFlow]) -> None:
    flow = flow_from(CLIENT, x_forwarded_for="198.51.100.1", x_real_ip="198.51.100.1")
    assert ClientAddresses(trust_proxy=True).client_of(flow) == CLIENT


def test_client_share_of_a_proxy_that_names_no_client_is_none(flow_from: Callable[..., http.HTTPFlow]) -> None:
    addresses = ClientAddresses(trust_proxy=True)
    assert addresses.sharer_of(flow_from(PROXY)) is None
    assert addresses.sharer_of_peer(PROXY) is None
    assert addresses.sharer_of_peer(CLIENT) == CLIENT
    assert addresses.client_of(flow_from(PROXY)) == PROXY


def test_connection_peer_of_an_ipv6_client_is_its_64_prefix(flow_from: Callable[..., http.HTTPFlow]) -> None:
    client = flow_from("2001:db8::5").client_conn
    assert ClientAddresses(trust_proxy=True).peer_of(client) == "2001:db8::/64"


def test_closed_connection_has_an_empty_address(flow_from: Callable[..., http.HTTPFlow]) -> None:
    flow = flow_from(None)
    addresses = ClientAddresses(trust_proxy=True)
    assert address_of(None) == addresses.client_of(flow) == addresses.peer_of(flow.client_conn) == ""
    assert address_of((CLIENT, 4000)) == CLIENT
