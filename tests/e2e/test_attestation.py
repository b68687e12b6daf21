"""Attestation reports of a real proxy, before the dstack simulator and NVIDIA's own library."""

import contextlib
import hashlib
import http.client
import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import coincurve
import dcap_qvl
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attest_web.dstack.key_chain import app_key
from attest_web.gpu.evidence import find_gpu_python
from tests.attest_web.guest_agent import agent, as_dstack_answers
from tests.e2e.support.processes import (
    MODEL,
    ROOT,
    TOKEN,
    Proxy,
    Simulator,
    running_proxy,
    running_simulator,
    start_proxy,
)
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import LAST_CHUNK, SSE_HEAD, Peer, ScriptedUpstream, chunk
from tests.support.certificates import PrivateKey, self_signed
from tests.support.limits import limit

NONCE = "ab" * 32
UNAVAILABLE = "No report can be made now. The log of this proxy says why."
"""All that a client is told: what is missing, and where, is the operator's business."""

pytestmark = pytest.mark.skipif(
    find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see what scripts/setup says"
)


def ask(port: int, query: str = "", token: str | None = TOKEN) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit(60))
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", f"/v1/attestation/report?{query}", headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def verified(report: dict[str, Any], simulator: Simulator) -> dcap_qvl.TdReport10:
    """The quoted TD report, if the quote is true."""
    raw = bytes.fromhex(report["intel_quote"])
    collateral = dcap_qvl.QuoteCollateralV3.from_json(simulator.collateral.read_text())
    root = ssl.PEM_cert_to_DER_cert(simulator.root.read_text())
    assert dcap_qvl.verify_with_root_ca(raw, collateral, root, int(time.time())).status == "UpToDate"
    quoted = dcap_qvl.parse_quote(raw).report
    assert isinstance(quoted, dcap_qvl.TdReport10)
    return quoted


@pytest.fixture(scope="module")
def attesting(fake_vllm: str, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A proxy in earnest: its keys come from the (simulated) KMS."""
    certificate = tmp_path_factory.mktemp("tls") / "cert.pem"
    certificate.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    with running_proxy(fake_vllm, DEV="0", TLS_CERT_PATH=str(certificate), **simulator.settings) as proxy:
        yield proxy


@pytest.mark.parametrize("algo", ["ecdsa", "ed25519"])
def test_report_binds_the_chat_signing_key_to_a_valid_quote(attesting: Proxy, simulator: Simulator, algo: str) -> None:
    status, report = ask(attesting.port, f"signing_algo={algo}&nonce={NONCE}")
    assert status == 200
    lists = [report.pop("all_attestations"), report.pop("model_attestations")]
    assert lists == [[report], [report]]
    quoted = verified(report, simulator)
    address = bytes.fromhex(report["signing_address"].removeprefix("0x"))
    assert quoted.report_data == address.ljust(32, b"\0") + bytes.fromhex(NONCE)
    assert "dev" not in report
    assert report["model_name"] == MODEL
    assert report["info"]["tcb_info"]["app_compose"]
    payload = json.loads(report["nvidia_payload"])
    assert (payload["nonce"], payload["arch"]) == (NONCE, "HOPPER")
    assert payload["evidence_list"][0].keys() == {"certificate", "evidence", "arch"}
    with RawClient(attesting.port) as client, Asker(attesting.side_port) as asker:
        client.send(chat_request(chat_body()))
        _, headers, _ = client.read_response()
        assert asker.signature(headers["x-receipt-id"], algo)[1]["signing_address"] == report["signing_address"]


def test_report_in_model_attestations_alone_has_every_field_a_verifier_checks(
    fake_vllm: str, simulator: Simulator
) -> None:
    """The question and the reading of nearai-cloud-verifier's `py/model_verifier.py` (9629242), step by step."""
    with running_proxy(fake_vllm, DEV="0", ATTESTATION_PUBLIC="1", **simulator.settings) as proxy:
        _, report = ask(proxy.port, f"model={MODEL}&nonce={NONCE}&signing_algo=ecdsa", token=None)
    assert "gateway_attestation" not in report
    [attestation] = report["model_attestations"]
    quoted = verified(attestation, simulator)
    assert quoted.report_data[:32] == bytes.fromhex(attestation["signing_address"].removeprefix("0x")).ljust(32, b"\0")
    assert quoted.report_data[32:].hex() == NONCE
    assert json.loads(attestation["nvidia_payload"])["nonce"].lower() == NONCE
    app_compose = attestation["info"]["tcb_info"]["app_compose"]
    assert json.loads(app_compose)["docker_compose_file"]
    assert {event["event_payload"] for event in attestation["event_log"] if event["event"] == "compose-hash"} == {
        hashlib.sha256(app_compose.encode()).hexdigest()
    }


def test_report_has_dstacks_app_id_gpu_info_vm_config_and_signature_chain(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path, "--gpus", "1") as simulator:
        with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
            reports = [ask(proxy.port, f"signing_algo={algo}&nonce={NONCE}")[1] for algo in ("ecdsa", "ed25519")]
    app_keys = []
    for report in reports:
        events = {event["event"]: bytes.fromhex(event["event_payload"]) for event in report["event_log"]}
        assert bytes.fromhex(report["app_id"]) == events["app-id"]
        evidence = json.loads(events["gpu-attestation"])["evidence_sha256"]
        assert hashlib.sha256(report["gpu_info"].encode()).hexdigest() == evidence
        assert json.loads(report["vm_config"])["os_image_hash"]
        public_key = bytes.fromhex(report["signing_public_key"])
        if report["signing_algo"] == "ecdsa":
            public_key = coincurve.PublicKey(b"\4" + public_key).format()
        app_keys.append(app_key(tuple(report["signature_chain"]), "signing", public_key))
    assert app_keys[0] == app_keys[1]


def test_report_on_dstack_0_5_lacks_gpu_info_and_the_ed25519_signature_chain(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path, "--os", "0.5") as simulator:
        with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
            of_ecdsa, of_ed25519 = (
                ask(proxy.port, f"signing_algo={algo}&nonce={NONCE}")[1] for algo in ("ecdsa", "ed25519")
            )
    assert of_ecdsa["app_id"]
    assert len(of_ecdsa["signature_chain"]) == 2
    assert "signature_chain" not in of_ed25519
    assert "gpu_info" not in of_ecdsa


def test_signing_keys_from_the_kms_survive_a_restart_and_dev_keys_differ(
    attesting: Proxy, fake_vllm: str, simulator: Simulator
) -> None:
    address = ask(attesting.port)[1]["signing_address"]
    with running_proxy(fake_vllm, DEV="0", **simulator.settings) as again:
        assert ask(again.port)[1]["signing_address"] == address
    with running_proxy(fake_vllm, DEV="1", **simulator.settings) as dev:
        report = ask(dev.port)[1]
        assert report["signing_address"] != address
        assert report["dev"] is True


def test_report_is_cached_across_both_ports_and_fresh_for_a_nonce(attesting: Proxy) -> None:
    cached = ask(attesting.port)[1]
    assert ask(attesting.side_port)[1] == cached
    nonces = [ask(port, f"nonce={NONCE}")[1]["intel_quote"] for port in (attesting.port, attesting.side_port)]
    assert cached["intel_quote"] not in nonces


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("nonce=abc", 400, "bad_request"),
        (f"nonce={NONCE}00", 400, "bad_request"),
        ("nonce=%00" + "ab" * 31, 400, "bad_request"),
        ("signing_algo=rsa", 400, "bad_request"),
        ("signing_address=0x00", 404, "not_found"),
    ],
)
def test_report_request_with_an_invalid_parameter_gets_400_or_404(
    attesting: Proxy, query: str, status: int, kind: str
) -> None:
    for port in (attesting.port, attesting.side_port):
        answer = ask(port, query)
        assert answer[0] == status
        assert error_of(json.dumps(answer[1]).encode())["type"] == kind


def test_report_requires_a_token_unless_attestation_is_public(
    attesting: Proxy, fake_vllm: str, simulator: Simulator
) -> None:
    assert ask(attesting.port, token=None)[0] == 401
    with running_proxy(fake_vllm, ATTESTATION_PUBLIC="1", **simulator.settings) as public:
        assert ask(public.port, token=None)[0] == 200
        with Asker(public.port) as asker:
            assert asker.get("/v1/signature/x", token=None)[0] == 401


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_report_binds_the_tls_key_and_follows_certificate_renewal(
    fake_vllm: str, simulator: Simulator, tmp_path: Path, kind: str
) -> None:
    def key() -> PrivateKey:
        return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)

    certificate = tmp_path / "cert.pem"
    certificate.write_bytes(self_signed(key()))
    query = f"include_tls_fingerprint=true&nonce={NONCE}"
    with running_proxy(fake_vllm, TLS_CERT_PATH=str(certificate), **simulator.settings) as proxy:
        first = ask(proxy.port, query)[1]
        certificate.write_bytes(self_signed(key()) + self_signed(key()))
        second = ask(proxy.port, query)[1]
        assert first["tls_cert_fingerprint"] != second["tls_cert_fingerprint"]
        assert verified(first, simulator).report_data != verified(second, simulator).report_data
        certificate.write_text("not a certificate")
        status, error = ask(proxy.port, query)
        assert status == 503
        assert error["error"]["message"] == UNAVAILABLE
        proxy.process.wait_for("no attestation report can be made: TLS_CERT_PATH .* holds no certificate")
        assert ask(proxy.port, f"nonce={NONCE}")[0] == 200, "who does not ask for it needs no certificate"


def test_cached_report_is_replaced_when_the_tls_certificate_changes(
    fake_vllm: str, simulator: Simulator, tmp_path: Path
) -> None:
    certificate = tmp_path / "cert.pem"
    query = "include_tls_fingerprint=true"
    with running_proxy(fake_vllm, TLS_CERT_PATH=str(certificate), **simulator.settings) as proxy:
        seen = []
        for _ in range(2):
            certificate.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
            seen += [ask(proxy.port, query)[1]["tls_cert_fingerprint"] for _ in range(2)]
        certificate.write_text("not a certificate")
        assert ask(proxy.port, query)[0] == 503
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_shutdown_does_not_wait_for_an_unresponsive_dstack_agent(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path, "--delay", "3600") as simulator:
        with running_proxy(fake_vllm, **simulator.settings) as proxy:
            asking = [
                threading.Thread(target=ask_in_vain, args=(port, number))
                for number, port in enumerate([proxy.port, proxy.side_port] * 2)
            ]
            for thread in asking:
                thread.start()
            proxy.process.wait_for("(?s)(client connect.*){2}")
            assert proxy.process.stop(timeout=10) == 0
            for thread in asking:
                thread.join(limit())


def ask_in_vain(port: int, number: int) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        ask(port, f"nonce={number:064x}")


def test_start_without_dstack_fails_with_a_one_line_error(fake_vllm: str, tmp_path: Path) -> None:
    process = start_proxy(fake_vllm, DEV="0", DSTACK_SIMULATOR_ENDPOINT=str(tmp_path / "none.sock"))
    assert process.wait() == 1
    [line] = [line for line in process.output.splitlines() if "signing keys" in line]
    assert "its socket is not there" in line
    assert "DEV=1" in line
    assert "Traceback" not in process.output


def test_dstack_outage_makes_reports_503_and_chats_are_still_signed(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path) as simulator:
        with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
            assert ask(proxy.port, f"nonce={NONCE}")[0] == 200
            simulator.process.stop()
            status, error = ask(proxy.port, f"nonce={NONCE}")
            assert status == 503
            assert error["error"]["message"] == UNAVAILABLE
            assert error["error"]["type"] == "server_error"
            proxy.process.wait_for(f"no attestation report can be made: dstack's guest agent .*{simulator.socket}")
            with RawClient(proxy.port) as client, Asker(proxy.port) as asker:
                client.send(chat_request(chat_body()))
                _, headers, _ = client.read_response()
                assert asker.signature(headers["x-receipt-id"])[0] == 200
            with running_simulator(tmp_path):
                assert ask(proxy.port, f"nonce={NONCE}")[0] == 200, "and it recovers"


def test_report_from_an_unreadable_dstack_response_is_503_and_the_reason_is_logged(
    fake_vllm: str, tmp_path: Path, dstack_vectors: dict[str, Any]
) -> None:
    path = tmp_path / "dstack.sock"
    info = dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"] | {"app_name": "\ud800"}
    settings = {"DSTACK_SIMULATOR_ENDPOINT": str(path), "GPU_NO_HW_MODE": "1"}
    with agent(path, as_dstack_answers(dstack_vectors, Info=(200, info))):
        with running_proxy(fake_vllm, **settings) as proxy:
            status, error = ask(proxy.port, f"nonce={NONCE}")
            assert (status, error["error"]["message"]) == (503, UNAVAILABLE)
            proxy.process.wait_for("no attestation report can be made: .* this app: its answer could not be read")


def test_slow_quote_does_not_delay_streams_signatures_or_the_cached_report(tmp_path: Path) -> None:
    """While it is made, a stream passes in lockstep: the upstream sends a piece when the client has the one before."""
    pieces = [b'data: {"id":"chatcmpl-1","choices":[%d]}\n\n' % number for number in range(50)]
    arrived = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(SSE_HEAD)
        for piece in pieces:
            peer.send(chunk(piece))
            assert arrived.acquire(timeout=limit())
        peer.send(chunk(b"data: [DONE]\n\n") + LAST_CHUNK)
        peer.wait_closed()

    answers: list[int] = []
    with running_simulator(tmp_path, "--delay", "1") as simulator, ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, **simulator.settings) as proxy:
            assert ask(proxy.port)[0] == 200  # this one is cached
            asking = [
                threading.Thread(target=lambda n=n: answers.append(ask(proxy.port, f"nonce={n:064x}")[0]))
                for n in range(6)
            ]
            for thread in asking:
                thread.start()
            with RawClient(proxy.port) as client, Asker(proxy.port) as asker:
                client.send(chat_request(chat_body(stream=True)))
                for piece in pieces:
                    client.read_until(chunk(piece))
                    arrived.release()
                client.read_until(LAST_CHUNK)
                assert asker.signature("chatcmpl-1")[0] == 200
                assert ask(proxy.port)[0] == 200
            assert not answers, "all this took less time than one quote"
            for thread in asking:
                thread.join(limit(60))
    assert answers == [200] * 6


def test_report_requests_with_too_many_concurrent_nonces_get_429(tmp_path: Path, fake_vllm: str) -> None:
    answers: list[int] = []
    with running_simulator(tmp_path, "--delay", "1") as simulator:
        with running_proxy(fake_vllm, **simulator.settings) as proxy:
            asking = [
                threading.Thread(
                    target=lambda n=n: answers.append(ask((proxy.port, proxy.side_port)[n % 2], f"nonce={n:064x}")[0])
                )
                for n in range(30)
            ]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join(limit(60))
            assert ask(proxy.port, f"nonce={NONCE}")[0] == 200
    assert set(answers) == {200, 429}
    assert answers.count(200) >= 8


def test_missing_nvidia_library_makes_reports_503_is_logged_and_chats_succeed(
    fake_vllm: str, simulator: Simulator
) -> None:
    with running_proxy(fake_vllm, GPU_PYTHON="/nonexistent/python", **simulator.settings) as proxy:
        status, error = ask(proxy.port)
        assert status == 503
        assert error["error"]["message"] == UNAVAILABLE
        proxy.process.wait_for("no attestation report can be made: .*/nonexistent/python")
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body()))
            assert client.read_response()[0] == 200


def test_gpu_worker_ends_with_the_proxy_and_its_environment_has_no_token(fake_vllm: str, simulator: Simulator) -> None:
    with running_proxy(fake_vllm, **simulator.settings) as proxy:
        assert ask(proxy.port)[0] == 200
        workers = [
            pid
            for pid in Path("/proc").glob("[0-9]*")
            if b"evidence_worker" in (pid / "cmdline").read_bytes() and str(proxy.process.popen.pid) in parent(pid)
        ]
        assert len(workers) == 1
        assert TOKEN.encode() not in (workers[0] / "environ").read_bytes()
        proxy.process.stop()
        assert not workers[0].exists()


def parent(pid: Path) -> list[str]:
    return (pid / "stat").read_text().rpartition(") ")[2].split()[1:2]
