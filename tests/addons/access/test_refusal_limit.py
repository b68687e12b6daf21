import pytest
from mitmproxy import http
from mitmproxy.connection import Client

from addons.access.refusal_limit import MOST, RefusalLimit
from addons.exchange.exchanges import Exchanges
from addons.routing.routes import Router
from tests.addons.conftest import MakeFlow


class Connection:
    """Answers on one connection."""

    def __init__(self, make_flow: MakeFlow) -> None:
        self.closed: list[Client] = []
        self._make_flow = make_flow
        self._exchanges = Exchanges(Router().route_of)
        self._addon = RefusalLimit(self._exchanges, self.closed.append)
        self._client = make_flow().client_conn

    def answer(self, status: int, *, upstream: bool = False) -> str | None:
        flow = self._make_flow()
        flow.client_conn = self._client
        flow.response = http.Response.make(status)
        if upstream:
            self._exchanges.of(flow).upstream_status = status
        self._addon.response(flow)
        said: str | None = flow.response.headers.get("connection")
        return said


@pytest.fixture
def connection(make_flow: MakeFlow) -> Connection:
    return Connection(make_flow)


def test_a_connection_that_goes_on_after_several_429_is_closed(connection: Connection) -> None:
    assert [connection.answer(429) for _ in range(MOST)] == [None] * (MOST - 1) + ["close"]
    assert len(connection.closed) == 1


@pytest.mark.parametrize(("status", "upstream"), [(200, False), (200, True), (429, True), (500, True)])
def test_an_answer_in_between_begins_the_count_anew(connection: Connection, status: int, upstream: bool) -> None:
    for _ in range(3):
        for _ in range(MOST - 1):
            assert connection.answer(429) is None
        assert connection.answer(status, upstream=upstream) is None
    assert connection.closed == []


def test_other_refusals_do_not(connection: Connection) -> None:
    for _ in range(MOST - 1):
        connection.answer(429)
        connection.answer(401)
    assert connection.answer(429) == "close"


def test_what_the_model_server_refuses_is_its_own_affair(connection: Connection) -> None:
    assert {connection.answer(429, upstream=True) for _ in range(5 * MOST)} == {None}
    assert connection.closed == []
