from concurrent.futures import Future

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebSocketMessageInjected, WebsocketStartHook
from mitmproxy.test import tflow
from mitmproxy.test.taddons import context as options_context
from mitmproxy.websocket import WebSocketMessage

from addons.layers.websocket.layer import SignedWebsocketLayer, WebsocketRevoked
from addons.signing.store_hook import StoringHook
from tests.support.frames import CLOSE, TEXT, frame
from tests.support.verification import sha256


class Signer:
    """Records its calls."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []
        self.stored: Future[None] | None = None

    def sign_websocket(self, flow: http.HTTPFlow, client_sha256: str, server_sha256: str) -> Future[None] | None:
        self.done.append((client_sha256, server_sha256))
        return self.stored

    def leave_websocket(self, flow: http.HTTPFlow, reason: str) -> None:
        self.done.append((reason,))


class Connections:
    """A layer that has been started, between a client and a server."""

    def __init__(self) -> None:
        self.flow = tflow.tflow(resp=True)
        self.signer = Signer()
        with options_context() as addon_context:
            self.context = Context(self.flow.client_conn, addon_context.options)
        self.context.server = self.flow.server_conn
        self.context.client.state = self.context.server.state = ConnectionState.OPEN
        self.layer = SignedWebsocketLayer(self.context, self.flow, self.signer)
        [hook] = self.layer.handle_event(events.Start())
        assert isinstance(hook, WebsocketStartHook)
        assert list(self.layer.handle_event(events.HookCompleted(hook))) == []

    def client_says(self, data: bytes) -> list[commands.Command]:
        return list(self.layer.handle_event(events.DataReceived(self.context.client, data)))

    def server_says(self, data: bytes) -> list[commands.Command]:
        return list(self.layer.handle_event(events.DataReceived(self.context.server, data)))


def test_websocket_layer_signs_before_the_last_close_frame_is_sent() -> None:
    there = Connections()
    there.client_says(frame(TEXT, b"a"))
    there.server_says(frame(TEXT, b"b", mask=None))
    there.client_says(frame(CLOSE))
    assert there.signer.done == []
    commands_of_the_end = there.layer.handle_event(events.DataReceived(there.context.server, frame(CLOSE, mask=None)))
    first = next(commands_of_the_end)
    assert isinstance(first, commands.SendData)
    assert (first.connection, first.data) == (there.context.client, frame(CLOSE, mask=None))
    assert there.signer.done == [(sha256(b"a"), sha256(b"b"))]
    *closing, end = commands_of_the_end
    assert [type(command) for command in closing] == [commands.CloseConnection] * 2
    assert isinstance(end, WebsocketEndHook)
    assert there.flow.websocket is not None
    assert (there.flow.websocket.close_code, there.flow.websocket.closed_by_client) == (1005, True)


@pytest.mark.parametrize("client_closes_first", [True, False])
def test_websocket_layer_last_close_frame_waits_until_the_signature_is_stored(client_closes_first: bool) -> None:
    there = Connections()
    there.signer.stored = Future()
    first, last = there.client_says, there.server_says
    close = frame(CLOSE, mask=None)
    if client_closes_first:
        first(frame(CLOSE))
    else:
        first, last = last, first
        first(close)
        close = frame(CLOSE)
    [hook] = last(close)
    assert isinstance(hook, StoringHook)
    assert hook.stored is there.signer.stored
    assert there.server_says(frame(TEXT, b"late", mask=None)) == []
    ending = list(there.layer.handle_event(events.HookCompleted(hook)))
    assert isinstance(ending[0], commands.SendData)
    assert ending[0].data == close
    assert [type(command) for command in ending[1:-1]] == [commands.CloseConnection] * 2


def test_websocket_layer_drops_injected_messages() -> None:
    """It would be in neither hash."""
    there = Connections()
    injected = WebSocketMessageInjected(there.flow, WebSocketMessage(TEXT, True, b"not said"))
    assert list(there.layer.handle_event(injected)) == []
    there.client_says(frame(CLOSE))
    there.server_says(frame(CLOSE, mask=None))
    assert there.signer.done == [(sha256(b""), sha256(b""))]


def test_websocket_layer_revoked_token_closes_both_sides_with_1008_unsigned() -> None:
    there = Connections()
    there.client_says(frame(TEXT, b"a"))
    there.server_says(frame(TEXT, b"b" * 100, mask=None)[:50])
    ending = list(there.layer.handle_event(WebsocketRevoked(there.flow, None)))
    sent = {command.connection: command.data for command in ending if isinstance(command, commands.SendData)}
    assert sent.keys() == {there.context.server}, "the client is within a frame"
    assert sent[there.context.server][:2] == b"\x88\x82"
    assert there.signer.done == [("its token was revoked",)]
    assert there.flow.websocket is not None
    assert (there.flow.websocket.close_code, there.flow.websocket.closed_by_client) == (1008, False)
    assert list(there.layer.handle_event(WebsocketRevoked(there.flow, None))) == []


def test_websocket_layer_drops_events_after_the_end() -> None:
    there = Connections()
    [*_, end] = there.client_says(frame(3))
    assert there.signer.done == [("a WebSocket frame was not valid",)]
    assert isinstance(end, WebsocketEndHook)
    assert list(there.layer.handle_event(events.HookCompleted(end))) == []
    assert there.server_says(frame(TEXT, b"late", mask=None)) == []
    assert list(there.layer.handle_event(events.ConnectionClosed(there.context.server))) == []
    assert len(there.signer.done) == 1
    assert there.flow.live is False
