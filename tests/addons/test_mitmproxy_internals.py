"""What we lean on inside mitmproxy, name by name. When one of these fails, a new mitmproxy has moved something:
read what it says, then the module that it names."""

import asyncio
import asyncio.selector_events
import hashlib
import inspect
import io
import re
from asyncio import selector_events

import pytest
from h2.connection import H2Connection
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import contentviews, flow, hooks, http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons import default_addons, tlsconfig
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.script import ScriptLoader
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.addons.view import View
from mitmproxy.coretypes import multidict
from mitmproxy.io import FlowWriter
from mitmproxy.master import Master
from mitmproxy.net.http.http1 import read
from mitmproxy.optmanager import OptManager, _Option
from mitmproxy.proxy import commands, events, layer, server, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes, tls
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, _http1, _http2, _http_h2
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from mitmproxy.proxy.mode_servers import (
    AsyncioServerInstance,
    ProxyConnectionHandler,
    ReverseInstance,
    ServerInstance,
)
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.test import taddons, tflow
from mitmproxy.tools import main
from mitmproxy.tools.console.flowview import FlowDetails
from mitmproxy.tools.console.master import ConsoleMaster
from mitmproxy.tools.web.app import FlowContent
from mitmproxy.tools.web.master import WebMaster
from mitmproxy.tools.web.webaddons import WebAddon
from wsproto.frame_protocol import FrameDecoder

from addons.inspection import inspection
from addons.launcher.master import CachedAddonManager, CachedOptions, QuietTlsConfig
from addons.launcher.server import (
    MODE,
    CachedContext,
    CachedProxyserver,
    InlineReverseProxy,
    ProxyReverseMode,
    ProxyServerInstance,
)
from addons.layers import http_layer
from addons.layers.connections import client_connections, client_tls, upstream_connections
from addons.layers.http1 import body_reader as http1_body
from addons.layers.http1 import client as http1_client
from addons.layers.http1 import server as http1_server
from addons.layers.http1.server import ApiHttp1Server
from addons.layers.http2 import connection as http2_connection
from addons.layers.http2 import graceful_server as graceful_http2
from addons.layers.http2 import server as http2_server
from addons.layers.stream import base, early_response, http_stream, request_body, response_end, retry
from addons.messages import parsed_messages as quick_messages
from addons.messages.parsed_messages import IndexedHeaders
from addons.signing import store_hook as storing


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "methods"),
    [
        (
            http1_server.ApiHttp1Server,
            _http1.Http1Server,
            ["_handle_event", "handle_event", "send", "read_headers", "read_body", "wait", "mark_done"],
        ),
        (base.BaseStream, HttpStream, ["state_wait_for_request_headers", "make_server_connection"]),
        (early_response.EarlyResponseStream, HttpStream, ["send_response"]),
        (
            request_body.RequestBodyStream,
            HttpStream,
            [
                "_handle_event",
                "handle_event",
                "start_request_stream",
                "state_stream_request_body",
                "state_consume_request_body",
            ],
        ),
        (retry.RetryStream, HttpStream, ["handle_protocol_error"]),
        (response_end.ResponseEndStream, HttpStream, ["start_response_stream"]),
        (http_stream.ApiHttpStream, HttpStream, ["state_wait_for_response_headers", "flow_done"]),
        (
            http2_server.ApiHttp2Server,
            _http2.Http2Server,
            ["_handle_event", "handle_h2_event", "close_connection"],
        ),
        (
            graceful_http2.GracefulHttp2Server,
            _http2.Http2Server,
            ["protocol_error", "done"],
        ),
        (
            http2_connection.QueueingConnection,
            _http_h2.BufferedH2Connection,
            ["initiate_connection", "send_data", "end_stream", "reset_stream", "receive_data", "_receive_goaway_frame"],
        ),
        (client_tls.ApiClientTLSLayer, tls.ClientTLSLayer, ["receive_handshake_data"]),
        (http1_body.CrlfBuffer, ReceiveBuffer, ["maybe_extract_lines", "maybe_extract_next_line"]),
        (http_layer.ApiHttpLayer, HttpLayer, ["_handle_event", "handle_event", "make_stream"]),
        (
            upstream_connections.UpstreamConnections,
            HttpLayer,
            ["_handle_event", "event_to_child", "get_connection", "register_connection"],
        ),
        (
            http1_client.ApiHttp1Client,
            _http1.Http1Client,
            ["_handle_event", "send", "read_headers", "read_body", "mark_done"],
        ),
    ],
)
def test_what_is_overridden_is_there_and_takes_the_same(ours: type, theirs: type, methods: list[str]) -> None:
    assert issubclass(ours, theirs)
    for name in methods:
        assert list(inspect.signature(getattr(ours, name)).parameters) == list(
            inspect.signature(getattr(theirs, name)).parameters
        )
    overridden = {name for name in vars(ours) if hasattr(theirs, name) and inspect.isfunction(vars(ours)[name])}
    assert overridden - {"__init__"} == set(methods), "an override that this list does not know"


@pytest.mark.parametrize(
    ("theirs", "ours", "digest"),
    [
        (layer.Layer.handle_event, ApiHttp1Server.handle_event, "fd88b0fb09ceddbb"),
        (layer.NextLayer._ask, InlineReverseProxy.handle_event, "4d8ace76d8488336"),
        (modes.DestinationKnown.finish_start, InlineReverseProxy.handle_event, "91f47432073a2bf6"),
        (HttpLayer.event_to_child, upstream_connections.UpstreamConnections.event_to_child, "1095f6e1581d1780"),
        (HttpStream._handle_event, request_body.RequestBodyStream._handle_event, "e3cbfef7310ae81f"),
        (_http1.Http1Connection._handle_event, http1_client.handle_http1_event, "2ac8db3e43ae743f"),
        (_http1.Http1Server.read_headers, ApiHttp1Server.read_headers, "3fe0945216bcf7bc"),
        (Context, CachedContext, "dd52bbec90eacace"),
        (hooks.Hook.args, CachedAddonManager.arguments, "5bab95f7aa358e18"),
        (OptManager.__getattr__, CachedOptions.__getattr__, "a9d5792099cd82ef"),
        (_Option.current, CachedOptions.__getattr__, "6859c2d9c826806e"),
        (TlsConfig.request, QuietTlsConfig, "84c6d74b564dde72"),
        (multidict._MultiDict.__getitem__, IndexedHeaders.__getitem__, "482e7414c932e3e8"),
        (http.Headers.get_all, IndexedHeaders.get_all, "367b3317bc2ba45c"),
        (read.read_request_head, quick_messages.read_request_head, "d7a54f7078584448"),
        (read.read_response_head, quick_messages.read_response_head, "7f1f014abc5eeac1"),
        (http.MessageData, quick_messages.ParsedRequest, "bad2ea9a351a70d6"),
        (http.Request.__init__, quick_messages.ParsedRequest, "a049b5aa3267ed2c"),
        (http.Response.__init__, quick_messages.ParsedResponse, "c6aa2ee439b59206"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_what_is_written_anew_here_is_there_as_it_was_when_that_was_done(
    theirs: object, ours: object, digest: str
) -> None:
    found = hashlib.sha256(source(theirs).encode()).hexdigest()[:16]
    assert found == digest, f"read what has changed, see to it that {ours} still does the same, and set {found!r} here"


def test_the_layer_keeps_a_client_connection_that_is_there_already() -> None:
    assert "self.connections.setdefault(self.context.client, http_conn)" in source(HttpLayer._handle_event)


def test_body_readers_fail_on_trailers() -> None:
    assert "HTTP trailers are not implemented yet" in source(_http1.Http1Connection.read_body)


def test_a_100_is_taken_for_a_response() -> None:
    assert "self.response = response = event.response" in source(_http1.Http1Server.send)


def test_the_layer_sends_a_wakeup_back_to_whoever_asked_for_it() -> None:
    assert "command: commands.RequestWakeup" in source(events.Wakeup)
    assert issubclass(events.Wakeup, events.CommandCompleted)
    assert commands.RequestWakeup(1.0).delay == 1.0


def test_a_response_that_is_set_is_answered_by_start_request_stream_when_the_request_streams() -> None:
    states = source(HttpStream.state_wait_for_request_headers)
    assert (
        "if self.flow.request.stream and not event.end_stream:\n            yield from self.start_request_stream()"
        in states
    )
    assert "if self.flow.response:\n            raise NotImplementedError" in source(HttpStream.start_request_stream)


def test_no_body_is_answered_by_what_reads_it() -> None:
    assert "SendData" not in source(_http1.Http1Connection.read_body)
    assert "SendData" not in source(_http1.Http1Connection.mark_done)


def test_only_these_places_make_html() -> None:
    assert source(_http1).count("make_error_response(") == 3  # its definition, and both places that we replace


def test_the_last_act_upon_a_head_that_cannot_be_read_is_to_be_done() -> None:
    assert "self.state = self.done\n                    return" in source(_http1.Http1Server.read_headers)


def test_the_bytes_of_a_receive_buffer_are_a_copy() -> None:
    assert "return self._data" not in source(ReceiveBuffer.__bytes__)


def test_what_has_come_is_in_the_buffer_before_a_state_sees_it() -> None:
    assert "self.buf += event.data\n            yield from self.state(event)" in source(
        _http1.Http1Connection._handle_event
    )


def test_a_client_connection_is_found_and_ended_through_its_handler() -> None:
    assert "self.connections[connection_id] = handler" in source(Proxyserver.register_connection)
    handled = source(ConnectionHandler.handle_client)
    for line in client_connections._CONNECTION_LINES:
        assert f'self.log("{line}")' in handled
    assert "if self.client.error:" in handled
    assert 'handler.cancel("timeout")' in source(ConnectionHandler.on_timeout)
    assert "async with self._server_event_lock" in source(ConnectionHandler.server_event)
    assert ConnectionHandler.__module__ == server.logger.name


def test_a_task_that_ends_as_it_should_takes_its_connection_out_before_the_hook() -> None:
    handled = source(ConnectionHandler.handle_connection)
    assert "self.transports.pop(connection)" in handled
    assert "await self.server_event(events.DataReceived(connection, data))\n" in handled, "where it is cancelled"
    opened = source(ConnectionHandler.open_connection)
    assert opened.index("await self.handle_connection(") < opened.index("ServerDisconnectedHook(hook_data)")


def test_an_event_of_ours_reaches_the_http_layer() -> None:
    assert "yield from self.event_to_child(event)" in source(tunnel.TunnelLayer._handle_event)
    assert "self._handle_event = self.layer.handle_event" in source(layer.NextLayer._ask)


def test_asyncio_reads_as_much_at_once_as_it_is_told() -> None:
    assert "self._sock.recv(self.max_size)" in source(selector_events)
    assert "reader.read(65535)" in source(ConnectionHandler.handle_connection)


def test_a_client_hello_is_gathered_in_a_buffer() -> None:
    assert "self.recv_buffer.extend(data)" in source(tls.ClientTLSLayer.receive_handshake_data)


def test_a_protocol_that_is_set_on_the_client_is_the_one_that_is_selected() -> None:
    assert "client_alpn = client.alpn" in source(TlsConfig.tls_start_client)
    assert "if client_alpn in options:\n            return client_alpn" in source(tlsconfig.alpn_select_callback)
    parsed = source(tls.ClientTLSLayer.receive_handshake_data)
    assert parsed.index("TlsClienthelloHook(") < parsed.index("self.start_tls()")


def test_a_new_connection_can_be_told_from_an_idle_one() -> None:
    assert "timestamp_tcp_setup = time.time()" in source(ConnectionHandler.open_connection)


def test_an_empty_chunk_would_end_a_chunked_body_and_the_end_is_told_by_an_empty_piece() -> None:
    streaming = source(HttpStream.state_stream_response_body)
    assert 'self.flow.response.stream(b"")' in streaming
    assert streaming.index('stream(b"")') < streaming.index("self.send_response(already_streamed=True)")
    assert r'b"%x\r\n%s\r\n" % (len(event.data), event.data)' in source(_http1.Http1Server.send)


def test_a_hook_of_our_own_blocks_its_layer_and_takes_one_argument() -> None:
    assert storing.StoringHook.name == "storing"
    assert storing.StoringHook.blocking is True
    assert "(data,) = hook.args()" in source(ProxyConnectionHandler.handle_hook)
    assert "events.HookCompleted(hook)" in source(ConnectionHandler.hook_task)
    assert "self.server_state = self.state_stream_response_body" in source(HttpStream.start_response_stream)


def test_a_switch_of_protocols_ends_in_flow_done_with_a_child_layer_that_passthrough_feeds() -> None:
    done = source(HttpStream.flow_done)
    assert "self.child_layer = websocket.WebsocketLayer(self.context, self.flow)" in done
    assert "self._handle_event = self.passthrough\n" in done
    assert done.index("child_layer.handle_event(events.Start())") < done.index("ResponseEndOfMessage(self.stream_id)")
    assert "event = events.ConnectionClosed(self.context.server)" in source(HttpStream.passthrough)
    assert "self.flow.websocket = WebSocketData()" in source(HttpStream.send_response)
    assert "return True" in source(_http1.should_make_pipe).partition("response.status_code == 101")[2]


def test_websocket_frames_are_decoded_in_pieces_and_what_is_left_can_be_counted() -> None:
    assert "self.buffer.commit()" in source(FrameDecoder.process_buffer)
    assert "self.effective_opcode = Opcode.CONTINUATION" in source(FrameDecoder.process_buffer)
    assert len(FrameDecoder(client=True).buffer) == 0


def test_http2_connections_use_what_is_put_in_and_nothing_else() -> None:
    assert "self.h2_conn = BufferedH2Connection(self.h2_conf)" in source(_http2.Http2Connection.__init__)
    assert "for stream_id in self.streams:" in source(_http2.Http2Connection.close_connection)
    assert "self._handle_event = self.done" in source(_http2.Http2Connection.close_connection)
    assert "self.streams[event.stream_id] = StreamState.HEADERS_RECEIVED" in source(_http2.Http2Server.handle_h2_event)
    assert "text/html" in source(_http2.Http2Connection._handle_event)  # for ResponseProtocolError, which we take


def test_a_goaway_goes_through_a_method_that_can_be_overridden() -> None:
    dispatched = source(H2Connection.__init__)
    assert "GoAwayFrame: self._receive_goaway_frame" in dispatched
    assert "ConnectionInputs.RECV_GOAWAY" in source(H2Connection._receive_goaway_frame), "which closes its state"


def test_http2_events_reach_the_stream_before_the_connection_goes_on() -> None:
    assert "yield from self.event_to_child(stream, command.event)" in source(HttpLayer.event_to_child)


def test_a_stream_tells_by_its_state_whether_it_keeps_its_body() -> None:
    assert "self.client_state = self.state_stream_request_body" in source(HttpStream.start_request_stream)


def test_an_event_waits_for_its_turn_and_for_nothing_else() -> None:
    handling = source(ConnectionHandler.server_event)
    assert handling.count("async with self._server_event_lock:") == 1
    assert "# No `await` beyond this point." in handling
    assert "await " not in handling.partition("# No `await` beyond this point.")[2]


def test_streams_ask_for_no_wakeups_of_their_own() -> None:
    assert "RequestWakeup" not in source(HttpStream)


def test_a_connection_is_read_through_whatever_reader_is_there_when_it_has_been_made() -> None:
    reading = source(ConnectionHandler.handle_connection)
    assert "reader = self.transports[connection].reader" in reading
    assert reading.count("reader.") == 1
    opening = source(ConnectionHandler.open_connection)
    assert opening.index("ServerConnectedHook") < opening.index("self.handle_connection(")


def test_a_connection_that_is_cancelled_while_it_hands_over_data_is_left_open() -> None:
    """Once this fails, `addons.lifecycle.socket_leak_fix` may have become needless."""
    reading = source(ConnectionHandler.handle_connection)
    loop = reading[: reading.index("if cancelled is None")]
    assert loop.index("await self.server_event(events.DataReceived") > loop.index("except asyncio.CancelledError")
    assert "try:\n                await self.drain_writers()" in loop
    assert "writer.close()" not in loop


def test_asyncio_reads_in_pieces_whose_size_can_be_set() -> None:
    assert asyncio.selector_events._SelectorTransport.max_size > 2 * client_connections._READ_SIZE  # type: ignore[attr-defined]
    assert "self._sock.recv(self.max_size)" in source(asyncio.selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]
    assert "await reader.read(65535)" in source(ConnectionHandler.handle_connection)


def test_the_number_of_upstream_connections_of_a_client_can_be_set() -> None:
    assert "collections.defaultdict(lambda: asyncio.Semaphore(5))" in source(ConnectionHandler.__init__)
    assert "async with self.max_conns[command.connection.address]" in source(ConnectionHandler.open_connection)


def test_flows_can_be_kept_weakly() -> None:
    assert flow.Flow.__eq__ is object.__eq__
    assert http.HTTPFlow.__hash__ is object.__hash__


def test_an_addon_of_an_addon_gets_its_hooks() -> None:
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


def test_a_graceful_stop_finds_what_it_leans_on() -> None:
    assert "loop.add_signal_handler(signal.SIGTERM, _sigterm)" in source(main.run), "which the drain replaces"
    assert 'if "mode" in updated or "server" in updated' in source(Proxyserver.configure)
    stop = source(AsyncioServerInstance._stop)
    assert "s.close()" in stop
    assert "# await asyncio.gather(*[s.wait_closed()" in stop, "or it would wait for the connections that live on"
    assert "self.connections[connection_id] = handler" in source(Proxyserver.register_connection)
    assert "self.manager.register_connection(handler.layer.context.client.id, handler)" in source(ServerInstance)
    # How a connection is closed from outside, and that nothing of it is left then.
    timeout = source(ConnectionHandler.on_timeout)
    assert "self.transports[self.client].handler" in timeout
    assert "handler.cancel(" in timeout


def test_a_flow_is_live_until_its_last_byte_is_on_its_way() -> None:
    assert "self.flow.live = True" in source(HttpStream.state_wait_for_request_headers)
    assert "if not self.flow.websocket:\n            self.flow.live = False" in source(HttpStream.flow_done)
    assert "self.flow.live = False" in source(WebsocketLayer)
    assert "self.flow.live = False" in source(HttpStream.handle_protocol_error)


def test_the_writers_of_a_client_can_be_found_and_are_emptied_before_more_is_read() -> None:
    assert "self.connections[connection_id] = handler" in source(Proxyserver.register_connection)
    reading = source(ConnectionHandler.handle_connection)
    assert reading.index("reader.read(") < reading.index("self.drain_writers()")
    assert "for transport in list(self.transports.values())" in source(ConnectionHandler.drain_writers)


def test_connections_and_those_who_wait_for_them_are_kept_where_we_keep_ours() -> None:
    routing = source(HttpLayer.event_to_child)
    assert "self.command_sources[command] = child" in routing
    assert "conn = self.connections[command.connection]" in routing
    assert "self.connections[command.connection] = child" in routing
    assert "yield from self.get_connection(command)" in routing
    assert "yield from self.register_connection(command)" in routing
    assert "handler = self.connections[event.connection]" in source(HttpLayer._handle_event)


def test_an_answer_ends_only_when_the_request_has() -> None:
    assert "if self.client_state == self.state_done:\n            yield from self.flow_done()" in source(
        HttpStream.send_response
    )


def test_what_comes_while_a_stream_waits_is_in_a_queue() -> None:
    assert "for evt in self._paused_event_queue" in source(HttpStream.check_killed)


def test_hooks_are_dispatched_where_the_lean_master_does_it() -> None:
    """The launcher does these over; what else comes to be done there is missing here."""
    overridden = {name for name in vars(CachedAddonManager) if name in vars(AddonManager) and not name.startswith("__")}
    assert overridden == {"add", "clear", "handle_lifecycle", "register", "remove", "trigger_event"}
    assert "for a in traverse([addon])" in source(AddonManager._iter_hooks)
    assert "await self.trigger_event(hooks.UpdateHook([message]))" in source(AddonManager.handle_lifecycle)
    assert "await self.invoke_addon(i, event)" in source(AddonManager.trigger_event)
    handle = source(ProxyConnectionHandler.handle_hook)
    assert "with self.timeout_watchdog.disarm()" in handle
    assert "await self.master.addons.handle_lifecycle(hook)" in handle
    assert "await data.wait_for_resume()" in handle
    assert "await self.server_event(events.HookCompleted(hook))" in source(ConnectionHandler.hook_task)


def test_layers_are_asked_for_commands_and_told_of_completed_hooks_in_one_place() -> None:
    assert source(ConnectionHandler).count("self.layer.handle_event(event)") == 1
    assert "self.hook_task(command)" in source(ConnectionHandler.server_event)


def test_nothing_is_waited_for_where_no_writer_holds_anything() -> None:
    drain = source(ConnectionHandler.drain_writers)
    assert drain.count("await ") == 1
    assert "await transport.writer.drain()" in drain


def test_a_stream_is_taken_as_the_lean_server_takes_it() -> None:
    taken = source(ServerInstance.handle_stream)
    assert "ProxyConnectionHandler(\n            ctx.master, reader, writer, ctx.options, self.mode" in taken
    assert "handler.layer = self.make_top_layer(handler.layer.context)" in taken
    assert "asyncio.start_server(self.handle_stream, host, port)" in source(AsyncioServerInstance.listen)
    assert "return layers.modes.ReverseProxy(context)" in source(ReverseInstance.make_top_layer)


def test_a_server_that_listens_nowhere_can_handle_a_connection() -> None:
    """The side port has a socket of its own, and takes the rest from a server instance that was never started."""
    handled = source(ServerInstance.handle_stream)
    assert set(re.findall(r"self\.(\w+)", handled)) == {"mode", "make_top_layer", "manager"}
    assert list(inspect.signature(ServerInstance.__init__).parameters) == ["self", "mode", "manager"]
    assert "data.server.error" in source(Proxyserver.server_connect), "by which a hook forbids a connection"
    assert "if err := command.connection.error:" in source(ConnectionHandler.open_connection)


def test_modes_and_their_servers_are_found_by_name() -> None:
    mode = ProxyMode.parse(f"{MODE}:https://vllm:8000")
    assert type(mode) is ProxyReverseMode
    assert (mode.address, mode.scheme, mode.transport_protocol) == (("vllm", 8000), "https", "tcp")
    assert type(ServerInstance.make(mode, CachedProxyserver())) is ProxyServerInstance


def test_the_lean_master_stands_in_for_the_masters_own_parts() -> None:
    made = source(Master.__init__)
    assert "self.addons = addonmanager.AddonManager(self)" in made
    assert "self._legacy_log_events.install()" in made
    assert "self._termlog_addon = termlog.TermLog()" in made
    assert "asyncio_utils.set_eager_task_factory()" in source(Master.run)
    assert not hasattr(NextLayer, "load"), "an option that it adds would configure the signer too early"


def test_a_body_is_put_into_its_flow_and_taken_from_there_where_inspection_takes_it_that_it_is() -> None:
    consumed = source(HttpStream.state_consume_request_body)
    steps = [
        "self.flow.request.data.content = bytes(self.request_body_buf)",
        "yield HttpRequestHook(self.flow)",
        "ok = yield from self.make_server_connection()",
        "content = self.flow.request.raw_content",
    ]
    assert [consumed.index(step) for step in steps] == sorted(consumed.index(step) for step in steps)
    assert "self.flow.response.data.content = bytes(self.response_body_buf)" in source(
        HttpStream.state_consume_response_body
    )
    for streaming in (HttpStream.state_stream_request_body, HttpStream.start_request_stream):
        assert "raw_content" not in source(streaming)
    assert "if not already_streamed:\n            content = self.flow.response.raw_content" in source(
        HttpStream.send_response
    )


def test_the_list_of_flows_has_its_turn_after_the_scripts() -> None:
    for made in (source(WebMaster.__init__), source(ConsoleMaster.__init__)):
        assert made.index("addons.default_addons()") < made.index("self.view,")
    assert any(isinstance(addon, ScriptLoader) for addon in default_addons())


def test_the_list_of_flows_is_oldest_first_and_can_be_taken_from() -> None:
    assert "return len(self._store)" in source(View.store_count)
    assert "[i for i in self._store.values()]" in source(View.resolve)
    assert "if len(flows) > 1:\n            logging.log(ALERT" in source(View.remove)
    assert "self.add([f])" in source(View.requestheaders)
    assert WebAddon.__name__.lower() == inspection._BROWSER


def test_where_there_is_no_content_there_is_no_view_of_it() -> None:
    assert "if data is None:" in source(contentviews.prettify_message)
    assert "self.write(message.get_content(strict=False))" in source(FlowContent.get), "which is a 500 for None"
    assert 'message.raw_content is None:\n            return "", [urwid.Text([("error"' in source(
        FlowDetails.content_view
    )


def test_a_flow_with_an_object_in_its_metadata_cannot_be_saved() -> None:
    """So what is known of exchanges is kept beside them."""
    made = tflow.tflow(resp=True)
    made.metadata["tee"] = object()
    with pytest.raises(ValueError, match="unserializable object"):
        FlowWriter(io.BytesIO()).add(made)
