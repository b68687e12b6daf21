"""TLS with a key of dstack's guest agent, in all ways of running the proxy."""

import hashlib
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from attest_web.attestation.tls_fingerprint import spki_sha256
from attest_web.gpu.evidence import find_gpu_python
from attest_web.verify.certificate_verifier import any_certificate
from tests.attest_web.guest_agent import agent, as_dstack_answers
from tests.e2e.support.processes import PROGRAMS, ROOT, TOKEN, Process, Proxy, clean_env, running_proxy, start_proxy
from tests.e2e.support.raw_client import chat_body
from tests.e2e.support.workers import children, started, until
from tests.support import verification
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

NONCE = "cd" * 32


class Agent:
    """A guest agent that makes another TLS key at each call, and remembers them.

    Attributes:
        socket: Where it listens.
        asked: What it was asked.
        keys: The keys that it gave, in PEM.
    """

    def __init__(self, where: Path, dstack_vectors: dict[str, Any]) -> None:
        self.socket = where / "dstack.sock"
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str] = []
        self._answer = as_dstack_answers(dstack_vectors)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, answer = self._answer(path, body)
        if path == "/GetTlsKey":
            self.keys.append(answer["key"])
        return status, answer

    @property
    def settings(self) -> dict[str, str]:
        return {"DSTACK_SIMULATOR_ENDPOINT": str(self.socket), "GPU_NO_HW_MODE": "1", "TLS_FROM_DSTACK": "1"}


@pytest.fixture
def guest_agent(tmp_path: Path, dstack_vectors: dict[str, Any]) -> Iterator[Agent]:
    made = Agent(tmp_path, dstack_vectors)
    with agent(made.socket, made.answer) as asked:
        made.asked = asked
        yield made


def shown_key(port: int) -> bytes:
    """SHA-256 of the SPKI that a port shows to a client."""
    with socket.create_connection(("127.0.0.1", port), limit()) as raw, any_certificate().wrap_socket(raw) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return spki_sha256(x509.load_der_x509_certificate(der))


def key_given(guest_agent: Agent, number: int) -> bytes:
    """SHA-256 of the SPKI of a key that the agent has given."""
    key = load_pem_private_key(guest_agent.keys[number].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return spki_sha256(x509.load_pem_x509_certificate(self_signed(key)))


def tls_files(pid: int) -> set[int]:
    """The inodes of the files in memory that a process has TLS keys in."""
    descriptors = Path(f"/proc/{pid}/fd").iterdir()
    return {
        fd.stat().st_ino
        for fd in descriptors
        if os.path.lexists(fd) and os.readlink(fd).startswith("/memfd:tls key")  # noqa: PTH115
    }


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("http2", [False, True])
def test_chat_over_tls_with_the_agents_key_is_signed(
    fake_vllm: str, guest_agent: Agent, program: str, http2: bool
) -> None:
    body = chat_body("hi", stream=True)
    with running_proxy(fake_vllm, program=program, TLS_ALT_NAMES="chat.example,::1", **guest_agent.settings) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(http2=http2, verify=False, base_url=url, headers=headers) as client:
            answer = client.post("/v1/chat/completions", content=body)
            signed = client.get(f"/v1/signature/{answer.headers['x-receipt-id']}")
        assert shown_key(proxy.port) == key_given(guest_agent, 0)
    verification.check(signed.json(), body, answer.content)
    [request] = [body for path, body in guest_agent.asked if path == "/GetTlsKey"]
    assert (request["subject"], request["alt_names"]) == ("chat.example", ["chat.example", "::1"])
    assert request["usage_ra_tls"]


def test_tls_handshake_presents_the_whole_certificate_chain(
    fake_vllm: str, tmp_path: Path, dstack_vectors: dict[str, Any]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = ec.generate_private_key(ec.SECP256R1())
    root, leaf = chain_of_two(authority, key)
    answer = {"key": key_pem(key).decode(), "certificate_chain": [leaf, root]}
    path = tmp_path / "dstack.sock"
    settings = {"DSTACK_SIMULATOR_ENDPOINT": str(path), "TLS_FROM_DSTACK": "1"}
    trusting = ssl.create_default_context(cadata=root)
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with agent(path, as_dstack_answers(dstack_vectors, GetTlsKey=(200, answer))):
        with running_proxy(fake_vllm, **settings) as proxy:
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-showcerts"]
            shown = Process(command, clean_env())
            shown.wait()
            with socket.create_connection(("127.0.0.1", proxy.port), limit()) as raw:
                trusting.wrap_socket(raw, server_hostname="localhost").close()
    for certificate in (leaf, root):
        assert certificate.strip() in shown.output


def chain_of_two(authority: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    """A root, and a leaf for localhost without an Authority Key Identifier, as dstack's are."""
    root = x509.load_pem_x509_certificate(self_signed(authority))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    return root.public_bytes(Encoding.PEM).decode(), leaf.public_bytes(Encoding.PEM).decode()


@pytest.mark.skipif(find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see scripts/setup")
@pytest.mark.parametrize("workers", [None, 2])
def test_report_binds_the_tls_key_that_clients_see(fake_vllm: str, guest_agent: Agent, workers: int | None) -> None:
    def check(proxy: Proxy) -> None:
        spki = shown_key(proxy.port)
        query = f"nonce={NONCE}&include_tls_fingerprint=true&signing_algo=ed25519"
        with httpx2.Client(verify=False, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=limit(60)) as client:
            answer = client.get(f"https://127.0.0.1:{proxy.port}/v1/attestation/report?{query}")
        report = answer.json()
        assert report["tls_cert_fingerprint"] == spki.hex()
        address = bytes.fromhex(report["signing_address"])
        quoted = [body["report_data"] for path, body in guest_agent.asked if path == "/GetQuote"]
        assert quoted[-1] == hashlib.sha256(address + spki).hexdigest() + NONCE
        assert "signature_chain" not in report, "nothing vouches for random keys"
        assert json.loads(report["gpu_info"])["claims"]

    if workers is None:
        with running_proxy(fake_vllm, **guest_agent.settings) as proxy:
            check(proxy)
    else:
        with started(fake_vllm, workers=workers, **guest_agent.settings) as proxy:
            check(proxy)


@pytest.mark.parametrize("workers", [None, 2])
def test_tls_key_is_in_no_file_command_line_environment_or_log(
    fake_vllm: str, guest_agent: Agent, tmp_path: Path, workers: int | None
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    arguments = ["-v", *(["--workers", str(workers)] if workers else [])]
    settings = guest_agent.settings | {"HOME": str(home), "TMPDIR": str(temporary)}
    process = start_proxy(fake_vllm, *arguments, program="tee-signer", **settings)
    try:
        port = int(process.wait_for(r"listening at 127\.0\.0\.1:(\d+)")[1])
        shown_key(port)
        pids = [process.popen.pid, *children(process.popen.pid)]
        until(lambda: all(len(tls_files(pid)) == 1 for pid in pids))
        secret = guest_agent.keys[0].splitlines()[1].encode()
        files = [path for place in (home, temporary, Path("/dev/shm")) for path in place.rglob("*") if path.is_file()]
        assert files, "mitmproxy's own files at least"
        for path in files:
            assert secret not in path.read_bytes()
        for pid in pids:
            assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert secret not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        process.stop()
    assert secret.decode() not in process.output
    assert len(guest_agent.keys) == 1


def test_workers_share_one_tls_key_until_the_alt_names_change(
    fake_vllm: str, guest_agent: Agent, tmp_path: Path
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("MAX_CONNECTIONS=100\n")
    with started(fake_vllm, "--env-file", str(file), workers=2, **guest_agent.settings) as proxy:
        supervisor = proxy.process.popen.pid

        def shown() -> bytes:
            until(lambda: len(tls_files(supervisor)) == 1)  # it lets go of an old one after its last log line
            [inode] = tls_files(supervisor)
            until(lambda: [tls_files(pid) for pid in children(supervisor)] == [{inode}] * 2)
            [key] = {shown_key(proxy.port) for _ in range(10)}
            return key

        assert shown() == key_given(guest_agent, 0)
        os.kill(children(supervisor)[0], signal.SIGKILL)
        proxy.process.wait_for("(?s)ended by SIGKILL.*proof pages")
        assert shown() == key_given(guest_agent, 0)

        file.write_text("MAX_CONNECTIONS=200\n")
        proxy.process.popen.send_signal(signal.SIGHUP)
        proxy.process.wait_for("SIGHUP: all workers are new")
        assert shown() == key_given(guest_agent, 0)
        assert len(guest_agent.keys) == 1

        file.write_text("TLS_ALT_NAMES=chat.example\n")
        proxy.process.popen.send_signal(signal.SIGHUP)
        proxy.process.wait_for("(?s)(SIGHUP: all workers are new.*){2}")
        assert shown() == key_given(guest_agent, 1)
        assert len(guest_agent.keys) == 2


def test_sighup_with_new_alt_names_and_no_agent_keeps_the_workers(
    fake_vllm: str, tmp_path: Path, dstack_vectors: dict[str, Any]
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("")
    guest_agent = Agent(tmp_path, dstack_vectors)
    with agent(guest_agent.socket, guest_agent.answer):
        process = start_proxy(
            fake_vllm, "--workers", "1", "--env-file", str(file), program="tee-signer", **guest_agent.settings
        )
        port = int(process.wait_for(r"listening at 127\.0\.0\.1:(\d+)")[1])
    try:
        file.write_text("TLS_ALT_NAMES=chat.example\n")
        process.popen.send_signal(signal.SIGHUP)
        process.wait_for("SIGHUP: dstack's guest agent gave no answer on a TLS key: .*")
        process.wait_for("SIGHUP: the workers stay as they are")
        assert shown_key(port) == key_given(guest_agent, 0)
    finally:
        process.stop()


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_start_without_an_agent_fails_with_a_one_line_error(
    fake_vllm: str, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    process = start_proxy(
        fake_vllm,
        *workers,
        program="tee-signer",
        TLS_FROM_DSTACK="1",
        DSTACK_SIMULATOR_ENDPOINT=str(tmp_path / "none.sock"),
    )
    assert process.wait() == 1
    [line] = [line for line in process.output.splitlines() if "a TLS key" in line]
    assert str(tmp_path / "none.sock") in line
    assert "--certs" in line
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("mitmdump", ()), ("tee-signer", ()), ("tee-signer", ("--workers", "2"))],
    ids=["mitmdump", "tee-signer", "workers"],
)
def test_second_certificate_option_is_refused_with_a_one_line_error(
    fake_vllm: str, guest_agent: Agent, tmp_path: Path, program: str, arguments: tuple[str, ...]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = tmp_path / "tls.pem"
    certificate.write_bytes(key_pem(key) + self_signed(key))
    of_options = [*arguments, "--certs", str(certificate)]
    for given, more, expected in (
        (of_options, {}, "leave out --certs"),
        ([*arguments, "--set", f"certs={certificate}"], {}, "leave out --certs"),
        (arguments, {"TLS_CERT_PATH": str(certificate)}, "TLS_CERT_PATH names another"),
    ):
        process = start_proxy(fake_vllm, *given, program=program, **guest_agent.settings, **more)
        assert process.wait() == 1
        [line] = [line for line in process.output.splitlines() if "TLS_FROM_DSTACK" in line]
        assert expected in line
        assert "Traceback" not in process.output
    assert not guest_agent.keys, "the agent need not be asked"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_supervisor_waiting_for_the_tls_key_opens_no_port_and_stops_on_a_signal(
    fake_vllm: str, tmp_path: Path, dstack_vectors: dict[str, Any], free_ports: list[int], how: signal.Signals
) -> None:
    asked, over = threading.Event(), threading.Event()
    as_dstack = as_dstack_answers(dstack_vectors)

    def hung(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.set()
        over.wait(60)
        return as_dstack(path, body)

    guest_agent = Agent(tmp_path, dstack_vectors)
    with agent(guest_agent.socket, hung):
        process = start_proxy(
            fake_vllm,
            "--workers",
            "2",
            program="tee-signer",
            LISTEN_PORT=str(free_ports[0]),
            ATTEST_PORT=str(free_ports[1]),
            **guest_agent.settings,
        )
        try:
            assert asked.wait(30)
            for port in free_ports[:2]:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), 1)
            process.popen.send_signal(signal.SIGHUP)
            process.wait_for("SIGHUP: no worker runs yet")
            assert process.stop(how, timeout=10) == 0
        finally:
            over.set()
    assert "Traceback" not in process.output
