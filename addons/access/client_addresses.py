"""The client of a flow or a connection: `attest_web.middleware.client_address`, applied to mitmproxy's objects."""

from mitmproxy import http
from mitmproxy.connection import Address, Client

from attest_web.middleware.client_address import client_of, sharer_of


class ClientAddresses:
    """Finds the client of a flow or a connection."""

    def __init__(self, *, trust_proxy: bool) -> None:
        """Set the policy.

        Args:
            trust_proxy: Whether the client address that a proxy in a private network sends is trusted.
        """
        self._trust_proxy = trust_proxy

    def client_of(self, flow: http.HTTPFlow) -> str:
        """The client that a request counts for; empty if its connection is closed already."""
        header = flow.request.headers.get
        peer = address_of(flow.client_conn.peername)
        return client_of(peer, header("x-forwarded-for"), header("x-real-ip"), trust_proxy=self._trust_proxy)

    def sharer_of(self, flow: http.HTTPFlow) -> str | None:
        """The client in whose share a request counts; None if many clients may share the address."""
        header = flow.request.headers.get
        peer = address_of(flow.client_conn.peername)
        return sharer_of(peer, header("x-forwarded-for"), header("x-real-ip"), trust_proxy=self._trust_proxy)

    def peer_of(self, client: Client) -> str:
        """The client that a connection counts for, before it has sent a request."""
        return client_of(address_of(client.peername), None, trust_proxy=self._trust_proxy)

    def sharer_of_peer(self, peer: str) -> str | None:
        """The client in whose share the connections of an address count; None if it may be a proxy's."""
        return sharer_of(peer, trust_proxy=self._trust_proxy)


def address_of(peername: Address | None) -> str:
    """The peer address of a connection, without its port; empty if the connection is closed already."""
    return peername[0] if peername else ""
