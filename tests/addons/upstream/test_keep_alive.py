import asyncio

import pytest
from mitmproxy.connection import Connection, Server

from addons.upstream.keep_alive import IdleConnectionCloser, KeepAliveLimit
from tests.addons.clock import Clock


def servers(number: int) -> list[Server]:
    return [Server(address=("upstream", 9000)) for _ in range(number)]


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_as_many_idle_connections_are_kept_as_the_limit_allows(limit: int) -> None:
    keep_alive = KeepAliveLimit(limit)
    assert [keep_alive.keep(server) for server in servers(2)].count(True) == limit


def test_a_connection_that_is_dropped_makes_room_for_another() -> None:
    first, second = servers(2)
    keep_alive = KeepAliveLimit(1)
    assert keep_alive.keep(first)
    assert not keep_alive.keep(second)
    keep_alive.drop(first)
    keep_alive.drop(first)
    assert keep_alive.keep(second)


def test_a_connection_is_usable_while_it_is_kept_and_open_and_until_its_timeout() -> None:
    clock = Clock()
    ended: set[Connection] = set()
    first, second = servers(2)
    keep_alive = KeepAliveLimit(10, 4, ended.__contains__, clock)
    assert not keep_alive.is_usable(first), "it has never been idle"
    keep_alive.keep(first)
    keep_alive.keep(second)
    ended.add(second)
    clock.now += 3.9
    assert keep_alive.is_usable(first)
    assert not keep_alive.is_usable(second)
    clock.now += 0.1
    assert not keep_alive.is_usable(first)


def test_connections_are_overdue_from_their_timeout_on_and_no_others_are() -> None:
    clock = Clock()
    keep_alive = KeepAliveLimit(10, timeout=4, clock=clock)
    first, second, third = servers(3)
    for connection in (first, second, third):
        keep_alive.keep(connection)
        clock.now += 1
    keep_alive.drop(first)
    keep_alive.keep(first)
    clock.now += 2
    assert keep_alive.overdue() == [second]
    assert len(keep_alive) == 3


def test_the_closer_closes_overdue_connections_and_drops_them() -> None:
    clock = Clock()
    keep_alive = KeepAliveLimit(10, timeout=0.02, clock=clock)
    first, second = servers(2)
    keep_alive.keep(first)
    clock.now += 1
    keep_alive.keep(second)

    async def close_both() -> None:
        closed: asyncio.Queue[Connection] = asyncio.Queue()
        closer = IdleConnectionCloser(keep_alive, closed.put_nowait)
        closer.running()
        async with asyncio.timeout(10):
            assert await closed.get() is first
            assert len(keep_alive) == 1
            clock.now += 1
            assert await closed.get() is second
        closer.done()

    asyncio.run(close_both())
    assert len(keep_alive) == 0
