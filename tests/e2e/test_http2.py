"""HTTP/2 to clients, with real clients: what works over HTTP/1.1 works."""

import asyncio
import hashlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hyperframe.frame import DataFrame
from openai import DefaultHttpxClient, OpenAI

from addons.layers.http2.connection import STREAM_WINDOW
from tests.e2e.support.http2_client import Http2Client, fields
from tests.e2e.support.processes import MODEL, TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import chat_body, error_of
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)
from tests.support import verification
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(http2=True, verify=False, base_url=f"https://127.0.0.1:{proxy.port}", headers=headers) as made:
        yield made


def test_proof_pages_and_forwarded_requests_share_a_connection(client: httpx2.Client) -> None:
    answers = [client.get(path) for path in ("/health", "/version", "/v1/models", "/v1/signature/none", "/ready")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 200]
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert len({answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}) == 1


def test_head_response_has_no_body(client: httpx2.Client) -> None:
    for path, status in (("/health", 200), ("/v1/models", 501)):  # the stand-in knows no HEAD
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (status, b"")
    refused = client.head("/v1/unknown", headers={"Authorization": "Bearer wrong"})
    assert (refused.status_code, refused.content) == (401, b"")


def test_openai_package_chats_over_http2(proxy: Proxy) -> None:
    http_client = DefaultHttpxClient(http2=True, verify=False)
    url = f"https://127.0.0.1:{proxy.port}/v1"
    with OpenAI(base_url=url, api_key=TOKEN, http_client=http_client, max_retries=0) as client:
        chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hé🙂"}])
        assert chat.choices[0].message.content == "hé🙂"
        stream = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hé🙂"}], stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "hé🙂"


def test_curl_streams_a_chat_over_http2(proxy: Proxy, tmp_path: Path) -> None:
    body = chat_body("hi", stream=True)
    (tmp_path / "request").write_bytes(body)
    headers = [
        "-H",
        f"Authorization: Bearer {TOKEN}",
        "-H",
        "Content-Type: application/json",
        "-H",
        "Expect: 100-continue",
    ]
    command = ["curl", "-sk", "--http2", "-w", "%{http_version}", "-o", str(tmp_path / "answer"), *headers]
    url = f"https://127.0.0.1:{proxy.port}/v1/chat/completions"
    said = subprocess.run(
        [*command, "--data-binary", f"@{tmp_path / 'request'}", url], capture_output=True, text=True, check=True
    )
    assert said.stdout == "2"
    assert (tmp_path / "answer").read_bytes().endswith(b"data: [DONE]\n\n")


def test_concurrent_streams_on_one_connection_are_each_signed(proxy: Proxy) -> None:
    async def chat(client: httpx2.AsyncClient, number: int) -> None:
        body = chat_body(f"number {number}", stream=True)
        answer = await client.post("/v1/chat/completions", content=body)
        assert answer.status_code == 200
        signed = await client.get(f"/v1/signature/{answer.headers['x-receipt-id']}")
        verification.check(signed.json(), body, answer.content)

    async def many() -> None:
        limits = httpx2.Limits(max_connections=1)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"https://127.0.0.1:{proxy.port}"
        async with httpx2.AsyncClient(http2=True, verify=False, base_url=url, headers=headers, limits=limits) as client:
            await asyncio.gather(*(chat(client, number) for number in range(20)))

    asyncio.run(many())


def test_streams_waiting_for_their_upstream_do_not_block_others() -> None:
    """Thirty answers are under way at once, and none of them goes on before all have begun."""
    begun = threading.Barrier(30)

    def script(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            peer.send(SSE_HEAD)
            begun.wait(limit())
            for event in events(json.loads(received.body)["user"], "a"):
                peer.send(chunk(event))
            peer.send(LAST_CHUNK)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, Http2Client(proxy.port) as client:
        streams = []
        for number in range(30):
            streams.append(client.begin(fields()))
            client.send(streams[-1], chat_body(user=f"chatcmpl-{number}", stream=True), end=True)
        for number, stream_id in enumerate(streams):
            answer = client.finish(stream_id)
            assert answer.body == b"".join(events(f"chatcmpl-{number}", "a"))
            assert "transfer-encoding" not in answer.headers


def test_signature_is_available_before_the_client_receives_done() -> None:
    def script(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            chat_id = json.loads(received.body)["user"]
            peer.send(SSE_HEAD)
            for event in events(chat_id, "a"):
                peer.send(chunk(event))
            peer.send(LAST_CHUNK)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with Http2Client(proxy.port) as client, Http2Client(proxy.port) as asker:
            for number in range(50):
                stream_id = client.begin(fields())
                client.send(stream_id, chat_body(user=f"chatcmpl-{number}", stream=True), end=True)
                answer = client.answers[stream_id]
                client.wait(lambda answer=answer: b"[DONE]" in answer.body)  # type: ignore[misc]
                assert asker.request(fields("GET", f"/v1/signature/chatcmpl-{number}")).status == 200


def test_stream_reset_closes_only_its_own_upstream_connection() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            peer.send(SSE_HEAD + chunk(b'data: {"id":"chatcmpl-1"}\n\n'))
            if json.loads(received.body)["user"] == "leaves":
                peer.wait_closed()
                gone.set()
                return
            assert gone.wait(limit())
            peer.send(chunk(b"data: [DONE]\n\n") + LAST_CHUNK)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, Http2Client(proxy.port) as client:
        leaves, stays = client.begin(fields()), client.begin(fields())
        client.send(leaves, chat_body(user="leaves", stream=True), end=True)
        client.send(stays, chat_body(user="stays", stream=True), end=True)
        client.wait(lambda: client.answers[leaves].body and client.answers[stays].body)
        client.h2.reset_stream(leaves, 8)
        client.flush()
        assert client.finish(stays).body.endswith(b"[DONE]\n\n")
        receipts = [client.answers[stream].headers["x-receipt-id"] for stream in (leaves, stays)]
        statuses = [client.request(fields("GET", f"/v1/signature/{receipt}")).status for receipt in receipts]
    assert statuses == [404, 200]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"], ids=["signed", "passed"])
def test_backpressure_of_a_slow_reader_pauses_only_its_own_upstream(path: str) -> None:
    """Little of a large answer leaves the upstream before the client opens its window; then all of it comes."""
    pieces = [b'{"id":"large",', *[b" " * 65_536] * 384, b'"a":1}']
    size = sum(map(len, pieces))
    sent = 0

    def script(peer: Peer) -> None:
        nonlocal sent
        while (received := peer.read_request()) is not None:
            if b"small" in received.body:
                peer.send(json_response(b'{"id":"small"}'))
                continue
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size)
            for piece in pieces:
                peer.send(piece)
                sent += len(piece)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with Http2Client(proxy.port, window=1000) as client:
            before = memory(proxy)
            slow = client.begin(fields("POST", path))
            client.send(slow, chat_body(), end=True)
            client.wait(lambda: len(client.answers[slow].body) == 1000)
            for _ in range(20):
                assert client.request(fields(), chat_body("small")).body == b'{"id":"small"}'
            assert sent < size / 2
            assert memory(proxy) - before < 8_000_000
            client.open_windows()
            answer = client.finish(slow)
            assert (answer.ended, answer.body) == (True, b"".join(pieces))
            # A connection to the upstream that was halted works as before.
            assert client.request(fields(), chat_body("small")).body == b'{"id":"small"}'
            assert memory(proxy) - before < 8_000_000
            if path == "/v1/chat/completions":
                signed = client.request(fields("GET", f"/v1/signature/{answer.headers['x-receipt-id']}"))
                verification.check(json.loads(signed.body), chat_body(), answer.body)


def memory(proxy: Proxy) -> int:
    """Resident memory of the proxy, in bytes."""
    status = Path(f"/proc/{proxy.process.popen.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def test_refused_bodies_get_401_in_bounded_memory(proxy: Proxy) -> None:
    """Ten clients push without a token, and heed no window."""
    clients = [Http2Client(proxy.port) for _ in range(10)]
    streams = [client.begin(fields("POST", "/v1/chat/completions", ("authorization", "no"))) for client in clients]
    before = memory(proxy)
    for _ in range(20):
        for client, stream_id in zip(clients, streams, strict=True):
            client.send_frames(*[DataFrame(stream_id, b"x" * 16_384)] * 16)
    for client, stream_id in zip(clients, streams, strict=True):
        answer = client.finish(stream_id)
        assert answer.status == 401
        assert error_of(answer.body)["type"] == "unauthorized"
        assert client.request(fields("GET", "/health")).status == 200, "the connection can be used again"
    for _ in range(200):
        for client, stream_id in zip(clients, streams, strict=True):
            client.send_frames(*[DataFrame(stream_id, b"x" * 16_384)] * 16)
    for client in clients:
        client.wait_closed()
        client.sock.close()
    assert memory(proxy) - before < 8_000_000


def test_large_upload_of_unknown_length_arrives_unchanged() -> None:
    pieces = [b"%d," % size * size for size in (1, 20_000, *range(100, 2000, 20))]

    def script(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            peer.send(json_response(b'{"sha256":"%s"}' % hashlib.sha256(received.body).hexdigest().encode()))

    headers = {"Authorization": f"Bearer {TOKEN}"}
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with httpx2.Client(http2=True, verify=False, headers=headers) as client:
            answer = client.post(f"https://127.0.0.1:{proxy.port}/v1/files", content=iter(pieces))
            assert answer.json() == {"sha256": hashlib.sha256(b"".join(pieces)).hexdigest()}


def test_flow_control_holds_the_body_until_the_upstream_is_connected(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = tmp_path / "upstream.pem"
    certificate.write_bytes(self_signed(key) + key_pem(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    may_connect = threading.Event()

    def script(peer: Peer) -> None:
        assert may_connect.wait(limit())
        peer.start_tls(context)
        while peer.read_request() is not None:
            peer.send(json_response(b"{}"))

    with ScriptedUpstream(script) as upstream:
        trusted = f"ssl_verify_upstream_trusted_ca={certificate}"
        with running_proxy(upstream.url.replace("http:", "https:"), "--set", trusted) as proxy:
            with Http2Client(proxy.port) as client:
                assert client.request(fields("GET", "/health")).status == 200  # the proxy's settings are here
                stream_id = client.begin(fields("POST", "/v1/files"))
                for _ in range(STREAM_WINDOW // 16_384):
                    client.send(stream_id, b"x" * 16_384)
                assert client.request(fields("GET", "/health")).status == 200
                assert client.h2.local_flow_control_window(stream_id) == 0
                client.sock.settimeout(4)  # less than it takes until somebody looks at it by chance
                may_connect.set()
                client.wait(lambda: client.h2.local_flow_control_window(stream_id) == STREAM_WINDOW)
                client.send(stream_id, b"x", end=True)
                assert client.finish(stream_id).status == 200
    assert len(upstream.requests.get_nowait().body) == STREAM_WINDOW + 1


def test_upstream_failures_give_502_or_504_in_json() -> None:
    answers = {"nothing": b"", "half a head": b"HTTP/1.1 200 OK\r\nContent-", "nonsense": b"nonsense\r\n\r\n"}

    def script(peer: Peer) -> None:
        received = peer.read_request()
        assert received is not None
        if (behaviour := json.loads(received.body)["user"]) == "waits":
            peer.wait_closed()
        else:
            peer.send(answers[behaviour])

    patience = str(limit(0.5))
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS=patience) as proxy:
        with Http2Client(proxy.port) as client:
            for behaviour in (*answers, "waits"):
                answer = client.request(fields(), chat_body(user=behaviour))
                expected = (504, "gateway_timeout") if behaviour == "waits" else (502, "bad_gateway")
                assert (answer.status, error_of(answer.body)["type"]) == expected
                assert (answer.headers["content-type"], answer.ended) == ("application/json", True)


def test_truncated_response_resets_the_stream_and_is_unsigned() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(json_response(b'{"id":"cut"}')[:-1])
            return

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, Http2Client(proxy.port) as client:
        answer = client.request(fields(), chat_body())
        assert (answer.status, answer.ended) == (200, False)
        assert answer.reset is not None
        assert client.request(fields("GET", "/v1/signature/cut")).status == 404


def test_upstream_hop_by_hop_headers_are_not_sent_to_the_client() -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Kept: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Connection: keep-alive\r\nProxy-Connection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n"
    )

    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(head + chunk(b'{"id":"x"}') + b"0\r\nX-Trailer: 1\r\n\r\n")

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, Http2Client(proxy.port) as client:
        for path in ("/v1/chat/completions", "/v1/files"):
            answer = client.request(fields("POST", path), chat_body())
            assert (answer.status, answer.body, answer.ended) == (200, b'{"id":"x"}', True)
            assert answer.headers["x-kept"] == "1"
            gone = {"keep-alive", "connection", "proxy-connection", "transfer-encoding"}
            assert not gone & answer.headers.keys()
