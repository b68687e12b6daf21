"""How requests reach the pages, and which do not."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mitmproxy import http

from addons.access.client_addresses import ClientAddresses
from addons.exchange.exchanges import Exchanges
from addons.pages.attestation_pages import AttestationPages
from tests.addons.conftest import MakeFlow

PAGE = "/v1/signature/x"


class App:
    """A WSGI application that notes what it is asked, and answers when it is let go."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        self.asked.append(environ)
        self.threads.add(threading.current_thread().name)
        self.go.wait(10)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"page"]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def pages(app: App, exchanges: Exchanges) -> Iterator[AttestationPages]:
    made = AttestationPages(app, exchanges, ClientAddresses(trust_proxy=False))
    yield made
    app.go.set()
    made.done()


async def ask(pages: AttestationPages, *flows: http.HTTPFlow) -> list[int]:
    """Take requests through the hooks; return the statuses of the responses."""
    for flow in flows:
        pages.requestheaders(flow)
        flow.request.headers.pop("authorization", None)  # as the gate does
    await asyncio.gather(*(answer for flow in flows if (answer := pages.request(flow)) is not None))
    return [flow.response.status_code if flow.response is not None else 0 for flow in flows]


def test_a_page_is_answered_in_a_thread_and_checks_the_credential_itself(
    pages: AttestationPages, app: App, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow = make_flow(method="GET", path=PAGE, authorization="Bearer s3cret \udcff")
    assert asyncio.run(ask(pages, flow)) == [200]
    assert flow.response is not None
    assert flow.response.content == b"page"
    [environ] = app.asked
    assert environ["HTTP_AUTHORIZATION"] == "Bearer s3cret \xff"
    assert threading.current_thread().name not in app.threads
    assert exchanges.of(flow).authorization is None, "it is kept no longer"


def test_a_credential_for_the_upstream_is_not_kept(
    pages: AttestationPages, app: App, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow = make_flow(authorization="Bearer s3cret")
    assert asyncio.run(ask(pages, flow)) == [0]
    assert app.asked == []
    assert exchanges.of(flow).authorization is None


def test_a_request_that_was_refused_reaches_no_page(pages: AttestationPages, app: App, make_flow: MakeFlow) -> None:
    flow = make_flow(method="GET", path=PAGE)
    flow.response = http.Response.make(429)
    assert pages.request(flow) is None
    assert app.asked == []


def test_a_client_with_too_many_requests_at_once_is_refused_and_others_are_served(
    pages: AttestationPages, app: App, make_flow: MakeFlow
) -> None:
    flows = [make_flow(method="GET", path=PAGE) for _ in range(66)]
    for flow in flows[:65]:
        flow.client_conn.peername = ("203.0.113.1", 1)
    flows[65].client_conn.peername = ("203.0.113.2", 1)
    app.go.clear()

    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # as mitmproxy does
        asking = asyncio.create_task(ask(pages, *flows))
        assert flows[64].response is not None
        app.go.set()
        return await asking

    statuses = asyncio.run(main())
    assert statuses == [200] * 64 + [429, 200]
    assert flows[64].response is not None
    assert flows[64].response.headers["retry-after"] == "1"


def test_pages_that_wait_hold_up_no_others(pages: AttestationPages, app: App, make_flow: MakeFlow) -> None:
    """A report may take a minute; signatures, states and other pages have threads of their own."""
    app.go.clear()
    queues = [
        pages._queue(path)
        for path in ("/v1/signature/x", "/v1/attestation/report", "/ready", "/metrics", "/health", "/")
    ]
    assert queues[2] is queues[3]
    assert queues[4] is queues[5]
    assert len(set(map(id, queues))) == 4


def test_what_the_pages_use_ends_with_them(app: App, exchanges: Exchanges) -> None:
    closed: list[str] = []
    pages = AttestationPages(
        app, exchanges, ClientAddresses(trust_proxy=False), [lambda: closed.append("a"), lambda: closed.append("b")]
    )
    pages.done()
    assert closed == ["a", "b"]
