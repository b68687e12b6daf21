"""WebSockets: forwards the bytes of both directions as they arrive, and has the exchange signed when it is closed.

mitmproxy's own layer buffers every message and keeps all of them in the flow. This layer keeps nothing: it hashes the
bytes and forwards them at once. Its states are those of RFC 6455, 7: open, closing after a Close frame from one side,
closed after Close frames from both. The exchange is signed between closing and closed, before the last bytes for the
client are sent, whether these are the server's Close frame or the end of the connection.
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
    """Signs the exchange of a WebSocket."""

    def sign_websocket(self, flow: http.HTTPFlow, client_sha256: str, server_sha256: str) -> Future[None] | None:
        """Sign an exchange that was properly closed, and store the signatures. Never raises.

        Args:
            flow: The flow of the handshake.
            client_sha256: SHA-256 in hex of the concatenated payloads of the client's data frames.
            server_sha256: The same of the server's data frames.

        Returns:
            Resolved when the last bytes may be sent to the client; None if they may be sent at once.
        """

    def leave_websocket(self, flow: http.HTTPFlow, reason: str) -> None:
        """Note that an exchange has ended and is not signed."""


class WebsocketRevoked(events.MessageInjected[None]):
    """The token of a WebSocket was revoked. Sent to its layer by `Proxyserver.inject_event`."""


class _Direction:
    """One direction of the connection."""

    def __init__(self, source: Connection, target: Connection, from_client: bool) -> None:
        self.source = source
        self.target = target
        self.from_client = from_client
        self.sha256 = hashlib.sha256()
        # The reader calls this with the plaintext, which an inspection could use, too.
        self.reader = FrameReader(from_client, self.sha256.update)

    def close_frame(self, code: CloseReason) -> bytes:
        """A Close frame of this proxy's own for the target; masked if that is the server."""
        return bytes(FrameProtocol(client=self.from_client, extensions=[]).close(code))


class SignedWebsocketLayer(layer.Layer):
    """One WebSocket, from the end of its handshake on."""

    def __init__(self, context: Context, flow: http.HTTPFlow, signer: WebsocketSigner) -> None:
        """Make the layer.

        Args:
            context: The context of the HTTP stream; both connections are open.
            flow: The flow of the handshake. Its `websocket` is filled in, except for the messages.
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
            pass  # messages that an operator injects are not signed, so they are not sent
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
        """Complete the closing handshake (RFC 6455, 7.1.4), after the signature is stored."""
        stored = self._signer.sign_websocket(
            self.flow, self._client.sha256.hexdigest(), self._server.sha256.hexdigest()
        )
        if stored is not None:
            yield StoringHook(stored)
        yield commands.SendData(last.target, last.reader.close_frame)
        yield from self._end(first.reader.close_code, first, None)

    def _fail(self, came: _Direction, other: _Direction, code: CloseReason, why: str) -> layer.CommandGenerator[None]:
        """Fail the connection (RFC 6455, 7.1.7), with a Close frame to each side if one can still be sent."""
        for direction in (came, other):
            # Within a frame, or after another Close frame, it would not be read as a Close frame.
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
        self._websocket.close_reason = ""  # it comes from a client or an upstream, and would be shown and logged
        for connection in (self.context.server, self.context.client):
            if connection.state is not ConnectionState.CLOSED:
                yield commands.CloseConnection(connection)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
