import pytest
from mitmproxy.test import tutils

from addons.access.body_pace import BodyTimes
from addons.layers.http2.streams import MAX_HELD, Exchange, Exchanges, Http2Timeouts
from tests.addons.clock import Clock

TIMEOUTS = Http2Timeouts(upstream=100, idle=20, body=BodyTimes(pause=10, rate=0.1, whole=1000), reading=50)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchanges(clock: Clock) -> Exchanges:
    return Exchanges(TIMEOUTS, clock)


def begun(exchanges: Exchanges, stream_id: int = 1) -> Exchange:
    exchanges.begin(stream_id, tutils.treq())
    exchange = exchanges.get(stream_id)
    assert exchange is not None
    return exchange


def test_a_client_that_falls_silent_in_a_body_is_overdue(exchanges: Exchanges, clock: Clock) -> None:
    exchange = begun(exchanges)
    for _ in range(5):
        clock.now += 9
        assert exchanges.overdue() == []
        exchanges.body_came(exchange, 1)
    clock.now += 11
    assert exchanges.overdue() == [1]
    exchange.receiving = False
    assert exchanges.overdue() == []


def test_an_upstream_that_falls_silent_in_an_answer_is_overdue_unless_it_is_halted(
    exchanges: Exchanges, clock: Clock
) -> None:
    exchange = begun(exchanges)
    exchange.receiving = False
    clock.now += 1000
    assert exchanges.overdue() == []
    exchanges.answer_came(exchange)
    clock.now += 99
    assert exchanges.overdue() == []
    clock.now += 2
    assert exchanges.overdue() == [1]
    exchange.halted = True
    assert exchanges.overdue() == []


def test_a_connection_is_idle_without_exchanges_alone(exchanges: Exchanges, clock: Clock) -> None:
    clock.now += 19
    assert not exchanges.is_idle()
    begun(exchanges)
    clock.now += 1000
    assert not exchanges.is_idle()
    exchanges.end(1)
    assert not exchanges.is_idle()
    clock.now += 21
    assert exchanges.is_idle()


def test_there_is_room_for_so_much_and_always_for_one(exchanges: Exchanges) -> None:
    one, another = begun(exchanges, 1), begun(exchanges, 3)
    assert exchanges.hold(one, MAX_HELD + 1)
    assert not exchanges.hold(another, 1)
    exchanges.answer_came(one)
    assert exchanges.hold(another, 1)
    exchanges.end(3)
    assert exchanges.hold(begun(exchanges, 5), MAX_HELD)
