"""TLS to the client, with a limit for the ClientHello, and HTTP/2 for all clients that offer it."""

from typing import Final

from mitmproxy import ctx
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.tls import ClientHelloData

MAX_CLIENT_HELLO: Final = 16 * 1024
"""Largest ClientHello, in bytes. With post-quantum keys, it has 2 KiB; the format allows 16 MiB, which mitmproxy would
buffer and parse again after every received piece."""


class ApiClientTLSLayer(ClientTLSLayer):
    """TLS on a client's connection."""

    def receive_handshake_data(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        """Continue the handshake."""
        if not self.client_hello_parsed and len(self.recv_buffer) + len(data) > MAX_CLIENT_HELLO:
            return False, "the ClientHello is too large"
        done, error = yield from super().receive_handshake_data(data)
        if error is not None and not self.client_hello_parsed:
            error = "cannot parse the ClientHello"  # mitmproxy's error would quote it in hexadecimal
        return done, error


class PreferHttp2:
    """An addon that selects HTTP/2 whenever a client offers it, as the server's preference counts (RFC 7301, 3.2).

    mitmproxy follows the client's order. Many clients name HTTP/1.1 first, and would use a connection for each request.
    """

    def tls_clienthello(self, data: ClientHelloData) -> None:
        """Select the protocol, before mitmproxy does."""
        if ctx.options.http2 and b"h2" in data.client_hello.alpn_protocols:
            data.context.client.alpn = b"h2"
