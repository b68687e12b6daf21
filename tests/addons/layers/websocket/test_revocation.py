"""Which WebSockets get the event of a revoked token; tests/e2e/test_retirement.py tests how they end."""

import pytest
from mitmproxy import http
from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketData

from addons.exchange.exchanges import Exchanges
from addons.layers.websocket.layer import WebsocketRevoked
from addons.layers.websocket.revocation import Revocation
from addons.routing.routes import Router
from attest_web.middleware.auth import Tokens


class FakeProxyserver:
    """Writes down what it is to inject."""

    def __init__(self) -> None:
        self.connections: dict[str, object] = {}
        self.revoked: list[http.HTTPFlow] = []

    def inject_event(self, event: WebsocketRevoked) -> None:
        assert isinstance(event.flow, http.HTTPFlow)
        if event.flow.client_conn.id not in self.connections:
            raise ValueError("Flow is not from a live connection.")
        self.revoked.append(event.flow)


class Opened:
    """An addon, and the WebSockets that it has seen."""

    def __init__(self, proxyserver: FakeProxyserver) -> None:
        self._proxyserver = proxyserver
        self._tokens, self._exchanges = Tokens(["one", "two"]), Exchanges(Router().route_of)
        self.addon = Revocation(self._tokens, self._exchanges, proxyserver.inject_event)

    def ask(self, token: str) -> http.HTTPFlow:
        """Have a client begin a handshake."""
        flow = tflow.tflow()
        self._exchanges.of(flow).credential = self._tokens.credential(b"Bearer " + token.encode()) or ""
        self._proxyserver.connections[flow.client_conn.id] = object()
        return flow

    def open(self, token: str) -> http.HTTPFlow:
        """Have a client open a WebSocket."""
        flow = self.ask(token)
        self.begin(flow)
        return flow

    def begin(self, flow: http.HTTPFlow) -> None:
        """End a handshake."""
        flow.websocket = WebSocketData()
        self.addon.websocket_start(flow)


@pytest.fixture
def proxyserver() -> FakeProxyserver:
    return FakeProxyserver()


def test_websocket_revocation_notifies_only_websockets_with_a_revoked_token(proxyserver: FakeProxyserver) -> None:
    opened = Opened(proxyserver)
    one, two = opened.open("one"), opened.open("two")
    assert proxyserver.revoked == []
    opened.addon.replace_tokens(["two", "three"])
    assert proxyserver.revoked == [one]
    assert two not in proxyserver.revoked


def test_websocket_revocation_during_a_handshake_is_notified_when_the_websocket_starts(
    proxyserver: FakeProxyserver,
) -> None:
    opened = Opened(proxyserver)
    flow = opened.ask("one")
    opened.addon.replace_tokens(["two"])
    assert proxyserver.revoked == []
    opened.begin(flow)
    assert proxyserver.revoked == [flow]


def test_websocket_revocation_does_not_notify_an_ended_websocket(proxyserver: FakeProxyserver) -> None:
    opened = Opened(proxyserver)
    ended, gone = opened.open("one"), opened.open("one")
    assert ended.websocket is not None
    ended.websocket.timestamp_end = 1.0
    del proxyserver.connections[gone.client_conn.id]
    opened.addon.replace_tokens(["two"])
    assert proxyserver.revoked == []
