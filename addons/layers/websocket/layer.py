"""WebSockets: passes the bytes of both directions on as they come, and has the exchange signed when it is closed.

mitmproxy's own layer collects every message whole and keeps all of them in the flow. This one keeps nothing: what it
reads is hashed, and let go at once. Its states are those of RFC 6455, 7: open, closing when a Close frame has come from
one side, closed when one has come from both. The exchange is signed on the way from closing to closed, before the last
bytes for the client leave, whether they are the server's Close frame or the end of the connection.
"""

import hashlib
import time
from concurrent.futures import Future
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketStartHook
from mitmproxy.websocket import WebSocketData
from wsproto.frame_protocol import CloseReason, FrameProtocol

from addons.layers.websocket.frames import FrameReader, State
from addons.signing.store_hook import StoringHook


class WebsocketSigner(Protocol):
    """Who signs the exchange."""

    def sign_websocket(self, flow: http.HTTPFlow, client_sha256: str, server_sha256: str) -> Future[None] | None:
        """Sign an exchange that was properly closed, and store the signature. Never raises.

        Args:
            flow: The handshake.
            client_sha256: SHA-256 in hex of the payload of all of the client's data frames, one after the other.
            server_sha256: The same of the server's.

        Returns:
            What is done when the client may have the rest; None where it may at once.
        """

    def leave_websocket(self, flow: http.HTTPFlow, reason: str) -> None:
        """Take note that an exchange is over and is not signed."""


class WebsocketRevoked(events.MessageInjected[None]):
    """The token that a WebSocket was opened with is none any more. `Proxyserver.inject_event` takes it there."""


class _Direction:
    """What comes from one side, and goes to the other."""

    def __init__(self, source: Connection, target: Connection, from_client: bool) -> None:
        self.source = source
        self.target = target
        self.from_client = from_client
        self.sha256 = hashlib.sha256()
        # What is to be shown of the plaintext, where it may be shown, is to be had here.
        self.reader = FrameReader(from_client, self.sha256.update)

    def close_frame(self, code: CloseReason) -> bytes:
        """A Close frame of our own, for the target; masked, where that is the server."""
        return bytes(FrameProtocol(client=self.from_client, extensions=[]).close(code))


class SignedWebsocketLayer(layer.Layer):
    """One WebSocket, from the end of its handshake on."""

    def __init__(self, context: Context, flow: http.HTTPFlow, signer: WebsocketSigner) -> None:
        """Make the layer.

        Args:
            context: That of the HTTP stream; both connections are open.
            flow: The handshake. Its `websocket` is filled in, but for the messages.
            signer: Signs the exchange.
        """
        super().__init__(context)
        self.flow = flow
        self._signer = signer
        self._websocket = flow.websocket = flow.websocket or WebSocketData()
        self._client = _Direction(context.client, context.server, from_client=True)
        self._server = _Direction(context.server, context.client, from_client=False)
        self._ended = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield WebsocketStartHook(self.flow)
        elif isinstance(event, WebsocketRevoked) and not self._ended:
            yield from self._fail(self._server, self._client, CloseReason.POLICY_VIOLATION, "its token was revoked")
        elif self._ended or not isinstance(event, events.ConnectionEvent):
            pass  # what an operator injects is in neither hash, and goes nowhere
        else:
            came, other = self._client, self._server
            if event.connection == self.context.server:
                came, other = other, came
            if isinstance(event, events.DataReceived):
                yield from self._relay(came, other, event.data)
            elif isinstance(event, events.ConnectionClosed) and came.reader.state is not State.CLOSED:
                yield from self._end(CloseReason.ABNORMAL_CLOSURE, came, "the exchange was cut short")

    def _relay(self, came: _Direction, other: _Direction, data: bytes) -> layer.CommandGenerator[None]:
        was_open = came.reader.state is State.OPEN
        if passed := came.reader.feed(data):
            yield commands.SendData(came.target, passed)
        if came.reader.state is State.FAILED:
            yield from self._fail(came, other, CloseReason.PROTOCOL_ERROR, "a WebSocket frame was not valid")
        elif came.reader.state is State.CLOSED and was_open:
            if other.reader.state is State.CLOSED:
                yield from self._close(came, other)
            else:
                yield commands.SendData(came.target, came.reader.close_frame)

    def _close(self, last: _Direction, first: _Direction) -> layer.CommandGenerator[None]:
        """Complete the closing handshake (RFC 6455, 7.1.4): the signature first."""
        stored = self._signer.sign_websocket(
            self.flow, self._client.sha256.hexdigest(), self._server.sha256.hexdigest()
        )
        if stored is not None:
            yield StoringHook(stored)
        yield commands.SendData(last.target, last.reader.close_frame)
        yield from self._end(first.reader.close_code, first, None)

    def _fail(self, came: _Direction, other: _Direction, code: CloseReason, why: str) -> layer.CommandGenerator[None]:
        """Fail the connection (RFC 6455, 7.1.7), and tell both sides, as far as they can still be written to."""
        for direction in (came, other):
            # Within a frame, or behind another Close frame, it would be something else.
            if direction.reader.between_frames and direction.reader.state is not State.CLOSED:
                yield commands.SendData(direction.target, direction.close_frame(code))
        yield from self._end(code, came, why)

    def _end(self, code: int, by: _Direction, unsigned: str | None) -> layer.CommandGenerator[None]:
        self._ended = True
        if unsigned is not None:
            self._signer.leave_websocket(self.flow, unsigned)
        self._websocket.timestamp_end = time.time()
        self._websocket.closed_by_client = by.from_client
        self._websocket.close_code = code
        self._websocket.close_reason = ""  # it is said by a client or a model, and would be shown and logged
        for connection in (self.context.server, self.context.client):
            if connection.state is not ConnectionState.CLOSED:
                yield commands.CloseConnection(connection)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
