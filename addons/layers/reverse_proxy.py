"""Installs the layers of the proxy, and sets the options of mitmproxy that they depend on."""

import math
from collections.abc import Callable
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.options import Options
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.proxy.tunnel import LayerStack

from addons.layers.connections.client_tls import ApiClientTLSLayer
from addons.layers.connections.read_controller import ReadController
from addons.layers.http_layer import ApiHttpLayer
from addons.layers.layer_config import LayerConfig
from addons.layers.websocket.layer import WebsocketSigner
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.lifecycle.socket_leak_fix import SocketLeakFix
from addons.upstream.address import mode_problems
from addons.upstream.keep_alive import IdleConnectionCloser, KeepAliveLimit

_FORBIDDEN: dict[str, tuple[Any, str]] = {
    "stream_large_bodies": (None, "a request that streams past the signer cannot be signed"),
    "body_size_limit": (None, "it answers in HTML and holds for answers too; use VLLM_PROXY_MAX_REQUEST_SIZE"),
    "validate_inbound_headers": (True, "without it, requests can be smuggled past the gate"),
}
"""Options of mitmproxy that must not be changed: the required value of each, and the reason."""


def option_problems(options: Options) -> list[str]:
    """Problems of mitmproxy's own options, a line each."""
    problems = [
        f"the option {name} must be {wanted}: {why}"
        for name, (wanted, why) in _FORBIDDEN.items()
        if getattr(options, name) != wanted
    ]
    return problems + mode_problems(options)


class ReverseProxy:
    """Installs `addons.layers.http_layer` for each client connection."""

    def __init__(
        self,
        config: LayerConfig,
        max_keepalive: int,
        signer: WebsocketSigner,
        handlers: ConnectionHandlers,
        *,
        is_plain: Callable[[Client], bool] = lambda _: False,
        idle_timeout: float = math.inf,
    ) -> None:
        """Make the addon.

        Args:
            config: The limits and policies of the layers.
            max_keepalive: Most idle connections to upstreams that are kept, for all clients together.
            signer: Signs WebSockets.
            handlers: The handlers of the client connections.
            is_plain: Whether a client's connection was accepted at a port without TLS.
            idle_timeout: Seconds for which an idle connection is kept.
        """
        self._is_plain = is_plain
        self._config = config
        self._reading = ReadController(handlers)
        self._keep_alive = KeepAliveLimit(max_keepalive, idle_timeout, self._reading.has_ended)
        self._signer = signer
        self.addons = [
            self._reading,
            IdleConnectionCloser(self._keep_alive, self._reading.close),
            SocketLeakFix(handlers),
        ]
        self._settled: dict[str, Any] = {
            # "eager" opens the upstream connection before there is a request, and closes the client's if that fails:
            # without a 502, and without proof pages.
            "connection_strategy": "lazy",
            # By default, a connection without traffic for ten minutes is closed, even during a response. Longer than
            # the upstream's timeout, so that the client gets a 504 first.
            "tcp_timeout": int(config.upstream_timeout) + 2,
            "store_streamed_bodies": config.bodies.keeps_plaintext,
            # By default, clients with a public address are rejected.
            "block_global": False,
        }
        self._running = False

    def configure(self, updated: set[str]) -> None:
        """Reject changes of the options that are set at the start."""
        for name, wanted in self._settled.items():
            if self._running and name in updated and getattr(ctx.options, name) != wanted:
                raise exceptions.OptionsError(f"the option {name} must stay {wanted}")

    def next_layer(self, data: layer.NextLayer) -> None:
        """Choose the layers of a client connection, as mitmproxy does for a reverse proxy, with this package's own."""
        context = data.context
        mode = context.client.proxy_mode
        if data.layer is not None or not isinstance(mode, ReverseMode) or len(context.layers) != 1:
            return
        if not isinstance(context.layers[0], modes.ReverseProxy):
            return
        data_client = b"" if self._is_plain(context.client) else data.data_client()
        if 0 < len(data_client) < 3 and data_client[0] == 0x16:
            # The beginning of a ClientHello (RFC 8446, 5.1), too short for the addons that follow to tell it from HTTP.
            raise exceptions.AddonHalt
        # Each upstream connection gets its TLS layer when it is opened.
        context.server.tls = mode.scheme == "https"
        stack = LayerStack()
        if starts_like_tls_record(data_client):
            stack /= ApiClientTLSLayer(context)
        stack /= ApiHttpLayer(context, self._config, self._keep_alive, self._signer, self._reading)
        data.layer = stack[0]

    def running(self) -> None:
        """Set the required options."""
        # Unknown options belong to addons that the production launcher does not have.
        ctx.options.update(**{name: value for name, value in self._settled.items() if name in ctx.options})
        self._running = True
