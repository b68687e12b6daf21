"""Events that are handled inline, and those that have to wait."""

import asyncio
from typing import cast

import pytest
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.server import ConnectionHandler

from addons.layers.connections.inline_handler import InlineConnectionHandler
from tests.addons.wire import make_context


class Layer(layer.Layer):
    """Notes what it gets."""

    def __init__(self) -> None:
        super().__init__(make_context())
        self.received: list[bytes] = []

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.received.append(cast("events.DataReceived", event).data)
        yield from ()


class Handler(InlineConnectionHandler):
    def __init__(self) -> None:
        self.tested = Layer()
        super().__init__(self.tested.context)
        self.layer = self.tested

    async def handle_hook(self, hook: commands.StartHook) -> None:
        pass


class WaitingHandler(ConnectionHandler):
    """One whose events wait for something, which mitmproxy's never do."""

    async def server_event(self, event: events.Event) -> None:
        await asyncio.sleep(0)


class InlineWaitingHandler(InlineConnectionHandler, WaitingHandler):
    async def handle_hook(self, hook: commands.StartHook) -> None:
        pass


def event(handler: ConnectionHandler, data: bytes) -> events.DataReceived:
    return events.DataReceived(handler.client, data)


def test_inline_handler_handles_an_event_before_the_call_returns() -> None:
    async def check() -> None:
        handler = Handler()
        for data in (b"one", b"two"):
            assert handler.handle_now(event(handler, data))
            assert handler.tested.received[-1] == data

    asyncio.run(check())


def test_inline_handler_does_not_handle_an_event_while_another_waits() -> None:
    async def check() -> None:
        handler = Handler()
        async with handler._server_event_lock:
            waiting = asyncio.get_running_loop().create_task(handler.server_event(event(handler, b"one")))
            await asyncio.sleep(0)
            assert not handler.handle_now(event(handler, b"two"))
        await waiting
        assert handler.handle_now(event(handler, b"three"))
        assert handler.tested.received == [b"one", b"three"]

    asyncio.run(check())


def test_inline_handler_event_that_waits_midway_raises_runtime_error() -> None:
    async def check() -> None:
        handler = InlineWaitingHandler(make_context())
        with pytest.raises(RuntimeError, match="in the middle of an event"):
            handler.handle_now(event(handler, b"one"))

    asyncio.run(check())
