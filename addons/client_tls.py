"""TLS to the client, as mitmproxy speaks it, with a bound to the first message."""

from typing import Final

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import ClientTLSLayer

MAX_CLIENT_HELLO: Final = 16 * 1024
"""Largest ClientHello, in bytes. With keys for after the quantum, they have 2 KiB; their format would allow 16 MiB,
which mitmproxy would gather and look through again at every piece that comes."""


class ApiClientTLSLayer(ClientTLSLayer):
    """TLS on a client's connection."""

    def receive_handshake_data(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        """Go on with the handshake."""
        if not self.client_hello_parsed and len(self.recv_buffer) + len(data) > MAX_CLIENT_HELLO:
            return False, "the ClientHello is too large"
        done, error = yield from super().receive_handshake_data(data)
        if error is not None and not self.client_hello_parsed:
            error = "cannot parse the ClientHello"  # and not all of it in hexadecimal
        return done, error
