from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import ServerTLSLayer
from mitmproxy.test import taddons

from addons.layers.connections.client_tls import MAX_CLIENT_HELLO, ApiClientTLSLayer, PreferHttp2
from tests.addons.wire import make_context


def refusal(data: bytes, piece: int) -> tuple[int, str]:
    """After how many bytes a handshake is refused, and what is logged then."""
    context = make_context()
    ServerTLSLayer(context)  # the layer above it
    layer = ApiClientTLSLayer(context)
    list(layer.handle_event(events.Start()))
    for at in range(0, len(data), piece):
        came = events.DataReceived(layer.context.client, data[at : at + piece])
        for command in layer.handle_event(came):
            if isinstance(command, commands.Log):
                return at + piece, command.message
    return len(data), ""


def test_a_client_hello_without_end_is_refused_at_a_limit() -> None:
    # A handshake record of 16 KiB after the other, of a ClientHello of 1 MiB.
    hello = b"\x01\x10\x00\x00" + b"x" * 2**20
    records = b"".join(b"\x16\x03\x01\x40\x00" + hello[at : at + 2**14] for at in range(0, len(hello), 2**14))
    came, said = refusal(records, 1000)
    assert MAX_CLIENT_HELLO < came <= MAX_CLIENT_HELLO + 1000
    assert "the ClientHello is too large" in said


def test_what_is_no_client_hello_is_refused_without_quoting_it() -> None:
    secret = b"\x16\x03\x01\x00\x10" + b"\x01\x00\x00\x0c" + b"a secret...."
    _, said = refusal(secret, 1000)
    assert "cannot parse the ClientHello" in said
    assert b"a secret".hex() not in said


@pytest.mark.parametrize(
    ("offered", "http2", "selected"),
    [
        ([b"http/1.1", b"h2"], True, b"h2"),
        ([b"h2"], True, b"h2"),
        ([b"http/1.1"], True, None),
        ([], True, None),
        ([b"http/1.1", b"h2"], False, None),
    ],
)
def test_http2_is_selected_wherever_it_is_offered_and_switched_on(
    offered: list[bytes], http2: bool, selected: bytes | None
) -> None:
    context = make_context()
    data: Any = SimpleNamespace(client_hello=SimpleNamespace(alpn_protocols=offered), context=context)
    with taddons.context(Proxyserver()) as tctx:
        tctx.options.update(http2=http2)
        PreferHttp2().tls_clienthello(data)
    assert context.client.alpn == selected
