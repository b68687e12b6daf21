"""Connections to upstreams over real sockets: used again, bounded over all clients, and to wherever a request goes."""

import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from scripts.stand_in_vllm import StandIn
from tests.certificates import key_pem, self_signed
from tests.e2e.processes import MODEL, running_proxy
from tests.e2e.raw_client import RawClient, chat_body, chat_request
from tests.e2e.scripted_upstream import Peer, ScriptedUpstream, answering, json_response
from tests.limits import limit

ANSWER = b'{"id":"chatcmpl-1"}'


def test_idle_connections_are_used_again_and_are_bounded_over_all_clients() -> None:
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
    server = StandIn(("127.0.0.1", 0), MODEL)
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


def test_a_request_goes_where_an_addon_sends_it_over_tls_if_the_certificate_is_trusted(tmp_path: Path) -> None:
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
        assert proxy.process.output.count("server connect") == 3
