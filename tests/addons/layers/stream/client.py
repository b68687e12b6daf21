"""A client connection of HTTP/1.1 whose requests go to the upstream, in memory."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.layers.http_layer import ApiHttpLayer
from addons.layers.websocket.layer import WebsocketSigner
from addons.routing.routes import Router
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.wire import Wire, make_config, make_context, no_reading

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Client:
    """A client, its connection and its requests.

    Attributes:
        flows: Its requests, in the order in which they came.
        hooks: The names of the hooks of requests and responses that have been called.
    """

    def __init__(
        self,
        limit: int = 1000,
        *,
        streams: bool = True,
        signer: WebsocketSigner | None = None,
        **config: Any,
    ) -> None:
        """Connect.

        Args:
            limit: Largest request body.
            streams: Whether request bodies go on as they come.
            signer: Signs WebSockets.
            config: As for `make_config`.
        """
        self.flows: list[http.HTTPFlow] = []
        self.hooks: list[str] = []
        self.exchanges = Exchanges(Router().route_of)
        layers = make_config(limit, exchanges=self.exchanges, **config)
        self.wire = Wire(ApiHttpLayer(make_context(), layers, KeepAliveLimit(10), signer or Mock(), no_reading()))
        self._act: dict[str, Callable[[http.HTTPFlow], None]] = {}
        for name in ("requestheaders", "request", "responseheaders", "response", "error"):
            self.wire.hooks[name] = partial(self._take, name)
        self.at("requestheaders", lambda flow: setattr(flow.request, "stream", streams))

    def at(self, hook: str, act: Callable[[http.HTTPFlow], None]) -> None:
        """Set what an addon does in a hook."""
        self._act[hook] = act

    def send(self, data: bytes) -> None:
        """Send bytes from the client."""
        self.wire.receive(self.wire.client, data)

    def _take(self, name: str, flow: http.HTTPFlow) -> None:
        self.hooks.append(name)
        if name == "requestheaders":
            self.flows.append(flow)
        if act := self._act.get(name):
            act(flow)
