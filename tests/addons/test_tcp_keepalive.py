"""Options of sockets; tests/e2e/test_vanished_peers.py has what becomes of peers that are gone."""

import socket

import pytest

from addons.tcp_keepalive import PROBES, keepalive_options


@pytest.mark.parametrize(("idle", "user_timeout", "interval"), [(30, 120, 15), (60, 120, 10), (1, 2, 1), (10, 71, 11)])
def test_a_silent_peer_has_had_all_probes_when_its_time_is_over(idle: int, user_timeout: int, interval: int) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        for option in keepalive_options(idle, user_timeout):
            sock.setsockopt(*option)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        read = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]
    assert read == [idle, interval, PROBES, 1000 * user_timeout]
    assert 0 <= idle + PROBES * interval - user_timeout < PROBES, "seconds"


def test_a_system_without_some_of_the_options_does_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delattr(socket, name)
    assert keepalive_options(30, 120) == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


NAMES = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
