"""tee-verify, proxy, dstack simulator and NVIDIA's library, all as real processes: the truth, and each kind of lie."""

import datetime
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.gpu.evidence import find_gpu_python
from attest_web.verify.report import LISTS
from tests.e2e.support.processes import BIN, ROOT, TOKEN, Proxy, Simulator, clean_env, running_proxy, running_simulator
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, events
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

pytestmark = pytest.mark.skipif(
    find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see what scripts/setup says"
)


@dataclass(frozen=True)
class Verdict:
    """What tee-verify said."""

    status: int
    ok: bool
    failed: frozenset[str]
    not_made: frozenset[str]
    passed: frozenset[str]
    output: str


def verify(*arguments: str | Path) -> Verdict:
    command = [str(BIN / "tee-verify"), "--json", *map(str, arguments)]
    done = subprocess.run(
        command, env=clean_env(TOKEN=TOKEN), capture_output=True, text=True, timeout=limit(60), check=False
    )
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)

    def named(status: str) -> frozenset[str]:
        return frozenset(check["name"] for check in answer["checks"] if check["status"] == status)

    return Verdict(
        done.returncode, answer["ok"], named("failed"), named("not made"), named("passed"), done.stdout + done.stderr
    )


def trust(simulator: Simulator) -> list[str | Path]:
    return ["--dev-root", simulator.root, "--collateral", simulator.collateral, "--gpu", "canned"]


@pytest.fixture(scope="module")
def attesting(fake_vllm: str, simulator: Simulator) -> Iterator[Proxy]:
    with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def saved(attesting: Proxy, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tee-verify saved of a verification that held."""
    where = tmp_path_factory.mktemp("saved") / "evidence"
    verdict = verify("--url", attesting.url, "--save", where, *trust(simulator))
    assert verdict.status == 0, verdict.output
    return where


@pytest.fixture
def evidence(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be lied with."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def offline(evidence: Path, simulator: Simulator, *more: str | Path) -> Verdict:
    signatures, reports = sorted(evidence.glob("signature*")), sorted(evidence.glob("report*"))
    assert (len(signatures), len(reports)) == (2, 2), list(evidence.iterdir())
    [request], [response] = evidence.glob("request*"), evidence.glob("response*")
    nonce = json.loads(reports[0].read_text())["request_nonce"]
    files: list[str | Path] = ["--request", request, "--response", response, "--signature", *signatures]
    return verify(*files, "--report", *reports, "--nonce", nonce, *trust(simulator), *more)


def change_reports(evidence: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the reports, wherever they stand."""
    for path in evidence.glob("report*"):
        report = json.loads(path.read_text())
        alone = {name: value for name, value in report.items() if name not in LISTS}
        change(alone)
        path.write_text(json.dumps(alone | {name: [alone] for name in LISTS}))


@pytest.mark.parametrize("where", ["top level", *LISTS])
def test_report_changed_in_only_one_of_its_copies_fails(evidence: Path, simulator: Simulator, where: str) -> None:
    for path in evidence.glob("report*"):
        report = json.loads(path.read_text())
        (report if where == "top level" else report[where][0])["signing_address"] = hashlib.sha256(b"mine").hexdigest()
        path.write_text(json.dumps(report))
    verdict = offline(evidence, simulator)
    assert verdict.status == 1
    assert verdict.failed == {"report 1 report", "report 2 report"}


@pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["json", "stream"])
def test_honest_proxy_passes_every_check(attesting: Proxy, simulator: Simulator, stream: list[str]) -> None:
    verdict = verify("--url", attesting.url, *trust(simulator), *stream)
    assert (verdict.status, verdict.ok, verdict.failed) == (0, True, frozenset()), verdict.output
    for algo in ("ecdsa", "ed25519"):
        held = {
            "signature",
            "address bound",
            "nonce",
            "quote signature",
            "TCB status",
            "TD debug",
            "RTMR3",
            "compose hash",
        }
        assert {f"{algo} {what}" for what in held} <= verdict.passed
    assert {"request hash", "response hash"} <= {name.removeprefix("ecdsa ") for name in verdict.passed}


def test_saved_evidence_verifies_offline_and_contains_no_token(
    evidence: Path, attesting: Proxy, simulator: Simulator
) -> None:
    assert offline(evidence, simulator).status == 0
    for path in evidence.iterdir():
        assert TOKEN.encode() not in path.read_bytes()


def test_text_output_has_a_line_per_check_and_no_escape_codes(attesting: Proxy, simulator: Simulator) -> None:
    command = [str(BIN / "tee-verify"), "--url", attesting.url, *map(str, trust(simulator))]
    done = subprocess.run(
        command, env=clean_env(TOKEN=TOKEN), capture_output=True, text=True, timeout=limit(60), check=False
    )
    lines = done.stdout.splitlines()
    assert sum(line.startswith("✓ ") for line in lines) > 20
    assert not any(line.startswith("✗ ") for line in lines)
    assert "\x1b" not in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_at_option_checks_saved_evidence_as_of_that_time_and_says_so(evidence: Path, simulator: Simulator) -> None:
    now = datetime.datetime.now(datetime.UTC)
    then = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    verdict = offline(evidence, simulator, "--at", then)
    assert verdict.status == 0, verdict.output
    found = json.loads(verdict.output)
    assert found["as_of"] == then
    assert any(warning.startswith(f"checked as of {then}") for warning in found["warnings"])
    earlier = offline(evidence, simulator, "--at", f"{now.year - 1}-01-01T00:00:00+01:00")
    assert earlier.status == 1
    assert earlier.failed == {"ecdsa quote signature", "ed25519 quote signature"}


@pytest.mark.parametrize("name", ["request", "response"])
def test_changed_request_or_response_byte_fails_its_hash_checks(
    evidence: Path, simulator: Simulator, name: str
) -> None:
    [path] = evidence.glob(f"{name}*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    verdict = offline(evidence, simulator)
    assert verdict.status == 1
    assert verdict.failed == {f"{algo} {name} hash" for algo in ("ecdsa", "ed25519")}


def test_signature_by_an_unattested_key_fails(
    evidence: Path, fake_vllm: str, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All of the other proxy's chat is true; only its key is not the one that the reports are about."""
    other = tmp_path_factory.mktemp("other") / "evidence"
    with running_proxy(fake_vllm, DEV="1", **simulator.settings) as impostor:
        assert verify("--url", impostor.url, "--save", other, *trust(simulator)).status == 0
    for path in other.iterdir():
        if not path.name.startswith("report"):
            (evidence / path.name).write_bytes(path.read_bytes())
    verdict = offline(evidence, simulator)
    assert verdict.status == 1
    assert {"ecdsa key attested", "ed25519 key attested"} <= verdict.failed


def test_report_claiming_an_unquoted_key_fails_the_address_binding(evidence: Path, simulator: Simulator) -> None:
    def lie(report: dict[str, Any]) -> None:
        if report["signing_algo"] == "ed25519":
            report["signing_address"] = report["signing_public_key"] = hashlib.sha256(b"mine").hexdigest()

    change_reports(evidence, lie)
    verdict = offline(evidence, simulator)
    assert verdict.status == 1
    assert "ed25519 address bound" in verdict.failed


def test_report_for_another_nonce_fails(evidence: Path, simulator: Simulator) -> None:
    verdict = offline(evidence, simulator, "--nonce", "ab" * 32)
    assert verdict.status == 1
    assert {"ecdsa nonce", "ed25519 nonce"} <= verdict.failed


def test_old_report_relabelled_with_the_new_nonce_fails(evidence: Path, simulator: Simulator) -> None:
    def lie(report: dict[str, Any]) -> None:
        report["request_nonce"] = "ab" * 32
        report["nvidia_payload"] = json.dumps(json.loads(report["nvidia_payload"]) | {"nonce": "ab" * 32})

    change_reports(evidence, lie)
    verdict = offline(evidence, simulator, "--nonce", "ab" * 32)
    assert verdict.status == 1
    assert {"ecdsa nonce", "ed25519 nonce"} <= verdict.failed


@pytest.mark.parametrize("at", [0.01, 0.1, 0.2, 0.4, 0.6, 0.9])
def test_tampered_quote_fails_the_quote_signature(evidence: Path, simulator: Simulator, at: float) -> None:
    def lie(report: dict[str, Any]) -> None:
        quote = bytearray(bytes.fromhex(report["intel_quote"]))
        quote[int(len(quote) * at)] ^= 1
        report["intel_quote"] = quote.hex()

    change_reports(evidence, lie)
    verdict = offline(evidence, simulator)
    assert verdict.status == 1
    assert {"ecdsa quote signature", "ed25519 quote signature"} <= verdict.failed


def test_quote_under_another_root_fails_the_quote_signature(
    evidence: Path, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_simulator(tmp_path_factory.mktemp("another")) as another:
        verdict = offline(evidence, another)
    assert verdict.status == 1
    assert "ecdsa quote signature" in verdict.failed
    intel = [part for part in trust(simulator) if part not in ("--dev-root", simulator.root)]
    reports = sorted(evidence.glob("report*"))
    verdict = verify("--report", *reports, *intel)
    assert verdict.status == 1
    assert "ecdsa quote signature" in verdict.failed, "Intel's root vouches for no simulator"


def test_changed_event_payload_fails_rtmr3(evidence: Path, simulator: Simulator) -> None:
    def lie(report: dict[str, Any]) -> None:
        [event] = [event for event in report["event_log"] if event["event"] == "app-id"]
        event["event_payload"] = "00" * (len(event["event_payload"]) // 2)

    change_reports(evidence, lie)
    assert {"ecdsa RTMR3", "ed25519 RTMR3"} <= offline(evidence, simulator).failed


def test_missing_event_fails_rtmr3(evidence: Path, simulator: Simulator) -> None:
    change_reports(evidence, lambda report: report["event_log"].pop())
    assert {"ecdsa RTMR3", "ed25519 RTMR3"} <= offline(evidence, simulator).failed


def tampered_compose(report: dict[str, Any]) -> None:
    tcb_info = report["info"]["tcb_info"]
    tcb_info["app_compose"] = tcb_info["app_compose"].replace("{", '{"evil":1,', 1)


def test_changed_compose_file_fails_its_hash_key_provider_and_gpu_policy(evidence: Path, simulator: Simulator) -> None:
    change_reports(evidence, tampered_compose)
    verdict = offline(evidence, simulator)
    assert verdict.status == 1
    # What that file says of key provider and GPU policy is not what was measured, either.
    assert verdict.failed == {
        f"{algo} {what}" for algo in ("ecdsa", "ed25519") for what in ("compose hash", "key provider", "GPU policy")
    }


def test_changed_compose_file_with_a_matching_log_fails_rtmr3(evidence: Path, simulator: Simulator) -> None:
    def lie(report: dict[str, Any]) -> None:
        tampered_compose(report)
        digest = hashlib.sha256(report["info"]["tcb_info"]["app_compose"].encode()).hexdigest()
        [event] = [event for event in report["event_log"] if event["event"] == "compose-hash"]
        event["event_payload"] = digest
        raw = (event["event_type"]).to_bytes(4, "little") + b":compose-hash:" + bytes.fromhex(digest)
        event["digest"] = hashlib.sha384(raw).hexdigest()

    change_reports(evidence, lie)
    assert {"ecdsa RTMR3", "ed25519 RTMR3"} <= offline(evidence, simulator).failed


def test_compose_hash_other_than_expected_fails(evidence: Path, simulator: Simulator) -> None:
    assert "ecdsa compose hash" in offline(evidence, simulator, "--expect-compose-hash", "00" * 32).failed


def test_gpu_evidence_for_another_nonce_fails(evidence: Path, simulator: Simulator) -> None:
    def lie(report: dict[str, Any]) -> None:
        report["nvidia_payload"] = json.dumps(json.loads(report["nvidia_payload"]) | {"nonce": "ab" * 32})

    change_reports(evidence, lie)
    assert {"ecdsa GPU nonce", "ed25519 GPU nonce"} <= offline(evidence, simulator).failed


def test_canned_gpu_evidence_fails_where_real_evidence_is_required(attesting: Proxy, simulator: Simulator) -> None:
    demand = [part if part != "canned" else "required" for part in trust(simulator)]
    verdict = verify("--url", attesting.url, *demand)
    assert verdict.status == 1
    assert "ecdsa GPU evidence" in verdict.failed


def test_debug_td_fails_the_td_debug_check(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path, "--debug-td") as simulator:
        with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
            verdict = verify("--url", proxy.url, *trust(simulator))
    assert verdict.status == 1
    assert {"ecdsa TD debug", "ed25519 TD debug"} <= verdict.failed


def test_random_development_keys_are_reported(fake_vllm: str, simulator: Simulator) -> None:
    with running_proxy(fake_vllm, DEV="1", **simulator.settings) as proxy:
        verdict = verify("--url", proxy.url, *trust(simulator))
    assert "random" in verdict.output.lower() or "dev" in json.dumps(json.loads(verdict.output)["warnings"]).lower()


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate, and the same with its key."""
    where = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, both = where / "cert.pem", where / "both.pem"
    certificate.write_bytes(self_signed(key))
    both.write_bytes(certificate.read_bytes() + key_pem(key))
    return certificate, both


def test_tls_key_bound_by_the_reports_passes(
    fake_vllm: str, simulator: Simulator, tls_files: tuple[Path, Path]
) -> None:
    certificate, both = tls_files
    served = ["--certs", f"*={both}"]
    with running_proxy(fake_vllm, *served, TLS_CERT_PATH=str(certificate), **simulator.settings) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        verdict = verify("--url", url, "--cacert", certificate, *trust(simulator))
    assert verdict.status == 0, verdict.output
    assert {"ecdsa TLS key", "ed25519 TLS key"} <= verdict.passed


def test_tls_key_other_than_the_bound_one_fails(fake_vllm: str, simulator: Simulator, tmp_path: Path) -> None:
    """As when TLS is ended in between, with another key, and everything is passed on."""
    quoted = tmp_path / "quoted.pem"
    quoted.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    made = ["--set", f"confdir={tmp_path}"]  # without --certs, mitmproxy serves a certificate of its own authority
    with running_proxy(fake_vllm, *made, TLS_CERT_PATH=str(quoted), **simulator.settings) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        verdict = verify("--url", url, "--cacert", tmp_path / "mitmproxy-ca-cert.pem", *trust(simulator))
    assert verdict.status == 1
    assert {"ecdsa TLS key", "ed25519 TLS key"} <= verdict.failed


def test_unreachable_nvidia_service_is_never_a_pass(fake_vllm: str, simulator: Simulator) -> None:
    """NVIDIA's verdict is asked for, and its service is not there."""
    with running_proxy(fake_vllm, **simulator.settings) as proxy:
        service = ["--nvidia", "--nras-url", "http://127.0.0.1:9/v3/attest/gpu"]
        verdict = verify("--url", proxy.url, *service, *trust(simulator))
    assert verdict.status == 1
    assert "ecdsa NVIDIA verdict" not in verdict.passed
    assert verdict.ok is False


def test_unsigned_response_is_reported_with_the_proxys_reason(simulator: Simulator) -> None:
    """Only the end of its connection ends this stream, which has no last event: it may have been longer."""

    def script(peer: Peer) -> None:
        while peer.read_request():
            event = events("chatcmpl-cut", "hello")[0]
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event)
            peer.close()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, **simulator.settings) as proxy:
        verdict = verify("--url", proxy.url, "--model", "m", "--stream", *trust(simulator))
    assert verdict.status == 1
    said = {check["name"]: check["detail"] for check in json.loads(verdict.output)["checks"]}
    for algo in ("ecdsa", "ed25519"):
        assert said[f"{algo} signature"].startswith("the proxy has no signature for it: This exchange is not signed: ")


def test_a_proxy_without_its_dstack_is_not_verified(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path) as simulator:
        with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
            simulator.process.stop()
            verdict = verify("--url", proxy.url, *trust(simulator))
    assert verdict.status == 1
    assert "ecdsa signature" in verdict.passed
    assert "No report can be made now" in verdict.output
