"""Connections to upstreams over real sockets: used again, bounded over all clients, and to wherever a request goes."""

import itertools
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from scripts.stand_in_vllm import FakeVllm
from tests.e2e.support.processes import MODEL, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, answering, json_response
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

ANSWER = b'{"id":"chatcmpl-1"}'


def test_idle_connections_are_reused_and_limited_across_all_clients() -> None:
    used: queue.Queue[int] = queue.Queue()

    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            used.put(peer.number)
            peer.send(json_response(ANSWER))

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, VLLM_PROXY_MAX_KEEPALIVE="1") as proxy:
        with RawClient(proxy.port) as one, RawClient(proxy.port) as other:
            for client in (one, other, one, other):
                client.send(chat_request(chat_body()))
                assert client.read_response()[2] == ANSWER
    assert [used.get(timeout=limit()) for _ in range(4)] == [1, 2, 1, 3]


@contextmanager
def running_https(pem: Path) -> Iterator[int]:
    """A stand-in model behind TLS that would rather speak HTTP/2, and cannot; gives its port."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem.write_bytes(self_signed(key) + key_pem(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = FakeVllm(("127.0.0.1", 0), MODEL)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


REDIRECT = """
def requestheaders(flow):
    if port := flow.request.headers.get("x-https-port"):
        flow.request.scheme, flow.request.host, flow.request.port = "https", "127.0.0.1", int(port)
"""


def test_request_rerouted_by_an_addon_over_tls_needs_a_trusted_certificate(tmp_path: Path) -> None:
    redirect = tmp_path / "redirect.py"
    redirect.write_text(REDIRECT)
    trusted, untrusted = tmp_path / "trusted.pem", tmp_path / "untrusted.pem"
    arguments = ["-s", str(redirect), "--set", f"ssl_verify_upstream_trusted_ca={trusted}"]
    with (
        running_https(trusted) as trusted_port,
        running_https(untrusted) as untrusted_port,
        ScriptedUpstream(answering(lambda _: json_response(ANSWER))) as upstream,
        running_proxy(upstream.url, *arguments, program="mitmdump") as proxy,
    ):
        with RawClient(proxy.port) as client:
            for where in (str(trusted_port), "") * 2:
                client.send(chat_request(chat_body(), X_Https_Port=where))
                status, _, body = client.read_response()
                assert (status, body == ANSWER) == (200, not where)
            client.send(chat_request(chat_body(), X_Https_Port=str(untrusted_port)))
            assert client.read_response()[0] == 502
        proxy.process.wait_for("(?s)(server connect.*){3}")
        assert proxy.process.output.count("server connect") == 3


def test_idle_connection_is_closed_after_its_timeout() -> None:
    closed: queue.Queue[float] = queue.Queue()

    def script(peer: Peer) -> None:
        assert peer.read_request() is not None
        peer.send(json_response(ANSWER))
        answered = time.monotonic()
        assert peer.read_request() is None
        closed.put(time.monotonic() - answered)

    settings = {"VLLM_PROXY_POOL_IDLE_TIMEOUT_SECS": "0.3"}
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, **settings) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body()))
            assert client.read_response()[2] == ANSWER
            assert closed.get(timeout=limit()) >= 0.3
            client.send(chat_request(chat_body()))
            assert client.read_response()[2] == ANSWER


def test_post_after_an_upstream_close_succeeds_and_is_sent_once() -> None:
    """Though it is never sent twice: what is closed is known before it is used."""
    closed = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        assert peer.read_request() is not None
        peer.send(json_response(ANSWER))
        peer.close()
        closed.release()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        for _ in range(30):
            client.send(chat_request(b"x", path="/v1/files"))
            assert client.read_response()[0] == 200
            assert closed.acquire(timeout=limit())
        assert upstream.requests.qsize() == 30


def posted(path: str, body: bytes) -> bytes:
    return chat_request(body, path=path)


PATHS = {
    "/v1/chat/completions": b'{"messages":[]}',
    "/v1/responses": b'{"input":"x"}',
    "/v1/files": b"x",
    "/v1/batches": b'{"input_file_id":"x"}',
}


def losing(after: float) -> Callable[[Peer], None]:
    """Answers once on its first connection; the second request there is read and lost."""

    def script(peer: Peer) -> None:
        for number in itertools.count():
            if peer.read_request() is None:
                return
            if number and peer.number == 1:
                time.sleep(after)  # what the client of a stalled server waits for, by design
                return
            peer.send(json_response(ANSWER))

    return script


@pytest.mark.parametrize("path", PATHS)
def test_post_held_then_dropped_by_the_upstream_gets_502_and_is_not_retried(path: str) -> None:
    """It may have had its effect there, and no idle connection takes that long to be found closed."""
    with (
        ScriptedUpstream(losing(after=0.3)) as upstream,
        running_proxy(upstream.url) as proxy,
        RawClient(proxy.port) as client,
    ):
        client.send(chat_request(chat_body()))
        assert client.read_response()[0] == 200
        client.send(posted(path, PATHS[path]))
        assert client.read_response()[0] == 502
        assert upstream.requests.qsize() == 2


@pytest.mark.parametrize(
    ("request_", "times"),
    [
        (posted("/v1/chat/completions", b'{"messages":[]}'), 2),
        (posted("/v1/tokenize", b'{"prompt":"x"}'), 2),
        (posted("/v1/responses", b'{"input":"x","store":false}'), 2),
        (posted("/v1/responses", b'{"input":"x"}'), 1),
        (posted("/v1/messages", b'{"messages":[]}'), 1),
        (posted("/v1/files", b"x"), 1),
        (posted("/v1/batches", b"{}"), 1),
        (posted("/v1/images/generations", b"{}"), 1),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 2),
    ],
    ids=lambda value: value.partition(b" HTTP")[0].decode() if isinstance(value, bytes) else "",
)
def test_request_lost_on_a_reused_connection_is_retried_only_if_side_effect_free(request_: bytes, times: int) -> None:
    with (
        ScriptedUpstream(losing(after=0)) as upstream,
        running_proxy(upstream.url) as proxy,
        RawClient(proxy.port) as client,
    ):
        client.send(chat_request(chat_body()))
        assert client.read_response()[0] == 200
        client.send(request_)
        assert client.read_response("GET" if request_.startswith(b"GET") else "POST")[0] == (200 if times == 2 else 502)
        assert upstream.requests.qsize() == 1 + times
