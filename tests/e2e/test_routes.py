"""Where requests go, as the upstreams see it."""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.support.processes import Proxy, running_proxy, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_request, error_of
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    Received,
    ScriptedUpstream,
    answering,
    chunk,
    json_response,
)
from tests.support import verification
from tests.support.certificates import key_pem, self_signed

MULTIPART = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat\r\n--x--\r\n'


def respond(received: Received) -> bytes:
    """Echoes where the request went; plays errors and streams on some paths."""
    path = received.head.split(" ")[1]
    if path.startswith("/flat"):
        body = b'{"object":"error","message":"bad n [input_value=\'SECRET\']","type":"BadRequestError","code":400}'
        return json_response(body, "422 Unprocessable Entity")
    if path.startswith("/empty"):
        return json_response(b"", "404 Not Found")
    if path.startswith("/stream"):
        return SSE_HEAD + chunk(b'data: {"id":"any-1"}\n\n') + chunk(b"data: bye\n\n") + LAST_CHUNK
    return json_response(json.dumps({"path": path, "host": received.header("host")}).encode())


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(answering(respond)) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(upstream: ScriptedUpstream) -> Iterator[Proxy]:
    with running_proxy(upstream.url, VLLM_PROXY_MAX_AUDIO_REQUEST_SIZE="300000") as running:
        yield running


def ask(proxy: Proxy, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, dict[str, str], bytes]:
    with RawClient(proxy.port) as client:
        client.send(chat_request(body, path=path, **headers))
        status, message, answer = client.read_response()
        return status, {name.lower(): value for name, value in message.items()}, answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/audio/transcriptions",
        "/v1/responses",
        "/v1/messages",
        "/v1/anything/else?x=%2e%2e",
    ],
)
def test_json_response_on_every_route_is_signed_under_its_receipt_id(proxy: Proxy, path: str) -> None:
    body = MULTIPART if "edits" in path or "audio" in path else b'{"input":"x"}'
    status, headers, answer = ask(proxy, path, body)
    assert (status, json.loads(answer)["path"]) == (200, path)
    with Asker(proxy.port) as asker:
        status, signed = asker.signature(headers["x-receipt-id"])
    assert status == 200
    verification.check(signed, body, answer)


def test_a_stream_of_no_known_dialect_is_signed_when_it_is_complete(proxy: Proxy) -> None:
    _, headers, answer = ask(proxy, "/stream")
    with Asker(proxy.port) as asker:
        for chat_id in ("any-1", headers["x-receipt-id"]):
            status, signed = asker.signature(chat_id)
            assert status == 200
            verification.check(signed, b"{}", answer)


def test_tokenize_is_forwarded_without_the_v1_prefix_and_unsigned(proxy: Proxy) -> None:
    status, headers, answer = ask(proxy, "/v1/tokenize?x=1")
    assert (status, json.loads(answer)["path"]) == (200, "/tokenize?x=1")
    assert "x-receipt-id" not in headers


def test_the_upstreams_metrics_need_no_token(proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        client.send(b"GET /v1/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, answer = client.read_response("GET")
    assert (status, json.loads(answer)["path"]) == (200, "/metrics")


def test_catch_all_upstream_error_is_wrapped_without_the_quoted_input(proxy: Proxy) -> None:
    status, headers, answer = ask(proxy, "/flat")
    assert status == 422
    assert headers["content-type"] == "application/json"
    assert error_of(answer, 400) == {"message": "bad n …", "type": "BadRequestError", "param": None, "code": 400}
    assert "x-receipt-id" not in headers


def test_catch_all_empty_upstream_error_gets_a_json_error_body(proxy: Proxy) -> None:
    status, _, answer = ask(proxy, "/empty")
    assert (status, error_of(answer)["type"]) == (404, "not_found")


def test_catch_all_upstream_error_reaches_an_http_1_0_client_unchunked(proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        client.send(chat_request(b"{}", path="/flat").replace(b"HTTP/1.1", b"HTTP/1.0"))
        status, headers, answer = client.read_response()
    assert (status, error_of(answer, 400)["type"]) == (422, "BadRequestError")
    assert "transfer-encoding" not in headers


def test_streamed_body_over_the_limit_gets_413_and_closes_the_upstream() -> None:
    let_go = threading.Event()

    def script(peer: Peer) -> None:
        peer.wait_closed()
        let_go.set()

    with (
        ScriptedUpstream(script) as upstream,
        running_proxy(upstream.url, VLLM_PROXY_MAX_AUDIO_REQUEST_SIZE="300000") as proxy,
    ):
        with RawClient(proxy.port) as client:
            head = chat_request(b"", path="/v1/audio/transcriptions")
            client.send(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            client.send(chunk(b"x" * 300_000))
            client.send(chunk(b"y"))
            status, _, answer = client.read_response()
        assert (status, error_of(answer)["type"]) == (413, "payload_too_large")
        assert let_go.wait(10)


def test_streamed_body_with_too_large_a_length_gets_413_and_is_not_forwarded(
    proxy: Proxy, upstream: ScriptedUpstream
) -> None:
    with RawClient(proxy.port) as client:
        head = chat_request(b"", path="/v1/audio/transcriptions")
        client.send(head.replace(b"Content-Length: 0", b"Content-Length: 300001"))
        status, _, answer = client.read_response()
    assert (status, error_of(answer)["type"]) == (413, "payload_too_large")
    assert not [seen for seen in upstream.requests.queue if "300001" in seen.head]


class Images(BaseHTTPRequestHandler):
    """Another server, for images alone."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"server": "images", "path": self.path, "host": self.headers["host"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # of the overridden method
        pass


def test_images_url_routes_only_image_generation_to_another_tls_server(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = tmp_path / "images.pem"
    certificate.write_bytes(self_signed(key) + key_pem(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = HTTPServer(("127.0.0.1", 0), Images)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trust = ("--set", f"ssl_verify_upstream_trusted_ca={certificate}")
    there = f"127.0.0.1:{server.server_address[1]}"
    with running_proxy(upstream.url, *trust, VLLM_IMAGES_URL=f"https://{there}/v9/make") as proxy:
        status, headers, answer = ask(proxy, "/v1/images/generations?q", b'{"prompt":"x"}')
        assert (status, json.loads(answer)) == (200, {"server": "images", "path": "/v9/make?q", "host": there})
        with Asker(proxy.port) as asker:
            verification.check(asker.signature(headers["x-receipt-id"])[1], b'{"prompt":"x"}', answer)
        for path in ("/v1/images/edits", "/v9/make", "/v1/chat/completions"):
            assert json.loads(ask(proxy, path)[2])["host"] == upstream.url.removeprefix("http://")
    server.shutdown()
    server.server_close()


def test_an_endpoint_at_the_proxys_own_address_is_refused(upstream: ScriptedUpstream, free_ports: list[int]) -> None:
    port = free_ports[0]
    own = f"http://127.0.0.1:{port}/v1/rerank"
    process = start_proxy(upstream.url, "-p", str(port), program="mitmdump", VLLM_RERANK_URL=own)
    assert process.wait() != 0
    assert f"the address {own} for /v1/rerank is this proxy's own" in process.output
