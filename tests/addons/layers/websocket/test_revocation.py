"""Which WebSockets are told that their token was revoked; tests/e2e/test_retirement.py has what becomes of them."""

from collections.abc import Iterator

import pytest
from mitmproxy import http
from mitmproxy.test import taddons, tflow

from addons.exchange.record import Exchanges
from addons.layers.websocket.layer import WebsocketRevoked
from addons.layers.websocket.revocation import Revocation
from attest_web.middleware.auth import Tokens


class FakeProxyserver:
    """Writes down what it is to inject."""

    name = "proxyserver"

    def __init__(self) -> None:
        self.connections: dict[str, object] = {}
        self.revoked: list[http.HTTPFlow] = []

    def inject_event(self, event: WebsocketRevoked) -> None:
        assert isinstance(event.flow, http.HTTPFlow)
        self.revoked.append(event.flow)


class Opened:
    """An addon, and the WebSockets that it has seen."""

    def __init__(self, proxyserver: FakeProxyserver) -> None:
        self._proxyserver = proxyserver
        self._tokens, self._exchanges = Tokens(["one", "two"]), Exchanges()
        self.addon = Revocation(self._tokens, self._exchanges)

    def open(self, token: str) -> http.HTTPFlow:
        flow = tflow.tflow()
        self._exchanges.of(flow).credential = self._tokens.credential(b"Bearer " + token.encode()) or ""
        self._proxyserver.connections[flow.client_conn.id] = object()
        return flow


@pytest.fixture
def proxyserver() -> Iterator[FakeProxyserver]:
    with taddons.context() as made:
        fake = FakeProxyserver()
        made.master.addons.add(fake)
        yield fake


def test_those_are_told_whose_token_is_none_any_more(proxyserver: FakeProxyserver) -> None:
    opened = Opened(proxyserver)
    one, two = opened.open("one"), opened.open("two")
    for flow in (one, two):
        opened.addon.websocket_start(flow)
    assert proxyserver.revoked == []
    opened.addon.replace_tokens(["two", "three"])
    assert proxyserver.revoked == [one]


def test_one_whose_handshake_was_under_way_is_told_when_it_begins(proxyserver: FakeProxyserver) -> None:
    opened = Opened(proxyserver)
    flow = opened.open("one")
    opened.addon.replace_tokens(["two"])
    assert proxyserver.revoked == []
    opened.addon.websocket_start(flow)
    assert proxyserver.revoked == [flow]


def test_one_that_has_ended_is_not_told(proxyserver: FakeProxyserver) -> None:
    opened = Opened(proxyserver)
    ended, gone = opened.open("one"), opened.open("one")
    for flow in (ended, gone):
        opened.addon.websocket_start(flow)
    opened.addon.websocket_end(ended)
    del proxyserver.connections[gone.client_conn.id]
    opened.addon.replace_tokens(["two"])
    assert proxyserver.revoked == []
