"""TLS on either side, and HTTP/2 to the client."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scripts.stand_in_vllm import StandIn
from tests import verification
from tests.e2e.processes import MODEL, TOKEN, Proxy, running_proxy
from tests.e2e.raw_client import chat_body, error_of
from tests.e2e.scripted_upstream import Peer, ScriptedUpstream


def h2_client(proxy: Proxy, token: str = TOKEN) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx2.Client(http2=True, verify=False, base_url=f"https://127.0.0.1:{proxy.port}", headers=headers)


@pytest.fixture(scope="module")
def small_proxy(stand_in: str) -> Iterator[Proxy]:
    with running_proxy(stand_in, VLLM_PROXY_MAX_REQUEST_SIZE="1000") as proxy:
        yield proxy


@pytest.mark.parametrize("stream", [False, True])
def test_chats_over_http2_are_signed(small_proxy: Proxy, stream: bool) -> None:
    body = chat_body("hi", stream=stream)
    with h2_client(small_proxy) as client:
        answer = client.post("/v1/chat/completions", content=body)
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        signed = client.get(f"/v1/signature/{answer.headers['x-receipt-id']}")
    verification.check(signed.json(), body, answer.content)


def test_refusals_over_http2_have_the_same_shape_and_leave_the_connection_alone(small_proxy: Proxy) -> None:
    def check(answer: httpx2.Response, status: int, kind: str) -> None:
        assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
        assert error_of(answer.content)["type"] == kind
        assert "connection" not in answer.headers

    url = "/v1/chat/completions"
    with h2_client(small_proxy) as client:
        check(client.post(url, content=chat_body(), headers={"Authorization": "Bearer wrong"}), 401, "unauthorized")
        check(client.post(url, content=b"x" * 2000), 413, "payload_too_large")
        check(client.post(url, content=(b"x" * 600 for _ in range(4))), 413, "payload_too_large")
        check(client.post(url, content=b"{"), 400, "bad_request")
        assert client.post(url, content=chat_body()).status_code == 200


def test_upstream_errors_over_http2_are_json() -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.wait_closed()

    with running_proxy("http://127.0.0.1:9") as proxy, h2_client(proxy) as client:
        answer = client.post("/v1/chat/completions", content=chat_body())
        assert (answer.status_code, error_of(answer.content)["type"]) == (502, "bad_gateway")
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS="0.5") as proxy:
        with h2_client(proxy) as client:
            answer = client.post("/v1/chat/completions", content=chat_body())
            assert (answer.status_code, error_of(answer.content)["type"]) == (504, "gateway_timeout")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "upstream.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        certificate.public_bytes(encoding)
        + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture(scope="module")
def https_upstream(certificate: Path) -> Iterator[str]:
    server = StandIn(("127.0.0.1", 0), MODEL)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_https_upstream_that_is_trusted_is_used(https_upstream: str, certificate: Path) -> None:
    body = chat_body("hi", stream=True)
    with running_proxy(https_upstream, "--set", f"ssl_verify_upstream_trusted_ca={certificate}") as proxy:
        with httpx2.Client(base_url=proxy.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert client.get("/ready").status_code == 200
            answer = client.post("/v1/chat/completions", content=body)
            assert answer.status_code == 200
            signed = client.get(f"/v1/signature/{answer.headers['x-receipt-id']}")
    verification.check(signed.json(), body, answer.content)


def test_an_https_upstream_that_is_not_trusted_is_502_and_not_ready(https_upstream: str) -> None:
    with running_proxy(https_upstream) as proxy:
        with httpx2.Client(base_url=proxy.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert client.get("/ready").status_code == 503
            answer = client.post("/v1/chat/completions", content=chat_body())
    assert (answer.status_code, error_of(answer.content)["type"]) == (502, "bad_gateway")
