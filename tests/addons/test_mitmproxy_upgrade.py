"""What to read again when mitmproxy, or a library below it, is upgraded.

Where our classes override a method, or do over what one does, the source of it is pinned by a digest. A digest that
differs is no defect by itself: read what has changed, see to it that what leans on it still holds, and set the new
digest. What must hold is tested by `test_mitmproxy_behaviour.py`, by the tests of the layers, and end to end.
"""

import hashlib
import inspect

import pytest
from h2.connection import H2Connection
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import contentviews, hooks, http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.addons.view import View
from mitmproxy.coretypes import multidict
from mitmproxy.master import Master
from mitmproxy.net.http.http1 import read
from mitmproxy.optmanager import OptManager, _Option
from mitmproxy.proxy import layer, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes, tls
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, _http1, _http2, _http_h2
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from mitmproxy.proxy.mode_servers import (
    AsyncioServerInstance,
    ProxyConnectionHandler,
    ServerInstance,
)
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.tools import main
from mitmproxy.tools.console.flowview import FlowDetails
from mitmproxy.tools.web.app import FlowContent
from wsproto.frame_protocol import FrameDecoder

from addons.launcher.master import CachedAddonManager, CachedOptions, QuietTlsConfig
from addons.launcher.server import (
    CachedContext,
    InlineReverseProxy,
)
from addons.layers import http_layer
from addons.layers.connections import client_tls, upstream_connections
from addons.layers.http1 import body_reader as http1_body
from addons.layers.http1 import client as http1_client
from addons.layers.http1 import server as http1_server
from addons.layers.http1.server import ApiHttp1Server
from addons.layers.http2 import connection as http2_connection
from addons.layers.http2 import flow_control
from addons.layers.http2 import graceful_server as graceful_http2
from addons.layers.http2 import server as http2_server
from addons.layers.stream import base, early_response, http_stream, request_body, response_end, retry
from addons.messages import parsed_messages as quick_messages
from addons.messages.parsed_messages import IndexedHeaders


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
        (http2_server.ApiHttp2Server, _http2.Http2Server, ["_handle_event", "handle_h2_event"]),
        (flow_control.FlowControlledHttp2Server, _http2.Http2Server, ["close_connection"]),
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
def test_overridden_mitmproxy_methods_exist_with_the_same_parameters(
    ours: type, theirs: type, methods: list[str]
) -> None:
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
def test_reimplemented_mitmproxy_source_is_unchanged(theirs: object, ours: object, digest: str) -> None:
    found = digest_of(theirs)
    assert found == digest, f"read what has changed, see to it that {ours} still does the same, and set {found!r} here"


@pytest.mark.parametrize(
    ("theirs", "leaned_on", "digest"),
    [
        (
            HttpLayer,
            [
                "a client connection that is there already is kept",
                "a wakeup goes back to the layer that asked for it",
                "commands, connections and those that wait for them are kept in command_sources and connections",
                "a stream is told of an event before the connection goes on",
            ],
            "8da4a8a48e637b88",
        ),
        (
            HttpStream,
            [
                "a response that is set in requestheaders is answered by start_request_stream when the request streams",
                "a flow is live until its last byte is on its way",
                "no wakeup is asked for",
                "the body of a flow is set before its hook, and taken from the flow behind it",
                "the end of a streamed body is told by an empty piece, before the response hook",
                "a response ends only when its request has",
                "what comes while a stream waits is in _paused_event_queue",
                "a change of protocol ends in flow_done, with a child layer that passthrough feeds",
            ],
            "baaac4f7cdb36a32",
        ),
        (
            _http1.Http1Connection,
            ["a state finds in the buffer what has come", "no response is sent by what reads a body"],
            "c0675638b0756013",
        ),
        (
            _http1.Http1Server,
            [
                "a 100 is taken for the response",
                "HTML is made in two places, both of them replaced",
                "the last act upon a head that cannot be read is to be done",
            ],
            "cc8428d0bb6f79a5",
        ),
        (_http1.Http1Client, ["what should_make_pipe says of a 101"], "706b7a68f2809929"),
        (
            _http2.Http2Connection,
            ["h2_conn is what __init__ puts in, and can be replaced", "close_connection ends every stream"],
            "f18f3940fd55a0f0",
        ),
        (_http2.Http2Server, ["streams knows those whose headers have come"], "97aac4eab18a0294"),
        (_http_h2.BufferedH2Connection, ["bodies wait in stream_buffers"], "f983b7220f47b60a"),
        (
            H2Connection._receive_goaway_frame,
            ["it closes the connection's state, so a GOAWAY must not reach it"],
            "de018f94938e1001",
        ),
        (
            ConnectionHandler,
            [
                "one event is handled at a time, and nothing is awaited in it",
                "a handler keeps its transports, and a task for each",
                "the reader of a transport is looked up once, when the task begins",
                "a task that is cancelled while it hands over data leaves its socket open (SocketLeakFix)",
                "the writers of a client are emptied before more is read",
                "five connections to an address, by max_conns",
                "timestamp_tcp_setup tells a new connection from an idle one",
                "client.error refuses a client, and server.error a connection",
            ],
            "f7209a1273f3da94",
        ),
        (
            ProxyConnectionHandler,
            ["a hook has one argument, and is awaited with the watchdog disarmed"],
            "10e340d70b3f23d9",
        ),
        (
            Proxyserver.register_connection,
            ["the handlers are in connections, by the ids of their clients"],
            "d79bb91554a8bda2",
        ),
        (Proxyserver.configure, ["the option server closes the port"], "03e1da6deac19a25"),
        (
            ServerInstance.handle_stream,
            ["it needs mode, make_top_layer and manager alone"],
            "21eea06f208c752e",
        ),
        (AsyncioServerInstance, ["a server that stops does not wait for its connections"], "d565bfefd6af81fe"),
        (tunnel.TunnelLayer._handle_event, ["an event of ours reaches the HTTP layer"], "00676a887c456cec"),
        (
            tls.ClientTLSLayer.receive_handshake_data,
            ["a ClientHello is gathered in recv_buffer", "its hook comes before TLS is started"],
            "a0ee021f92f6d0ff",
        ),
        (TlsConfig.tls_start_client, ["client.alpn, where it is set, is what is selected"], "05334c27c22a10ed"),
        (
            WebsocketLayer,
            ["a flow is not live when it has ended"],
            "094cd5f8cf031433",
        ),
        (FrameDecoder, ["frames are decoded in pieces, and buffer says what is left"], "a06eb6159106220a"),
        (ReceiveBuffer, ["bytes() makes a copy"], "108c4355eb3b1717"),
        (Master.__init__, ["the parts that ProxyMaster replaces"], "8e2a46cc1aca56ca"),
        (Master.run, ["tasks are eager"], "45c44c14f8f79349"),
        (AddonManager, ["the hooks are dispatched in trigger_event and handle_lifecycle"], "6be8dc580f5c66bf"),
        (main.run, ["SIGTERM has a handler, which the drain replaces"], "bea9540bf91c354a"),
        (View, ["flows are listed oldest first, and one that is removed alone is not announced"], "42a3bad90a72552f"),
        (contentviews.prettify_message, ["there is no view of a body that is None"], "5b6872aba7f88b15"),
        (FlowContent.get, ["it fails on a body that is None"], "a85ad0f7fe674dc3"),
        (FlowDetails.content_view, ["it shows an error for a body that is None"], "a72899dd79d14f47"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_relied_on_mitmproxy_source_is_unchanged(theirs: object, leaned_on: list[str], digest: str) -> None:
    found = digest_of(theirs)
    held = "; ".join(leaned_on)
    assert found == digest, f"read what has changed, see to it that this holds still, and set {found!r} here: {held}"


def digest_of(thing: object) -> str:
    return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:16]  # type: ignore[arg-type]
