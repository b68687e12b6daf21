"""WebSockets with real clients and a real server on either side."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.io import FlowReader
from openai import OpenAI
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from scripts.process_stats import forget_peak, peak
from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, signature_status
from tests.e2e.support.realtime_upstream import ANSWER, RealtimeUpstream, running_realtime_upstream
from tests.support import verification
from tests.support.limits import limit


@pytest.fixture(scope="module")
def upstream() -> Iterator[RealtimeUpstream]:
    with running_realtime_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(upstream: RealtimeUpstream) -> Iterator[Proxy]:
    with running_proxy(upstream.url) as running:
        yield running


def open_websocket(proxy: Proxy, path: str, token: str | None = TOKEN, **more: Any) -> ClientConnection:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"ws://127.0.0.1:{proxy.port}{path}"
    return connect(url, additional_headers=headers, max_size=None, proxy=None, close_timeout=limit(), **more)


def receipt_of(client: Connection) -> str:
    assert isinstance(client, ClientConnection)
    assert client.response is not None
    return client.response.headers["x-receipt-id"]


def check_signed(proxy: Proxy, receipt: str, sent: bytes, received: bytes) -> None:
    for port in (proxy.port, proxy.side_port):
        with Asker(port) as asker:
            for algo in ("ecdsa", "ed25519"):
                status, answer = asker.signature(receipt, algo)
                assert status == 200
                verification.check(answer, sent, received)


def test_messages_are_signed_when_the_client_closes(proxy: Proxy) -> None:
    messages: list[str | bytes | list[str]] = [
        "héllo 🙂",
        b"\x00\xff\r\n",
        "",
        ["in ", "three ", "parts"],
        b"x" * 70_000,
    ]
    with open_websocket(proxy, "/v1/echo") as client:
        for message in messages:
            client.send(message)
            assert client.recv() == ("".join(message) if isinstance(message, list) else message)
        assert client.ping(b"not payload").wait(limit()), "the server's pong comes through"
        receipt = receipt_of(client)
        assert signature_status(proxy, receipt) == 404, "it is not over yet"
    said = "héllo 🙂".encode() + b"\x00\xff\r\n" + b"in three parts" + b"x" * 70_000
    check_signed(proxy, receipt, said, said)
    assert client.close_code == 1000


def test_messages_are_signed_when_the_server_closes(proxy: Proxy) -> None:
    with open_websocket(proxy, "/v1/close") as client:
        client.send("now")
        with pytest.raises(ConnectionClosedError):
            client.recv(limit())
    assert (client.close_code, client.close_reason) == (4000, "enough")
    check_signed(proxy, receipt_of(client), b"now", b"")


def test_websocket_without_messages_is_signed(proxy: Proxy) -> None:
    with open_websocket(proxy, "/v1/echo") as client:
        pass
    check_signed(proxy, receipt_of(client), b"", b"")


@pytest.mark.parametrize("connection", ["realtime", "beta"])
def test_openai_realtime_conversation_is_signed(proxy: Proxy, upstream: RealtimeUpstream, connection: str) -> None:
    with OpenAI(base_url=f"{proxy.url}/v1", api_key=TOKEN, websocket_base_url=f"ws://127.0.0.1:{proxy.port}/v1") as api:
        resource: Any = api.realtime if connection == "realtime" else api.beta.realtime
        with resource.connect(model=connection, websocket_connection_options={"proxy": None}) as realtime:
            heard = [realtime.recv_bytes()]
            realtime.response.create()
            while json.loads(heard[-1])["type"] != "response.done":
                heard.append(realtime.recv_bytes())
            receipt = realtime._connection.response.headers["x-receipt-id"]
    assert "".join(json.loads(event).get("delta", "") for event in heard) == "".join(ANSWER)
    said = upstream.heard[f"/v1/realtime?model={connection}"]
    assert json.loads(said)["type"] == "response.create"
    check_signed(proxy, receipt, said, b"".join(heard))


def test_token_as_a_subprotocol_is_accepted_and_not_forwarded(proxy: Proxy, upstream: RealtimeUpstream) -> None:
    offered = [
        Subprotocol(name) for name in ("realtime", f"openai-insecure-api-key.{TOKEN}", "openai-beta.realtime-v1")
    ]
    with open_websocket(proxy, "/v1/realtime?browser", token=None, subprotocols=offered) as client:
        assert client.subprotocol == "realtime"
    received = upstream.handshakes["/v1/realtime?browser"].get(timeout=limit())
    assert received["Sec-WebSocket-Protocol"] == "realtime, openai-beta.realtime-v1"
    assert TOKEN not in str(received)
    assert signature_status(proxy, receipt_of(client)) == 200


@pytest.mark.parametrize(
    ("token", "subprotocols"),
    [
        (None, []),
        ("wrong", []),
        (None, ["realtime", "openai-insecure-api-key.wrong"]),
        ("wrong", [f"openai-insecure-api-key.{TOKEN}"]),
        (None, [f"openai-insecure-api-key.{TOKEN}", f"openai-insecure-api-key.{TOKEN}"]),
    ],
)
def test_handshake_without_a_valid_token_gets_401_and_is_not_forwarded(
    proxy: Proxy, upstream: RealtimeUpstream, token: str | None, subprotocols: list[str]
) -> None:
    offered = [Subprotocol(name) for name in subprotocols] or None
    with pytest.raises(InvalidStatus) as refused:
        open_websocket(proxy, "/v1/realtime?refused", token, subprotocols=offered)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["error"]["type"] == "unauthorized"
    assert upstream.handshakes["/v1/realtime?refused"].empty()


def test_compression_is_not_negotiated(proxy: Proxy, upstream: RealtimeUpstream) -> None:
    """Both ends would like to: the proxy's hashes are of what the client decodes."""
    with open_websocket(proxy, "/v1/echo?compressed", compression="deflate") as client:
        assert client.request is not None
        assert "permessage-deflate" in client.request.headers["Sec-WebSocket-Extensions"]
        assert client.protocol.extensions == []
    assert "Sec-WebSocket-Extensions" not in upstream.handshakes["/v1/echo?compressed"].get(timeout=limit())


def test_large_messages_are_forwarded_in_bounded_memory_and_signed(proxy: Proxy) -> None:
    size = 20 * 2**20
    pid = proxy.process.popen.pid
    with open_websocket(proxy, "/v1/echo") as client:  # once, for what the first one takes
        client.send("x")
        client.recv()
    before = forget_peak(pid)
    sent = b"x" * size
    with open_websocket(proxy, "/v1/count") as client:
        client.send(sent)
        assert client.recv(60) == str(size)
    check_signed(proxy, receipt_of(client), sent, str(size).encode())
    with open_websocket(proxy, "/v1/flood") as client:
        client.send(str(size))
        assert client.recv(60) == b"\0" * size
        client.send("thanks")
    check_signed(proxy, receipt_of(client), str(size).encode() + b"thanks", b"\0" * size)
    assert peak(pid) - before < 8 * 2**20


def test_client_disconnect_without_a_close_frame_leaves_no_signature(proxy: Proxy, upstream: RealtimeUpstream) -> None:
    client = open_websocket(proxy, "/v1/echo?gone")
    client.send("a")
    assert client.recv() == "a"
    client.socket.shutdown(socket.SHUT_RDWR)
    assert upstream.closings["/v1/echo?gone"].get(timeout=limit()) == 1006
    assert signature_status(proxy, receipt_of(client)) == 404


def test_silent_websocket_times_out_and_saved_flows_contain_no_messages(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    with running_realtime_upstream() as upstream:
        with running_proxy(upstream.url, "-w", str(flows), program="mitmdump", VLLM_PROXY_TIMEOUT_SECS="0.5") as proxy:
            with open_websocket(proxy, "/v1/realtime", ping_interval=None) as client:
                client.recv()
                with pytest.raises(ConnectionClosedError):
                    client.recv(limit())
            assert client.close_code == 1006
            assert upstream.closings["/v1/realtime"].get(timeout=limit()) == 1006
            assert signature_status(proxy, receipt_of(client)) == 404
            with open_websocket(proxy, "/v1/close?secret=no") as client:
                client.send("XPROMPTX")
                with pytest.raises(ConnectionClosedError):
                    client.recv(limit())
    with flows.open("rb") as file:
        saved = [flow for flow in FlowReader(file).stream() if isinstance(flow, http.HTTPFlow) and flow.websocket]
    assert [flow.websocket.close_code for flow in saved if flow.websocket] == [1006, 4000]
    assert all(flow.websocket.messages == [] for flow in saved if flow.websocket)
    assert saved[1].websocket is not None
    assert saved[1].websocket.closed_by_client is False
    for words in (b"XPROMPTX", b"enough", TOKEN.encode()):
        assert words not in flows.read_bytes()


def test_open_websocket_may_finish_during_shutdown_and_is_signed(upstream: RealtimeUpstream) -> None:
    with running_proxy(upstream.url) as proxy:
        with open_websocket(proxy, "/v1/echo") as client:
            client.send("before")
            assert client.recv(limit()) == "before"
            proxy.process.popen.send_signal(signal.SIGTERM)
            proxy.process.wait_for("stopping when 1 requests are done")
            client.send("after")
            assert client.recv(limit()) == "after"
        with Asker(proxy.side_port) as asker:
            status, answer = asker.signature(receipt_of(client))
    assert status == 200
    verification.check(answer, b"beforeafter", b"beforeafter")
