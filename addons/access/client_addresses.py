"""Whose a flow or a connection is: `attest_web.middleware.client_address`, applied to what mitmproxy knows of both."""

from mitmproxy import http
from mitmproxy.connection import Address, Client

from attest_web.middleware.client_address import client_of, sharer_of


class ClientAddresses:
    """Tells clients apart."""

    def __init__(self, *, trust_proxy: bool) -> None:
        """Know the policy.

        Args:
            trust_proxy: Whether a proxy in this machine's own network is believed whom it forwards for.
        """
        self._trust_proxy = trust_proxy

    def client_of(self, flow: http.HTTPFlow) -> str:
        """The client that a request counts for; empty where its connection has gone already."""
        header = flow.request.headers.get
        peer = address_of(flow.client_conn.peername)
        return client_of(peer, header("x-forwarded-for"), header("x-real-ip"), trust_proxy=self._trust_proxy)

    def sharer_of(self, flow: http.HTTPFlow) -> str | None:
        """The client in whose share a request counts; None where it may be one of many clients'."""
        header = flow.request.headers.get
        peer = address_of(flow.client_conn.peername)
        return sharer_of(peer, header("x-forwarded-for"), header("x-real-ip"), trust_proxy=self._trust_proxy)

    def peer_of(self, client: Client) -> str:
        """The client that a connection counts for, as long as nothing was said on it."""
        return client_of(address_of(client.peername), None, trust_proxy=self._trust_proxy)

    def sharer_of_peer(self, peer: str) -> str | None:
        """The client in whose share the connections of an address count; None where it may be a proxy's."""
        return sharer_of(peer, trust_proxy=self._trust_proxy)


def address_of(peername: Address | None) -> str:
    """The address at the other end of a connection, without its port; empty where the connection has gone already."""
    return peername[0] if peername else ""
