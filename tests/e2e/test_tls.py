"""TLS on either side."""

import select
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.sync.client import ClientConnection, connect

from scripts.stand_in_vllm import FakeVllm
from tests.e2e.support.processes import MODEL, PROGRAMS, TOKEN, Proxy, Simulator, running_proxy, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, error_of
from tests.e2e.support.realtime_upstream import running_realtime_upstream
from tests.support import verification
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit


def tls_client(proxy: Proxy, *, http2: bool) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx2.Client(http2=http2, verify=False, base_url=f"https://127.0.0.1:{proxy.port}", headers=headers)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_chats_over_tls_are_signed(proxy: Proxy, stream: bool, http2: bool) -> None:
    body = chat_body("hi", stream=stream)
    with tls_client(proxy, http2=http2) as client:
        # No length is given, so that whatever frames the body for the upstream is the proxy's doing.
        answer = client.post("/v1/chat/completions", content=iter([body[:10], body[10:]]))
        assert answer.status_code == 200
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        signed = client.get(f"/v1/signature/{answer.headers['x-receipt-id']}")
    verification.check(signed.json(), body, answer.content)


@pytest.mark.parametrize("http2", [False, True])
def test_wrong_token_over_tls_gets_the_standard_401_error(proxy: Proxy, http2: bool) -> None:
    with tls_client(proxy, http2=http2) as client:
        answer = client.post("/v1/chat/completions", content=chat_body(), headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, error_of(answer.content)["type"]) == (401, "unauthorized")


def negotiated(proxy: Proxy, *offered: str) -> str | None:
    """The protocol that the proxy selects (RFC 7301)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if offered:
        context.set_alpn_protocols(offered)
    with RawClient(proxy.port) as client, context.wrap_socket(client.sock) as tls:
        return tls.selected_alpn_protocol()


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["http/1.1", "h2"], "h2"),
        (["h2", "http/1.1"], "h2"),
        (["http/1.1", "spdy/3", "h2"], "h2"),
        (["h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        ([], None),
    ],
)
def test_alpn_selects_http2_whenever_it_is_offered_in_any_order(
    proxy: Proxy, offered: list[str], selected: str | None
) -> None:
    assert negotiated(proxy, *offered) == selected


def test_alpn_does_not_select_http2_when_it_is_disabled(fake_vllm: str) -> None:
    with running_proxy(fake_vllm, "--set", "http2=false") as proxy:
        assert negotiated(proxy, "h2", "http/1.1") == "http/1.1"


def test_tls_handshake_split_after_its_first_byte_is_recognized(proxy: Proxy) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with RawClient(proxy.port) as client:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        client.send(hello[:1])
        select.select([client.sock], [], [], 0.1)  # nothing comes, but the byte has been read by itself
        client.send(hello[1:])
        assert client.sock.recv(1) == b"\x16"  # a handshake record, not HTTP


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path_factory.mktemp("tls") / "upstream.pem"
    path.write_bytes(self_signed(key) + key_pem(key))
    return path


@pytest.fixture(scope="module")
def https_upstream(certificate: Path) -> Iterator[str]:
    server = FakeVllm(("127.0.0.1", 0), MODEL)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(
        ["h2", "http/1.1"]
    )  # it would choose HTTP/2, which it does not speak, if it were offered
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_trusted_https_upstream_is_ready_and_its_chats_are_signed(https_upstream: str, certificate: Path) -> None:
    body = chat_body("hi", stream=True)
    with running_proxy(https_upstream, "--set", f"ssl_verify_upstream_trusted_ca={certificate}") as proxy:
        with httpx2.Client(base_url=proxy.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert client.get("/ready").status_code == 200
        for http2 in (False, True):
            with tls_client(proxy, http2=http2) as client:
                answer = client.post("/v1/chat/completions", content=body)
                assert answer.status_code == 200
                signed = client.get(f"/v1/signature/{answer.headers['x-receipt-id']}")
            verification.check(signed.json(), body, answer.content)


def test_websocket_over_tls_on_both_sides_is_signed(certificate: Path) -> None:
    of_the_upstream = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    of_the_upstream.load_cert_chain(certificate)
    of_the_client = ssl.create_default_context()
    of_the_client.check_hostname = False
    of_the_client.verify_mode = ssl.CERT_NONE
    headers = {"Authorization": f"Bearer {TOKEN}"}
    trusting = ["--set", f"ssl_verify_upstream_trusted_ca={certificate}"]
    with running_realtime_upstream(of_the_upstream) as upstream, running_proxy(upstream.url, *trusting) as proxy:
        url = f"wss://127.0.0.1:{proxy.port}/v1/echo"
        with connect(url, ssl=of_the_client, additional_headers=headers, proxy=None) as client:
            client.send("over TLS")
            assert client.recv(limit()) == "over TLS"
        assert isinstance(client, ClientConnection)
        assert client.response is not None
        with httpx2.Client(base_url=proxy.url, headers=headers) as asker:
            signed = asker.get(f"/v1/signature/{client.response.headers['x-receipt-id']}")
    verification.check(signed.json(), b"over TLS", b"over TLS")


def test_untrusted_https_upstream_gives_502_and_is_not_ready(https_upstream: str) -> None:
    with running_proxy(https_upstream) as proxy:
        with httpx2.Client(base_url=proxy.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert client.get("/ready").status_code == 503
            answer = client.post("/v1/chat/completions", content=chat_body())
    assert (answer.status_code, error_of(answer.content)["type"]) == (502, "bad_gateway")


def served_and_named(where: Path) -> tuple[Path, Path]:
    """A certificate with its key for `--certs`, and one for `TLS_CERT_PATH`: the same."""
    key = ec.generate_private_key(ec.SECP256R1())
    served, named = where / "served.pem", where / "named.pem"
    named.write_bytes(self_signed(key))
    served.write_bytes(key_pem(key) + named.read_bytes())
    return served, named


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_tls_cert_path_with_another_key_than_is_served_is_refused_at_start(
    fake_vllm: str, tmp_path: Path, program: str
) -> None:
    served, named = served_and_named(tmp_path)
    named.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    process = start_proxy(fake_vllm, "--certs", f"*={served}", program=program, TLS_CERT_PATH=str(named))
    assert process.wait() != 0
    assert f"TLS_CERT_PATH {named} has another key than --certs {served}" in process.output


def test_report_binds_the_loaded_tls_key_after_the_files_change(
    fake_vllm: str, simulator: Simulator, tmp_path: Path
) -> None:
    served, named = served_and_named(tmp_path)
    settings = {"TLS_CERT_PATH": str(named)} | simulator.settings
    with running_proxy(fake_vllm, "--certs", str(served), **settings) as proxy, Asker(proxy.side_port) as asker:
        fingerprints = []
        for number in range(2):
            path = f"/v1/attestation/report?include_tls_fingerprint=true&nonce={number:064x}"
            status, _, report = asker.get(path)
            assert status == 200
            fingerprints.append(report["tls_cert_fingerprint"])
            served_and_named(tmp_path)
    assert fingerprints[0] == fingerprints[1]


def test_tls_cert_path_without_certs_logs_a_warning(fake_vllm: str, tmp_path: Path) -> None:
    _, named = served_and_named(tmp_path)
    with running_proxy(fake_vllm, TLS_CERT_PATH=str(named)) as proxy:
        proxy.process.wait_for("TLS_CERT_PATH without --certs: reports bind a key that this proxy does not serve")
