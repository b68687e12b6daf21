import asyncio

import pytest
from mitmproxy.connection import Connection, Server

from addons.upstream.keep_alive import IdleConnectionCloser, KeepAliveLimit
from tests.addons.clock import Clock


def servers(number: int) -> list[Server]:
    return [Server(address=("upstream", 9000)) for _ in range(number)]


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_keep_alive_keeps_idle_connections_up_to_the_limit(limit: int) -> None:
    keep_alive = KeepAliveLimit(limit)
    assert [keep_alive.keep(server) for server in servers(2)].count(True) == limit


def test_keep_alive_dropped_connection_makes_room_for_another() -> None:
    first, second = servers(2)
    keep_alive = KeepAliveLimit(1)
    assert keep_alive.keep(first)
    assert not keep_alive.keep(second)
    keep_alive.drop(first)
    keep_alive.drop(first)
    assert keep_alive.keep(second)


def test_keep_alive_connection_is_usable_while_kept_and_open_before_its_timeout() -> None:
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


def test_keep_alive_overdue_lists_only_connections_past_their_timeout() -> None:
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


def test_idle_connection_closer_closes_and_drops_overdue_connections() -> None:
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
