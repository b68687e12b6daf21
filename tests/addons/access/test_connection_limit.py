import asyncio

import pytest

from addons.access.connection_limit import ConnectionLimit, quarter_of


class Unread(asyncio.WriteTransport):
    """A transport for whose client something is left to be read."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.size = size
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


def taken(places: ConnectionLimit, client: str | None, times: int) -> int:
    count = 0
    for _ in range(times):
        if places.refusal(client) is None:
            places.take(client)
            count += 1
    return count


def test_connection_limit_caps_each_client_at_its_share_and_the_total() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 10, 4)
    assert taken(places, "203.0.113.1", 100) == 4
    assert places.refusal("203.0.113.1") == "one address has its share, 4, of MAX_CONNECTIONS 10"
    assert taken(places, "203.0.113.2", 100) == 4
    assert taken(places, "203.0.113.3", 100) == 2
    assert places.refusal("203.0.113.4") == "MAX_CONNECTIONS 10 are open"
    places.leave("203.0.113.1", None, 0)
    assert taken(places, "203.0.113.4", 100) == 1


def test_connection_limit_does_not_cap_a_peer_that_may_be_a_proxy() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 10, 4)
    assert taken(places, None, 100) == 10


def test_connection_limit_without_shares_lets_one_client_use_every_slot() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 10)
    assert taken(places, "203.0.113.1", 100) == 10


def test_connection_limit_full_share_aborts_the_clients_own_unread_connection() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 10, 2)
    others, first, second = Unread(), Unread(), Unread()
    for client, transport in (("203.0.113.2", others), ("203.0.113.1", first), ("203.0.113.1", second)):
        places.take(client)
        places.leave(client, transport, until=60)
    assert taken(places, "203.0.113.1", 1) == 1
    assert (others.aborted, first.aborted, second.aborted) == (False, True, False)
    assert taken(places, "203.0.113.1", 10) == 1
    assert second.aborted
    assert not others.aborted


def test_connection_limit_when_full_aborts_the_oldest_unread_connection() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 2, 1)
    unread = [Unread(), Unread()]
    for number, transport in enumerate(unread):
        places.take(f"203.0.113.{number}")
        places.leave(f"203.0.113.{number}", transport, until=60)
    assert taken(places, "203.0.113.9", 1) == 1
    assert [transport.aborted for transport in unread] == [True, False]


def test_connection_limit_sweep_aborts_drained_and_expired_connections() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 3, 1)
    read, late, early = Unread(), Unread(), Unread()
    for number, (transport, until) in enumerate([(read, 60), (late, 10), (early, 60)]):
        places.take(str(number))
        places.leave(str(number), transport, until)
    read.size = 0
    places.sweep(now=10)
    assert (read.aborted, late.aborted, early.aborted) == (True, True, False)
    places.sweep(now=60)
    assert early.aborted


def test_connection_limit_keeps_no_state_of_departed_clients() -> None:
    places = ConnectionLimit("MAX_CONNECTIONS", 100, 2)
    for number in range(1000):
        places.take(str(number))
        places.leave(str(number), Unread(number % 2), until=number)
    places.sweep(now=10_000)
    assert not places._by_client
    assert not places._leaving
    assert taken(places, "x", 2) == 2


@pytest.mark.parametrize(("most", "quarter"), [(4096, 1024), (5, 1), (3, 1), (1, 1)])
def test_connection_limit_quarter_is_at_least_one(most: int, quarter: int) -> None:
    assert quarter_of(most) == quarter
