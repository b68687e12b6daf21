"""What is rejected, closed and awaited before the proxy stops. tests/e2e/test_drain.py uses real connections."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.test import taddons, tflow

from addons.exchange.exchanges import Exchanges
from addons.lifecycle import drain as drain_module
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.lifecycle.drain import Drain, GracefulExit
from addons.routing.routes import Router
from tests.addons.conftest import MakeFlow
from tests.support.limits import limit


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "LINGER", 0.01)


class SidePort:
    """A side port that notes when it stops, and whose clients are named."""

    def __init__(self, notes: list[str]) -> None:
        self.clients: set[str] = set()
        self._notes = notes

    def accepted(self, client: Client) -> bool:
        return client.id in self.clients

    def stop_accepting(self) -> None:
        self._notes.append("side port stops")


class Proxy:
    """A drain with what it looks at.

    Attributes:
        notes: What it has done, in order.
        table: Of connection handlers.
        closed: Set when it has closed a connection.
        stopped: Set when it has stopped.
    """

    def __init__(self, seconds: float, retirement: GracefulExit | None) -> None:
        self.notes: list[str] = []
        self.table: dict[str, Any] = {}
        self._flows: list[http.HTTPFlow] = []
        self.side_port = SidePort(self.notes)
        self.draining = threading.Event()
        self.closed = asyncio.Event()
        self.stopped = asyncio.Event()
        self.drain = Drain(
            seconds,
            self.draining,
            Exchanges(Router().route_of),
            self.side_port,
            ConnectionHandlers(self.table),
            retirement=retirement,
            retire_http2=lambda: self.notes.append("goaway"),
            goaway_timeout=0.01,
        )

    def connect(self, name: str, alpn: bytes | None = None) -> Client:
        """Have a client connect; its connection ends when it is cancelled."""
        client = tflow.tclient_conn()
        client.alpn = alpn

        def cancel(_: str) -> None:
            self.notes.append(f"closed {name}")
            self.closed.set()
            del self.table[client.id]

        io = SimpleNamespace(handler=SimpleNamespace(cancel=cancel))
        self.table[client.id] = SimpleNamespace(client=client, transports={client: io})
        return client

    def begin(self, client: Client, flow: http.HTTPFlow) -> http.HTTPFlow:
        """Have a client begin with a request."""
        flow.client_conn, flow.live = client, True
        self.drain.requestheaders(flow)
        self._flows.append(flow)
        return flow

    async def end(self) -> list[str]:
        """Wait for the end; return what was done before it."""
        async with asyncio.timeout(limit(20)):
            await self.stopped.wait()
        self.drain.done()
        return self.notes


@asynccontextmanager
async def running(seconds: float = 20, retirement: GracefulExit | None = None) -> AsyncIterator[Proxy]:
    with taddons.context(Proxyserver()) as tctx:
        proxy = Proxy(seconds, retirement)

        def shutdown() -> None:
            proxy.notes.append(f"stopped, port {'open' if tctx.options.server else 'closed'}")
            proxy.stopped.set()

        tctx.master.shutdown = shutdown
        yield proxy


def run(test: Callable[[Proxy], Any], **options: Any) -> None:
    async def main() -> None:
        async with running(**options) as proxy:
            await test(proxy)

    asyncio.run(main())


def test_drain_without_open_requests_closes_the_port_and_every_connection(make_flow: MakeFlow) -> None:
    async def test(proxy: Proxy) -> None:
        proxy.connect("idle")
        done = proxy.connect("done")
        proxy.begin(done, make_flow()).live = False
        proxy.drain.terminate()
        assert proxy.draining.is_set()
        notes = await proxy.end()
        assert sorted(notes[1:3]) == ["closed done", "closed idle"]
        assert [notes[0], *notes[3:]] == ["goaway", "side port stops", "stopped, port closed"]

    run(test)


def test_drain_waits_for_an_open_request_and_closes_its_connection_last(make_flow: MakeFlow) -> None:
    async def test(proxy: Proxy) -> None:
        proxy.connect("idle")
        under_way = proxy.begin(proxy.connect("busy"), make_flow())
        proxy.drain.terminate()
        await proxy.closed.wait()
        assert not proxy.stopped.is_set()
        under_way.live = False
        assert await proxy.end() == [
            "goaway",
            "closed idle",
            "side port stops",
            "closed busy",
            "stopped, port closed",
        ]

    run(test)


def test_drain_cuts_a_request_that_exceeds_the_time_limit(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(proxy: Proxy) -> None:
        proxy.begin(proxy.connect("busy"), make_flow())
        proxy.drain.terminate()
        assert (await proxy.end())[-2:] == ["closed busy", "stopped, port closed"]

    run(test, seconds=0.05)
    assert "stopping, 1 requests are cut" in caplog.messages


def test_drain_does_not_wait_for_a_request_whose_client_has_disconnected(make_flow: MakeFlow) -> None:
    async def test(proxy: Proxy) -> None:
        client = proxy.connect("gone")
        flow = proxy.begin(client, make_flow())
        del proxy.table[client.id]
        proxy.drain.terminate()
        assert await proxy.end() == ["goaway", "side port stops", "stopped, port closed"]
        assert flow.live

    run(test)


def test_drain_closes_side_port_connections_after_the_side_port_stops(make_flow: MakeFlow) -> None:
    async def test(proxy: Proxy) -> None:
        proxy.side_port.clients.add(proxy.connect("side").id)
        proxy.connect("other")
        proxy.drain.terminate()
        assert await proxy.end() == [
            "goaway",
            "closed other",
            "side port stops",
            "closed side",
            "stopped, port closed",
        ]

    run(test)


def test_drain_closes_http2_clients_late_so_that_they_receive_the_goaway() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.connect("h2", alpn=b"h2")
        proxy.drain.terminate()
        assert await proxy.end() == ["goaway", "side port stops", "closed h2", "stopped, port closed"]

    run(test)


def test_drain_refuses_new_requests_with_503_except_for_proof_pages(make_flow: MakeFlow) -> None:
    async def test(proxy: Proxy) -> None:
        before = proxy.begin(proxy.connect("before"), make_flow())
        assert before.response is None
        proxy.draining.set()
        refused = proxy.begin(proxy.connect("late"), make_flow())
        assert refused.response is not None
        assert refused.response.status_code == 503
        assert refused.response.headers["connection"] == "close"
        assert refused.response.headers["retry-after"] == "1"
        page = proxy.begin(proxy.connect("page"), make_flow(method="GET", path="/v1/signature/x"))
        assert page.response is None
        bad = make_flow()
        bad.error = mitm_flow.Error("bad headers")
        assert proxy.begin(proxy.connect("bad"), bad).response is None

    run(test)


def test_drain_second_sigterm_stops_at_once(make_flow: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    async def test(proxy: Proxy) -> None:
        proxy.begin(proxy.connect("busy"), make_flow())
        proxy.drain._on_sigterm()
        proxy.drain._on_sigterm()
        assert (await proxy.end())[-1] == "stopped, port closed"

    run(test, seconds=3600)
    assert "SIGTERM again: stopping at once" in caplog.messages


def test_drain_retirement_waits_for_connections_and_cuts_none() -> None:
    steps: list[str] = []
    begun = asyncio.Event()
    retirement = GracefulExit([lambda: steps.append("one"), begun.set], 3600)

    async def test(proxy: Proxy) -> None:
        client = proxy.connect("busy")
        proxy.drain.retire()
        proxy.drain.retire()
        await begun.wait()
        assert not proxy.stopped.is_set()
        del proxy.table[client.id]
        assert await proxy.end() == ["stopped, port closed"]
        assert not proxy.draining.is_set(), "a proxy that retires refuses nothing"

    run(test, retirement=retirement)
    assert steps == ["one"]


def test_drain_retire_without_a_retirement_does_nothing() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.drain.retire()
        assert proxy.drain._task is None

    run(test)


def test_drain_sigterm_during_a_retirement_begins_the_drain(make_flow: MakeFlow) -> None:
    async def test(proxy: Proxy) -> None:
        proxy.connect("idle")
        proxy.drain.retire()
        proxy.drain.terminate()
        assert await proxy.end() == ["goaway", "closed idle", "side port stops", "stopped, port closed"]

    run(test, retirement=GracefulExit([], 3600))
