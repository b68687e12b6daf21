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


def test_refusal_limit_closes_the_connection_after_repeated_429_responses(connection: Connection) -> None:
    assert [connection.answer(429) for _ in range(MOST)] == [None] * (MOST - 1) + ["close"]
    assert len(connection.closed) == 1


@pytest.mark.parametrize(("status", "upstream"), [(200, False), (200, True), (429, True), (500, True)])
def test_refusal_limit_count_is_reset_by_a_success_or_an_upstream_response(
    connection: Connection, status: int, upstream: bool
) -> None:
    for _ in range(3):
        for _ in range(MOST - 1):
            assert connection.answer(429) is None
        assert connection.answer(status, upstream=upstream) is None
    assert connection.closed == []


def test_refusal_limit_count_is_not_reset_by_a_401_response(connection: Connection) -> None:
    for _ in range(MOST - 1):
        connection.answer(429)
        connection.answer(401)
    assert connection.answer(429) == "close"


def test_refusal_limit_ignores_429_responses_of_the_upstream(connection: Connection) -> None:
    assert {connection.answer(429, upstream=True) for _ in range(5 * MOST)} == {None}
    assert connection.closed == []
