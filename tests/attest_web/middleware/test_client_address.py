import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.middleware.client_address import client_of, sharer_of

PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),  # whoever comes from outside is who it is
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
        ("::ffff:203.0.113.9", "198.51.100.7", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", "198.51.100.7", "2001:db8:1:2::/64"),
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        (PROXY, "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("192.168.1.1", "198.51.100.7", "198.51.100.7"),
        ("172.31.0.1", "198.51.100.7", "198.51.100.7"),
        ("172.32.0.1", "198.51.100.7", "172.32.0.1"),
        ("169.254.1.1", "198.51.100.7", "198.51.100.7"),
        ("::1", "198.51.100.7", "198.51.100.7"),
        ("fd00::1", "198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "198.51.100.7", "198.51.100.7"),
        (PROXY, "1.2.3.4, 5.6.7.8,198.51.100.7 ", "198.51.100.7"),  # the client wrote all but the last
        (PROXY, "198.51.100.7,", PROXY),
        (PROXY, "198.51.100.7:4711", "198.51.100.7"),
        (PROXY, "[2001:db8:1:2::3]:4711", "2001:db8:1:2::/64"),
        (PROXY, "[2001:db8:1:2::3]", "2001:db8:1:2::/64"),
        (PROXY, "2001:DB8:1:2::3", "2001:db8:1:2::/64"),
        (PROXY, "::ffff:198.51.100.7", "198.51.100.7"),
        (PROXY, "unknown", PROXY),
        (PROXY, "198.51.100.7, _hidden", PROXY),
        (PROXY, "198.51.100.007", PROXY),
        (PROXY, "198.51.100.7 198.51.100.8", PROXY),
        (PROXY, "1" * 100_000, PROXY),
        ("", None, ""),
        ("", "198.51.100.7", ""),
    ],
)
def test_client_address_with_trust_proxy_uses_the_last_x_forwarded_for_of_a_proxy(
    peer: str, forwarded_for: str | None, client: str
) -> None:
    assert client_of(peer, forwarded_for, trust_proxy=True) == client


@pytest.mark.parametrize("peer", [PROXY, "203.0.113.9", "127.0.0.1"])
def test_without_trust_a_request_counts_for_the_peer(peer: str) -> None:
    assert client_of(peer, "198.51.100.7", trust_proxy=False) == peer


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "real_ip", "client"),
    [
        (PROXY, None, "198.51.100.7", "198.51.100.7"),
        (PROXY, "", "198.51.100.7", "198.51.100.7"),
        (PROXY, None, " 198.51.100.7 ", "198.51.100.7"),
        (PROXY, None, "[2001:db8:1:2::3]:4711", "2001:db8:1:2::/64"),
        # A proxy that appends to X-Forwarded-For may pass the other one through as the client has written it.
        (PROXY, "198.51.100.7", "8.8.8.8", "198.51.100.7"),
        (PROXY, "unknown", "8.8.8.8", PROXY),
        # One of two lines is the client's own.
        (PROXY, None, "8.8.8.8, 198.51.100.7", PROXY),
        (PROXY, None, "unknown", PROXY),
        (PROXY, None, "1" * 100_000, PROXY),
        ("203.0.113.9", None, "198.51.100.7", "203.0.113.9"),
    ],
)
def test_client_address_uses_x_real_ip_only_without_x_forwarded_for(
    peer: str, forwarded_for: str | None, real_ip: str, client: str
) -> None:
    assert client_of(peer, forwarded_for, real_ip, trust_proxy=True) == client
    assert client_of(peer, forwarded_for, real_ip, trust_proxy=False) == peer


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "real_ip", "sharer"),
    [
        (PROXY, None, None, None),  # whose connection it forwards, a proxy does not say before the request
        ("::ffff:10.0.0.1", None, None, None),
        ("::1", None, None, None),
        (PROXY, "unknown", None, None),
        (PROXY, "198.51.100.7", None, "198.51.100.7"),
        (PROXY, None, "198.51.100.7", "198.51.100.7"),
        ("203.0.113.9", None, None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.7", None, "203.0.113.9"),
        ("2001:db8:1:2::3", None, None, "2001:db8:1:2::/64"),
        ("", None, None, ""),
    ],
)
def test_connection_share_is_by_client_and_a_proxy_has_none(
    peer: str, forwarded_for: str | None, real_ip: str | None, sharer: str | None
) -> None:
    assert sharer_of(peer, forwarded_for, real_ip, trust_proxy=True) == sharer


@pytest.mark.parametrize("peer", [PROXY, "203.0.113.9", "127.0.0.1"])
def test_connection_share_without_trust_proxy_is_by_peer(peer: str) -> None:
    assert sharer_of(peer, "198.51.100.7", trust_proxy=False) == peer


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")), st.booleans())
def test_client_address_of_any_forwarded_value_is_a_valid_network(forwarded_for: str, trust_proxy: bool) -> None:
    assert ipaddress.ip_network(client_of(PROXY, forwarded_for, trust_proxy=trust_proxy))
    assert ipaddress.ip_network(client_of(PROXY, None, forwarded_for, trust_proxy=trust_proxy))
