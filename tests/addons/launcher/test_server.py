"""How the launcher runs hooks and listens: with the same results as mitmproxy, in fewer iterations of the loop."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server_hooks import ClientConnectedHook
from mitmproxy.test import taddons, tflow

from addons.launcher.master import ProxyMaster
from addons.launcher.server import (
    MODE,
    CachedConnectionHandler,
    CachedContext,
    CachedProxyserver,
    InlineHooks,
    InlineReverseProxy,
    ProxyReverseMode,
    ProxyServerInstance,
)
from tests.addons.wire import make_context


class Asking(layer.Layer):
    """Runs two hooks one after the other at each event, and records their completions."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.notes: list[str] = []

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        for name in ("first", "second"):
            yield HttpRequestHook(tflow.tflow())
            self.notes.append(name)
        yield commands.SendData(self.context.client, b"done")


def sent(layer_: layer.Layer, event: events.Event) -> list[commands.Command]:
    return list(layer_.handle_event(event))


def test_inline_hooks_completed_at_once_continue_the_layer_within_the_event() -> None:
    inner, ran = Asking(make_context()), []

    def run(hook: commands.StartHook) -> bool:
        ran.append(hook)
        return True

    [command] = sent(InlineHooks(inner, run), events.Start())
    assert isinstance(command, commands.SendData)
    assert inner.notes == ["first", "second"]
    assert len(ran) == 2


def test_inline_hooks_pending_hook_blocks_the_layer_until_it_is_completed() -> None:
    inner = Asking(make_context())
    asked: list[commands.StartHook] = []

    def run(hook: commands.StartHook) -> bool:
        asked.append(hook)
        return len(asked) > 1

    wrapped = InlineHooks(inner, run)
    assert sent(wrapped, events.Start()) == []
    assert inner.notes == []
    [command] = sent(wrapped, events.HookCompleted(asked[0]))
    assert isinstance(command, commands.SendData)
    assert inner.notes == ["first", "second"]


def test_inline_reverse_proxy_is_bypassed_once_its_child_layer_is_known() -> None:
    with taddons.context(CachedProxyserver()) as tctx:
        tctx.options.update(connection_strategy="lazy")
        context = Context(make_context().client, tctx.options)
    outermost = InlineReverseProxy(context)
    wrapped = InlineHooks(outermost, lambda _: True)
    next_layers: list[layer.NextLayer] = []

    def run(hook: commands.StartHook) -> bool:
        if isinstance(hook, layer.NextLayerHook):
            hook.data.layer = Asking(hook.data.context)
            next_layers.append(hook.data)
        return True

    wrapped._run = run
    sent(wrapped, events.Start())
    sent(wrapped, events.DataReceived(context.client, b"GET"))
    [child] = next_layers
    assert child.layer is not None
    assert outermost.handle_event == child.layer.handle_event


def test_cached_context_fork_shares_connections_and_has_its_own_layers() -> None:
    context = CachedContext(make_context())
    fork = context.fork()
    fork.layers.append(Asking(fork))
    assert (fork.client, fork.server, fork.options) == (context.client, context.server, context.options)
    assert context.layers == []


def test_proxy_mode_equals_mitmproxys_reverse_mode_over_tcp_only() -> None:
    for upstream in ("http://vllm:9000", "https://vllm"):
        mode = ProxyMode.parse(f"{MODE}:{upstream}")
        assert isinstance(mode, ProxyReverseMode)
        assert mode.transport_protocol == "tcp"
        reverse: Any = ProxyMode.parse(f"reverse:{upstream}")
        assert (mode.scheme, mode.address) == (reverse.scheme, reverse.address)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_proxy_mode_server_creates_the_inline_reverse_proxy_layer() -> None:
    server: Any = ServerInstance.make(f"{MODE}:http://vllm:9000", CachedProxyserver())
    assert isinstance(server, ProxyServerInstance)
    context = make_context()
    context.client.proxy_mode = server.mode
    made = server.make_top_layer(context)
    assert isinstance(made, InlineReverseProxy)
    assert isinstance(made, layers.modes.ReverseProxy)


def test_server_of_a_worker_listens_on_the_given_socket(listener: socket.socket) -> None:
    async def main() -> None:
        server: Any = ServerInstance.make(f"{MODE}:http://vllm:9000", CachedProxyserver(listener))
        [listening] = await server.listen("203.0.113.1", 1)
        assert listening.sockets[0].getsockname() == listener.getsockname()
        listening.close()

    asyncio.run(main())


def test_server_port_in_use_error_names_the_setting(listener: socket.socket) -> None:
    async def main() -> None:
        with taddons.context(CachedProxyserver()) as tctx:
            tctx.options.update(listen_host="127.0.0.1", listen_port=listener.getsockname()[1])
            server: Any = ServerInstance.make(f"{MODE}:http://vllm:9000", CachedProxyserver())
            with pytest.raises(OSError, match=r"Address already in use\. Free it or set LISTEN_PORT to another"):
                await server.start()

    asyncio.run(main())


class Hooked:
    """An addon whose hook may have to be waited for."""

    def __init__(self, *, waits: bool) -> None:
        self.go = asyncio.Event()
        self.updates = 0
        self._waits = waits

    def request(self, flow: object) -> Any:
        return self.go.wait() if self._waits else None

    def update(self, flows: object) -> None:
        self.updates += 1


class Handler(CachedConnectionHandler):
    """A handler that records the events for its layer, and the log."""

    def __init__(self, master: ProxyMaster) -> None:
        self.master = master
        self.client = Client(peername=("client", 1), sockname=("proxy", 2), timestamp_start=1)
        self.timeout_watchdog = Watchdog()  # type: ignore[assignment]
        self.completed: asyncio.Queue[events.Event] = asyncio.Queue()

    async def server_event(self, event: events.Event) -> None:
        self.completed.put_nowait(event)


class Watchdog:
    """One that is disarmed while a hook is at work."""

    def disarm(self) -> Any:
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


async def handler_with(addon: Hooked) -> Handler:
    options = Options()
    master = ProxyMaster(options, CachedProxyserver())
    master.addons.add(addon)
    master.addons.settle()
    return Handler(master)


def test_handler_synchronous_hook_completes_at_once_and_updates_the_flow() -> None:
    async def main() -> None:
        addon = Hooked(waits=False)
        handler = await handler_with(addon)
        assert handler.run_hook(HttpRequestHook(tflow.tflow()))
        assert addon.updates == 1
        assert handler.completed.empty()

    asyncio.run(main())


@pytest.mark.parametrize("why", ["waits", "intercepted"])
def test_handler_waiting_hook_or_intercepted_flow_completes_later(why: str) -> None:
    async def main() -> None:
        addon = Hooked(waits=why == "waits")
        handler = await handler_with(addon)
        flow = tflow.tflow()
        if why == "intercepted":
            flow.intercept()
        hook = HttpRequestHook(flow)
        assert not handler.run_hook(hook)
        assert handler.completed.empty()
        addon.go.set()
        flow.resume()
        completed = await handler.completed.get()
        assert isinstance(completed, events.HookCompleted)
        assert completed.command is hook
        assert addon.updates == 1

    asyncio.run(main())


def test_handler_hook_without_a_flow_triggers_no_update() -> None:
    async def main() -> None:
        addon = Hooked(waits=False)
        handler = await handler_with(addon)
        assert handler.run_hook(ClientConnectedHook(handler.client))
        assert addon.updates == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("message", "level"),
    [("client connect", logging.DEBUG), ("server disconnect 10.0.0.1", logging.DEBUG), ("warned", logging.INFO)],
)
def test_handler_logs_connect_and_disconnect_lines_at_debug_level(
    message: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        handler = await handler_with(Hooked(waits=False))
        handler.log(message)

    asyncio.run(main())
    assert [record.levelno for record in caplog.records if record.getMessage() == message] == [level]
