"""The production launcher's proxy server: mitmproxy's, with hooks that are called inline.

mitmproxy runs each hook in a task of its own, and the layer continues in a later iteration of the event loop. Most
hooks await nothing, so here they are called inline and the layer continues at once; the others get a task.

The mode and the server instance are extensions that mitmproxy supports: it finds subclasses by their names. The mode
differs from mitmproxy's reverse mode only in its name and its transport.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mitmproxy_rs
from mitmproxy import ctx, flow
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.utils import asyncio_utils

from addons.launcher.master import ProxyMaster
from addons.layers.connections.fast_path_writer import NEVER_FULL
from addons.layers.connections.inline_handler import InlineConnectionHandler
from attest_web.process.listening import BACKLOG, listen

if TYPE_CHECKING:
    from collections.abc import Coroutine

MODE = "proxyreverse"
"""Name of `ProxyReverseMode` in the option `mode`: `proxyreverse:http://vllm:8000`."""

_CHATTER = ("client connect", "client disconnect", "server connect ", "server disconnect ", "Streaming re")
"""Beginnings of the log lines that mitmproxy writes for every connection or request."""


class InlineHooks(layer.Layer):
    """A layer whose hooks are run inline."""

    def __init__(self, inner: layer.Layer, run: Callable[[commands.StartHook], bool]) -> None:
        """Wrap a layer.

        Args:
            inner: The layer.
            run: Runs a hook; returns False if the hook is still running, and will notify the connection handler.
        """
        # No super().__init__, which would add it to the context's layers, where each stands for a protocol.
        self.context = inner.context
        self._inner = inner
        self._run = run

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Pass an event to the layer; yield the commands for the connection handler."""
        return self._handle_event(event)  # this layer never pauses

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        waiting: deque[events.Event] = deque()
        while True:
            for command in self._inner.handle_event(event):
                if not isinstance(command, commands.StartHook):
                    yield command
                elif self._run(command) and command.blocking:
                    # The layer is still handling the event; as in mitmproxy, the completion follows after it.
                    waiting.append(events.HookCompleted(command))
            if not waiting:
                return
            event = waiting.popleft()


class InlineReverseProxy(layers.modes.ReverseProxy):
    """mitmproxy's outermost layer, which passes events directly to the next layer once that is known."""

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As in mitmproxy."""
        yield from super().handle_event(event)
        child = self.child_layer
        if isinstance(child, layer.NextLayer) and child.layer is not None and not (child._paused or self._paused):
            # Neither this layer nor the `NextLayer` waits for a command again; the layers below resume by themselves.
            self.handle_event = child.layer.handle_event  # type: ignore[method-assign]


class CachedContext(Context):
    """A context whose forks make no server connection of their own, which is never used."""

    def __init__(self, context: Context) -> None:
        """Copy another context."""
        self.client = context.client
        self.server = context.server
        self.options = context.options
        self.layers = context.layers.copy()

    def fork(self) -> "CachedContext":
        """As in mitmproxy."""
        return CachedContext(self)


class CachedConnectionHandler(InlineConnectionHandler, ProxyConnectionHandler):
    """A client's connection."""

    master: ProxyMaster

    def run_hook(self, hook: commands.StartHook) -> bool:
        """Call the addons; return False if a task completes the hook later."""
        (data,) = self.master.addons.arguments(hook)
        rest = self.master.addons.call(hook)
        is_flow = isinstance(data, flow.Flow)
        if rest is None and not (is_flow and data.intercepted):
            self.master.addons.tell_of_update(data)
            return True
        asyncio_utils.create_task(
            self._finish_hook(hook, data, rest),
            name=f"handle_hook({hook.name})",
            keep_ref=True,
            client=self.client.peername,
        )
        return False

    async def _finish_hook(
        self, hook: commands.StartHook, data: object, rest: "Coroutine[Any, Any, None] | None"
    ) -> None:
        with self.timeout_watchdog.disarm():
            if rest is not None:
                await rest
            self.master.addons.tell_of_update(data)
            if isinstance(data, flow.Flow):
                await data.wait_for_resume()
        if hook.blocking:
            await self.server_event(events.HookCompleted(hook))

    async def drain_writers(self) -> None:
        """Wait as in mitmproxy, if any transport is full."""
        for io in self.transports.values():
            # mitmproxy needs a lock and a coroutine for each connection, even if none is full.
            if isinstance(io.writer, asyncio.StreamWriter) and io.writer.transport.get_write_buffer_size() > NEVER_FULL:
                await super().drain_writers()  # type: ignore[no-untyped-call]
                return

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """Log a line; lines that every connection or request causes are logged only with `-v`."""
        if level == logging.INFO and message.startswith(_CHATTER):
            level = logging.DEBUG
        super().log(message, level, exc_info)


class ProxyReverseMode(ReverseMode):
    """mitmproxy's reverse mode, for `ProxyServerInstance`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transport_protocol = "tcp"  # for an https upstream, mitmproxy would listen for HTTP/3 too


class CachedProxyserver(Proxyserver):
    """mitmproxy's proxy server, which can listen on an inherited socket."""

    name = "proxyserver"

    def __init__(self, listener: socket.socket | None = None) -> None:
        """Make a server.

        Args:
            listener: A listening socket; None opens one by mitmproxy's options.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.listener = listener


class ProxyServerInstance(AsyncioServerInstance[ProxyReverseMode]):
    """A listening server for `ProxyReverseMode`."""

    manager: CachedProxyserver

    def make_top_layer(self, context: Context) -> layer.Layer:
        """As in mitmproxy."""
        return InlineReverseProxy(context)

    async def _start(self) -> None:
        try:
            await super()._start()
        except OSError as error:  # mitmproxy's advice does not apply here
            said = (error.strerror or str(error)).partition("\nTry specifying")[0]
            raise OSError(error.errno, f"{said}. Free it or set LISTEN_PORT to another") from error

    async def listen(self, host: str, port: int) -> list[Any]:
        """Listen on the inherited socket, or else at the given address; with a longer backlog than mitmproxy's."""
        listener = self.manager.listener or listen(host, port)
        return [await asyncio.start_server(self.handle_stream, sock=listener, backlog=BACKLOG)]

    async def handle_stream(
        self,
        reader: asyncio.StreamReader | mitmproxy_rs.Stream,
        writer: asyncio.StreamWriter | mitmproxy_rs.Stream | None = None,
    ) -> None:
        """Handle a client's connection, as in mitmproxy."""
        handler = CachedConnectionHandler(ctx.master, reader, writer, ctx.options, self.mode)  # type: ignore[no-untyped-call]
        top_layer = self.make_top_layer(CachedContext(handler.layer.context))
        handler.layer = InlineHooks(top_layer, handler.run_hook)
        with self.manager.register_connection(handler.client.id, handler):
            await handler.handle_client()
