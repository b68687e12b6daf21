"""mitmproxy's behaviour that this project depends on or changes, tested with the locked version alone.

Where a test of a defect fails, mitmproxy has mended it, and what we do about it may have become needless.
"""

import asyncio
import io
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from mitmproxy import contentviews, flow, hooks, http
from mitmproxy.addons import default_addons
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.script import ScriptLoader
from mitmproxy.addons.tlsconfig import AppData, alpn_select_callback
from mitmproxy.addons.view import View
from mitmproxy.connection import ConnectionState
from mitmproxy.io import FlowWriter
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.test import taddons, tflow
from mitmproxy.tools.console.master import ConsoleMaster
from mitmproxy.tools.web.master import WebMaster
from mitmproxy.tools.web.webaddons import WebAddon
from OpenSSL import SSL

from addons.inspection import inspection
from addons.launcher.server import MODE, CachedProxyserver, ProxyReverseMode, ProxyServerInstance
from addons.layers.connections import client_connections
from addons.signing.store_hook import StoringHook
from tests.addons.wire import Wire, make_context

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def plain_proxy() -> Wire:
    """mitmproxy's own HTTP layer."""
    return Wire(HttpLayer(make_context(), HTTPMode.transparent))


def test_mitmproxy_response_set_on_streamed_request_headers_raises_not_implemented() -> None:
    """`RequestBodyStream.start_request_stream` responds at once."""
    wire = plain_proxy()

    def answer(made: http.HTTPFlow) -> None:
        made.request.stream = True
        made.response = http.Response.make(401)

    wire.hooks = {"requestheaders": answer}
    with pytest.raises(NotImplementedError):
        wire.receive(wire.client, POST)


def test_mitmproxy_response_set_on_request_headers_waits_for_the_whole_body() -> None:
    wire = plain_proxy()

    def answer(made: http.HTTPFlow) -> None:
        made.response = http.Response.make(401)

    wire.hooks = {"requestheaders": answer}
    wire.receive(wire.client, POST)
    assert wire.to_client == b""
    wire.receive(wire.client, b"{}")
    assert wire.to_client.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("nothing", "ends"), [(b"", True), ([], False)], ids=["empty piece", "no piece"])
def test_mitmproxy_empty_piece_ends_a_chunked_body_and_an_empty_list_does_not(nothing: Any, ends: bool) -> None:
    wire = plain_proxy()

    def stream(made: http.HTTPFlow) -> None:
        assert made.response is not None
        made.response.stream = lambda piece: nothing if piece == b"held" else piece

    wire.hooks = {"responseheaders": stream}
    wire.receive(wire.client, GET)
    server = wire.connect()
    wire.receive(server, CHUNKED + b"4\r\nheld\r\n")
    assert wire.to_client.endswith(b"\r\n0\r\n\r\n") is ends


def test_mitmproxy_streamed_body_ends_with_an_empty_piece_before_the_response_hook() -> None:
    wire, told = plain_proxy(), list[object]()

    def stream(made: http.HTTPFlow) -> None:
        assert made.response is not None
        made.response.stream = told_of

    def told_of(piece: bytes) -> bytes:
        told.append(piece)
        return piece

    wire.hooks = {"responseheaders": stream, "response": lambda _: told.append("response")}
    wire.receive(wire.client, GET)
    wire.receive(wire.connect(), CHUNKED + b"1\r\na\r\n0\r\n\r\n")
    assert told == [b"a", b"", "response"]


def test_mitmproxy_upstream_trailers_raise_not_implemented() -> None:
    """Our body readers drop them."""
    wire = plain_proxy()
    wire.receive(wire.client, GET)
    server = wire.connect()
    with pytest.raises(NotImplementedError, match="trailers"):
        wire.receive(server, CHUNKED + b"0\r\nTrailer: x\r\n\r\n")


def test_mitmproxy_error_response_is_html() -> None:
    """`ApiHttp1Server` responds with JSON."""
    wire = plain_proxy()
    wire.receive(wire.client, GET)
    wire.connect("refused")
    assert b"<html>" in wire.to_client


def test_mitmproxy_flow_is_live_in_its_response_hook_and_not_afterwards() -> None:
    wire, flows = plain_proxy(), list[http.HTTPFlow]()
    wire.hooks = {"requestheaders": flows.append, "response": lambda made: flows.append(made) if made.live else None}
    wire.receive(wire.client, GET)
    wire.receive(wire.connect(), b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    assert len(flows) == 2, "it is live in its last hook"
    assert not flows[0].live


def test_mitmproxy_flow_is_not_live_after_its_client_disconnects() -> None:
    wire, flows = plain_proxy(), list[http.HTTPFlow]()
    wire.hooks = {"requestheaders": flows.append}
    wire.receive(wire.client, GET)
    wire.connect()
    wire.close(wire.client)
    assert not flows[0].live


def test_mitmproxy_response_ending_before_its_request_is_not_ended_to_the_client() -> None:
    """`ApiHttpStream.send_response` ends it."""
    wire = plain_proxy()

    def stream(made: http.HTTPFlow) -> None:
        made.request.stream = True

    def stream_response(made: http.HTTPFlow) -> None:
        assert made.response is not None
        made.response.stream = True

    wire.hooks = {"requestheaders": stream, "responseheaders": stream_response}
    wire.receive(wire.client, POST)
    wire.receive(wire.connect(), CHUNKED + b"1\r\na\r\n0\r\n\r\n")
    assert wire.to_client.endswith(b"1\r\na\r\n")


def test_mitmproxy_reuses_an_idle_upstream_connection_for_the_same_client() -> None:
    wire = plain_proxy()
    for _ in range(2):
        wire.receive(wire.client, GET)
        server = wire.connections[0] if wire.connections else wire.connect()
        wire.receive(server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert len(wire.connections) == 1
    assert wire.client.state is ConnectionState.OPEN


def test_mitmproxy_wakeup_event_carries_its_command() -> None:
    command = commands.RequestWakeup(1.0)
    assert command.delay == 1.0
    assert isinstance(events.Wakeup(command), events.CommandCompleted)
    assert events.Wakeup(command).command is command


def test_mitmproxy_registers_a_custom_hook_by_name_and_as_blocking() -> None:
    assert StoringHook.name == "storing"
    assert StoringHook.blocking is True
    assert hooks.all_hooks["storing"] is StoringHook


@pytest.mark.parametrize(("set_by_addon", "selected"), [(None, b"http/1.1"), (b"h2", b"h2")])
def test_mitmproxy_alpn_selects_the_protocol_set_on_the_client(set_by_addon: bytes | None, selected: bytes) -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    connection.set_app_data(AppData(client_alpn=set_by_addon, server_alpn=None, http2=True))
    assert alpn_select_callback(connection, [b"http/1.1", b"h2"]) == selected


def test_asyncio_transport_reads_at_most_max_size_bytes_at_once() -> None:
    sizes: list[int] = []
    came = asyncio.Event()

    class Receiver(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            assert transport.max_size > 2 * client_connections._READ_SIZE
            transport.max_size = client_connections._READ_SIZE

        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))
            if sum(sizes) == 200_000:
                came.set()

    async def main() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(Receiver, sock=ours)
        theirs.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(theirs, b"x" * 200_000)
        await came.wait()
        transport.close()
        theirs.close()

    asyncio.run(main())
    assert max(sizes) == client_connections._READ_SIZE


def test_mitmproxy_default_max_conns_per_upstream_is_five() -> None:
    class Handler(ConnectionHandler):
        async def handle_hook(self, hook: commands.StartHook) -> None: ...

    async def main() -> None:
        assert Handler(make_context()).max_conns["x", 80]._value == 5

    asyncio.run(main())


def test_mitmproxy_flows_are_compared_and_hashed_by_identity() -> None:
    assert flow.Flow.__eq__ is object.__eq__
    assert http.HTTPFlow.__hash__ is object.__hash__


def test_mitmproxy_calls_hooks_of_nested_addons() -> None:
    class Child:
        called = False

        def running(self) -> None:
            self.called = True

    class Parent:
        def __init__(self) -> None:
            self.addons = [Child()]

    parent = Parent()
    with taddons.context(parent) as context:
        context.master.addons.invoke_addon_sync(parent, hooks.RunningHook())
    assert parent.addons[0].called


def test_mitmproxy_finds_modes_and_their_servers_by_name() -> None:
    mode = ProxyMode.parse(f"{MODE}:https://vllm:8000")
    assert type(mode) is ProxyReverseMode
    assert (mode.address, mode.scheme, mode.transport_protocol) == (("vllm", 8000), "https", "tcp")
    assert type(ServerInstance.make(mode, CachedProxyserver())) is ProxyServerInstance


def test_mitmproxy_next_layer_has_no_load_hook() -> None:
    assert not hasattr(NextLayer, "load")


def test_mitmproxy_view_comes_after_the_script_loader() -> None:
    async def order(make: Any) -> Sequence[type]:
        return [type(addon) for addon in make(Options()).addons.chain]

    for make in (lambda options: WebMaster(options, with_termlog=False), ConsoleMaster):
        types = asyncio.run(order(make))
        assert types.index(ScriptLoader) < types.index(View)
    assert any(isinstance(addon, ScriptLoader) for addon in default_addons())
    assert WebAddon.__name__.lower() == inspection._BROWSER


def test_mitmproxy_view_lists_flows_oldest_first_and_supports_removal() -> None:
    view = View()
    with taddons.context(view):
        flows = [tflow.tflow() for _ in range(3)]
        for made in flows:
            view.requestheaders(made)
        assert view.store_count() == 3
        assert view.resolve("@all") == flows
        view.remove(flows[:1])
        assert view.resolve("@all") == flows[1:]


def test_mitmproxy_missing_body_is_displayed_as_missing() -> None:
    made = tflow.tflow(resp=True)
    assert made.response is not None
    made.response.raw_content = None
    result = contentviews.prettify_message(made.response, made)
    assert "missing" in result.text


def test_mitmproxy_flow_with_an_object_in_its_metadata_cannot_be_saved() -> None:
    """So the records of exchanges are kept outside the flows."""
    made = tflow.tflow(resp=True)
    made.metadata["tee"] = object()
    with pytest.raises(ValueError, match="unserializable object"):
        FlowWriter(io.BytesIO()).add(made)


def test_mitmproxy_proxyserver_keeps_its_handlers_by_client_id() -> None:
    server: Any = Proxyserver()
    handler = object()
    with server.register_connection("id", handler):
        assert server.connections == {"id": handler}
    assert server.connections == {}
