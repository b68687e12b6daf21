"""Over TLS, nothing is sent to a key that is not attested: somebody in between may have a certificate, too."""

import asyncio
import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.client import (
    MismatchError,
    UnprovenError,
    VerifiedOpenAI,
    proof_of,
    verified_async_openai,
    verified_openai,
)
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.certificate import certificate_spki_sha256
from tests.attest_web.client.signing_server import CHAT, LENIENT
from tests.attest_web.verify.fake_proxy import FakeProxy, fake_proxy
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

POLICY = Policy(verify_quote=LENIENT.verify_quote, gpu=LENIENT.gpu, allow_dev=True)
EACH_ANEW = httpx2.Limits(max_keepalive_connections=0)


class Server:
    """A TLS server that can change its certificate, and what its reports say of it.

    Attributes:
        certificates: Files with a certificate and its key.
        keys: SHA-256 of the SPKI of each.
    """

    def __init__(self, where: Path) -> None:
        self.certificates = [where / "one.pem", where / "two.pem"]
        self.keys = []
        self.trusting = ssl.create_default_context()
        for file in self.certificates:
            key = ec.generate_private_key(ec.SECP256R1())
            pem = self_signed(key).decode()
            file.write_bytes(pem.encode() + key_pem(key))
            self.keys.append(certificate_spki_sha256(ssl.PEM_cert_to_DER_cert(pem)))
            self.trusting.load_verify_locations(cadata=pem)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.proxy: FakeProxy

    @property
    def url(self) -> str:
        return self.proxy.url.replace("http:", "https:") + "/v1"

    @property
    def chats(self) -> int:
        return self.proxy.asked.count("/v1/chat/completions")

    @property
    def reports(self) -> int:
        return sum("report" in path for path in self.proxy.asked)

    def show(self, number: int, *, attested: int) -> None:
        """Show one certificate from now on, and attest the same or another."""
        self.tls.load_cert_chain(self.certificates[number])
        self.proxy.spki = self.keys[attested]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.tls.load_cert_chain(made.certificates[0])
    with fake_proxy(spki=made.keys[0], tls=made.tls) as made.proxy:
        yield made


def client_of(server: Server, **options: Any) -> VerifiedOpenAI:
    transport = httpx2.HTTPTransport(verify=server.trusting, limits=options.pop("limits", EACH_ANEW))
    return verified_openai(server.url, api_key="t", policy=POLICY, transport=transport, **options)


def test_proof_with_tls_binding_includes_the_tls_key_checks(server: Server) -> None:
    with client_of(server) as client:
        for _ in range(2):
            proof = proof_of(client.chat.completions.create(**CHAT))
        assert {"ecdsa TLS key", "ed25519 TLS key"} <= {check.name for check in proof.checks}
        assert proof.evidence.tls_keys == frozenset({server.keys[0]})
        assert server.reports == 2


def test_new_tls_key_is_attested_before_a_chat_is_sent_over_it(server: Server) -> None:
    with client_of(server) as client:
        client.chat.completions.create(**CHAT)
        server.show(1, attested=1)
        proof = proof_of(client.chat.completions.create(**CHAT))
        assert proof.evidence.tls_keys == frozenset({server.keys[1]})
        assert (server.reports, server.chats) == (4, 2)


def test_unattested_tls_key_gets_no_chat(server: Server) -> None:
    with client_of(server) as client:
        client.chat.completions.create(**CHAT)
        server.show(1, attested=0)
        for _ in range(2):
            with pytest.raises(MismatchError, match="TLS key"):
                client.chat.completions.create(**CHAT)
        assert server.chats == 1


def test_unattested_tls_key_gets_no_allow_unproven_request_either(server: Server) -> None:
    server.show(1, attested=0)
    with client_of(server, allow_unproven={"/models"}) as client:
        with pytest.raises(MismatchError, match="TLS key"):
            client.models.list()
        assert "/v1/models" not in server.proxy.asked
        server.show(0, attested=0)
        assert [model.id for model in client.models.list()] == ["demo"]


def test_connection_with_an_unattested_tls_key_is_not_kept_alive(server: Server) -> None:
    server.show(1, attested=0)
    with client_of(server, limits=httpx2.Limits()) as client:
        with pytest.raises(MismatchError, match="TLS key"):
            client.chat.completions.create(**CHAT)
        assert server.chats == 0
        server.show(0, attested=0)
        client.chat.completions.create(**CHAT)
        assert server.chats == 1


def test_http_2_connection_gets_no_request(server: Server) -> None:
    # Requests share its connections: one could be sent while the key of a connection is not attested yet.
    server.tls.set_alpn_protocols(["h2"])
    transport = httpx2.HTTPTransport(verify=server.trusting, http2=True)
    with verified_openai(server.url, api_key="t", policy=POLICY, transport=transport, max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(UnprovenError, match=r"HTTP/1\.1"):
                client.chat.completions.create(**CHAT)

    async def talk() -> None:
        transport = httpx2.AsyncHTTPTransport(verify=server.trusting, http2=True)
        options: dict[str, Any] = {"policy": POLICY, "transport": transport, "max_retries": 0}
        async with verified_async_openai(server.url, api_key="t", **options) as client:
            for _ in range(2):
                with pytest.raises(UnprovenError, match=r"HTTP/1\.1"):
                    await client.chat.completions.create(**CHAT)

    asyncio.run(talk())
    assert (server.proxy.asked, server.proxy.received) == ([], [])


def test_transport_offering_http_2_works_when_http_1_1_is_negotiated(server: Server) -> None:
    server.tls.set_alpn_protocols(["http/1.1"])
    transport = httpx2.HTTPTransport(verify=server.trusting, http2=True, limits=EACH_ANEW)
    with verified_openai(server.url, api_key="t", policy=POLICY, transport=transport) as client:
        client.chat.completions.create(**CHAT)
    assert server.chats == 1


def test_async_client_checks_the_tls_key_too(server: Server) -> None:
    async def talk() -> None:
        transport = httpx2.AsyncHTTPTransport(verify=server.trusting, limits=EACH_ANEW)
        async with verified_async_openai(server.url, api_key="t", policy=POLICY, transport=transport) as client:
            await client.chat.completions.create(**CHAT)
            server.show(1, attested=1)
            await client.chat.completions.create(**CHAT)
            server.show(0, attested=1)
            assert server.chats == 2
            await client.chat.completions.create(**CHAT)  # both were attested once
            server.show(1, attested=0)
            await client.chat.completions.create(**CHAT)
        fresh = httpx2.AsyncHTTPTransport(verify=server.trusting, limits=EACH_ANEW)
        async with verified_async_openai(server.url, api_key="t", policy=POLICY, transport=fresh) as client:
            server.show(0, attested=0)
            await client.chat.completions.create(**CHAT)
            server.show(1, attested=0)
            with pytest.raises(MismatchError, match="TLS key"):
                await client.chat.completions.create(**CHAT)
            assert server.chats == 5

    asyncio.run(talk())


def test_a_new_tls_key_at_a_signature_request_is_attested_once(server: Server) -> None:
    """Each try would take as long as the server wants it to."""
    with client_of(server) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        server.show(1, attested=1)
        server.proxy.replaced["/v1/attestation"] = (404, b"{}")
        with pytest.raises(UnprovenError, match="report returned 404"):
            list(stream)
        assert server.reports == 3
        assert not any("/signature/" in path for path in server.proxy.asked), "nothing was asked over that connection"


class Forwarder(socketserver.StreamRequestHandler):
    """A forward proxy that takes every host for one server."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        port = self.server.server_port  # type: ignore[attr-defined]
        with socket.create_connection(("127.0.0.1", port), timeout=limit()) as onward:
            back = threading.Thread(target=self._pass_on, args=(onward, self.connection))
            back.start()
            self._pass_on(self.connection, onward)
            back.join(10)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def forwarder(server: Server) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forwarder) as listening:
        listening.daemon_threads = True
        listening.server_port = httpx2.URL(server.url).port  # type: ignore[attr-defined]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join(5)


def test_tls_key_of_a_non_ascii_hostname_is_checked_too(server: Server, forwarder: str) -> None:
    server.trusting.check_hostname = False  # the certificates name an address
    transport = httpx2.HTTPTransport(verify=server.trusting, limits=EACH_ANEW, proxy=forwarder)
    with verified_openai("https://bücher.test/v1", api_key="t", policy=POLICY, transport=transport) as client:
        client.chat.completions.create(**CHAT)
        server.show(1, attested=0)
        with pytest.raises(MismatchError, match="TLS key"):
            client.chat.completions.create(**CHAT)
        assert server.chats == 1


def test_without_tls_binding_the_tls_key_is_not_checked(server: Server) -> None:
    server.show(1, attested=0)
    with client_of(server, tls_binding=False) as client:
        proof = proof_of(client.chat.completions.create(**CHAT))
    assert proof.evidence.tls_keys is None
