import json
import os
import shlex
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from attest_web.verify import audit
from attest_web.verify.audit import DEV_ROOT
from attest_web.verify.command import cli
from tests.attest_web.verify.command.running import UNVERIFIED_GPU, LenientVerifier, failed, online, run, saved_files
from tests.attest_web.verify.fake_proxy import TOKEN, fake_proxy
from tests.attest_web.verify.minting import (
    APP_ID,
    COMPOSE_HASH,
    GPU_POLICY_HASH,
    KMS_ID,
    KMS_ROOT,
    NONCE,
    OS_IMAGE_HASH,
    RESPONSE,
    report,
    signature,
)
from tests.attest_web.verify.nvidia.fake_nras import jwks, nras_answer, signing_key
from tests.support.limits import limit


@pytest.fixture(autouse=True)
def no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "DcapVerifier", LenientVerifier)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_tee_verify_against_a_valid_proxy_exits_0(capsys: pytest.CaptureFixture[str], stream: list[str]) -> None:
    with fake_proxy() as proxy:
        status, found = online(capsys, proxy.url, *stream)
        assert status == 0
        assert set(proxy.tokens) == {f"Bearer {TOKEN}"}
        nonces = {path.partition("nonce=")[2][:64] for path in proxy.asked if "nonce=" in path}
    assert len(nonces) == 1
    assert nonces != {NONCE.hex()}
    passed = {check["name"] for check in found["checks"] if check["status"] == "passed"}
    assert {"chat", "ecdsa receipt", "ed25519 receipt", "ecdsa signature", "ed25519 quote signature"} <= passed
    assert any("DEV=1" in warning for warning in found["warnings"])


@pytest.mark.usefixtures("lenient")
def test_text_output_has_one_line_per_check_then_the_summary_and_warnings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", f"{TOKEN},another")
    with fake_proxy(
        {"/v1/attestation/report?signing_algo=ed25519": (503, b'{"error":{"message":"no dstack\x1b[2J"}}')}
    ) as proxy:
        status, out, _ = run(capsys, "--url", proxy.url, *UNVERIFIED_GPU, "--allow-dev")
    assert status == 1
    lines = out.splitlines()
    summary = lines.index("") + 1
    assert all(line[:2] in ("✓ ", "✗ ", "\N{EN DASH} ") for line in lines[: summary - 1])
    (wrong,) = (line for line in lines if line.startswith("✗"))
    assert wrong.startswith("✗ ed25519 report: /v1/attestation/report returned 503")
    assert lines[summary].startswith("NOT verified: 1 failed, 1 could not be made")
    assert len(lines) > summary + 1
    assert all(line.startswith("! warning: ") for line in lines[summary + 1 :])
    assert "\x1b" not in out


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("path", "answer", "name", "why"),
    [
        ("/v1/models", (401, b'{"error":{"message":"no"}}'), "chat", "TOKEN"),
        ("/v1/chat", (401, b""), "chat", "TOKEN"),
        ("/v1/chat", (404, b'{"error":{"message":"No such model."}}'), "chat", "404: No such model; --url takes"),
        ("/v1/chat", (502, b'{"error":{"message":"upstream is down"}}'), "chat", "502: upstream is down"),
        ("/v1/chat", (200, b"[]"), "chat", "no id"),
        ("/v1/signature", (404, b"not json"), "ecdsa signature", "returned 404"),
        ("/v1/signature", (200, b"{}"), "ecdsa signature", "has no 'signing_algo'"),
        ("/v1/signature/rcpt-", (200, json.dumps(signature()).encode()), "ecdsa receipt", "another signature"),
        ("/v1/signature/rcpt-", (404, b""), "ecdsa receipt", "returned 404"),
        ("/v1/attestation", (404, b""), "ecdsa report", "returned 404"),
        ("/v1/attestation", (200, b"<html>"), "ecdsa report", "not JSON"),
        ("/v1/attestation", (200, b"{}"), "ecdsa report", "has no 'signing_algo'"),
        ("/v1/attestation", (200, json.dumps(report()).encode()), "ecdsa nonce", "made for the nonce"),
    ],
)
def test_proxy_with_an_invalid_response_fails_its_check_with_the_reason(
    capsys: pytest.CaptureFixture[str], path: str, answer: tuple[int, bytes], name: str, why: str
) -> None:
    with fake_proxy({path: answer}) as proxy:
        status, found = online(capsys, proxy.url)
    assert status == 1
    assert why in failed(found)[name]


def test_unreachable_proxy_fails_the_chat_check(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = online(capsys, "http://127.0.0.1:9", "--timeout", "5")
    assert status == 1
    assert "cannot connect" in failed(found)["chat"]


def test_quote_that_dcap_rejects_fails_with_the_real_library(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = saved_files(tmp_path)
    collateral = tmp_path / "collateral.json"
    empty = {
        "pck_crl_issuer_chain": "",
        "root_ca_crl": "",
        "pck_crl": "",
        "tcb_info_issuer_chain": "",
        "tcb_info": "{}",
    }
    empty |= {
        "tcb_info_signature": "",
        "qe_identity_issuer_chain": "",
        "qe_identity": "{}",
        "qe_identity_signature": "",
    }
    collateral.write_text(json.dumps(empty))
    status, out, _ = run(capsys, *names, *UNVERIFIED_GPU, "--collateral", str(collateral), "--json")
    assert status == 1
    assert set(failed(json.loads(out))) == {"ecdsa quote signature"}


@pytest.mark.usefixtures("lenient")
def test_saved_files_are_verified_and_changed_ones_fail(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = saved_files(tmp_path)
    assert run(capsys, *names, *UNVERIFIED_GPU, "--nonce", NONCE.hex())[0] == 0
    assert run(capsys, *names, "--nonce", NONCE.hex())[0] == 1, "nobody has vouched for the GPUs"
    assert run(capsys, *names[:6])[0] == 0
    assert run(capsys, *names[6:], *UNVERIFIED_GPU)[0] == 0
    assert run(capsys, *names, *UNVERIFIED_GPU, "--nonce", "07" * 32)[0] == 1
    (tmp_path / "response").write_bytes(RESPONSE + b" ")
    assert run(capsys, *names, *UNVERIFIED_GPU)[0] == 1


@pytest.mark.usefixtures("lenient")
def test_saved_evidence_can_be_checked_again_and_only_its_owner_can_read_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "a b"
    with fake_proxy() as proxy:
        arguments = ["--url", proxy.url, "--token", TOKEN, *UNVERIFIED_GPU, "--allow-dev", "--save", str(directory)]
        status, _, said = run(capsys, *arguments)
    assert status == 0
    files = sorted(directory.iterdir())
    kept = ["request.json", "response", "signature-ecdsa.json", "signature-ed25519.json"]
    assert [file.name for file in files] == ["collateral.json", "report-ecdsa.json", "report-ed25519.json", *kept]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not any(TOKEN.encode() in file.read_bytes() for file in files)
    monkeypatch.setattr(cli, "collateral_from_json", lambda text: text)
    again = shlex.split(said.partition("tee-verify ")[2])
    assert run(capsys, *again)[0] == 0
    assert run(capsys, *again, "--nonce", "07" * 32)[0] == 1


@pytest.mark.usefixtures("lenient")
def test_printed_command_for_saved_evidence_keeps_every_demand(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: tuple[Path, bytes],
) -> None:
    monkeypatch.setattr(cli, "collateral_from_json", lambda text: text)
    saved = ["--save", str(tmp_path / "saved"), "--token", TOKEN]
    demands = ["--expect-compose-hash", "07" * 32, "--expect-app-id", "06" * 20, "--expect-app-id", "07" * 20]
    demands += ["--expect-os-image-hash", "08" * 32, "--expect-os-image-hash", "09" * 32]
    demands += ["--expect-mrtd", "08" * 48, "--expect-rtmr0", "09" * 48]
    demands += ["--expect-rtmr1", "0a" * 48, "--expect-rtmr2", "0b" * 48]
    demands += ["--expect-key-provider", "0c" * 91, "--expect-key-provider", "0c" * 32]
    demands += ["--expect-kms-root", "02" * 33, "--expect-gpu-policy-hash", "0d" * 32]
    demands += ["--allow-tcb-status", "OutOfDate", "--allow-tcb-status", "TDRelaunchAdvised"]
    demands += ["--dev-root", str(certificate[0]), "--allow-dev", "--require-mr-config-id"]
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(signing_key()))
    given = [*demands, "--nvidia", "--nras-url", "http://127.0.0.1:9/x", "--nvidia-keys", str(keys)]
    with fake_proxy() as proxy:
        status, out, said = run(capsys, "--url", proxy.url, *given, "--pccs-url", "u", *saved, "--json")
        again = shlex.split(said.partition("tee-verify ")[2])
        assert " ".join(given) in " ".join(again)
        assert "--pccs-url" not in again, "the collateral itself was saved"
        _, out_again, _ = run(capsys, *again, "--json")
        assert status == 1
        told = {
            "compose hash",
            "app id",
            "OS image",
            "MRTD",
            "RTMR0",
            "RTMR1",
            "RTMR2",
            "key provider",
            "key chain",
            "GPU policy",
        }
        assert {f"ecdsa {name}" for name in {*told, "MRCONFIGID"}} <= set(failed(json.loads(out_again)))
        assert failed(json.loads(out_again)) == failed(json.loads(out))
        monkeypatch.setattr(LenientVerifier, "used", None)
        _, _, said = run(capsys, "--url", proxy.url, "--pccs-url", "u", "--gpu", "canned", *saved)
        assert said.strip().endswith("--pccs-url u --gpu canned")


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "missing",
    ["/v1/chat", "/v1/signature/chatcmpl-1?signing_algo=ed25519", "/v1/attestation/report?signing_algo=ecdsa"],
)
def test_evidence_that_was_not_fetched_whole_is_reported_as_incomplete(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, missing: str
) -> None:
    with fake_proxy({missing: (503, b"")}) as proxy:
        _, _, said = run(capsys, "--url", proxy.url, "--token", TOKEN, "--save", str(tmp_path / "saved"))
    assert "is incomplete" in said
    assert "tee-verify" not in said


@pytest.mark.usefixtures("lenient")
def test_tls_key_shown_by_the_server_must_be_attested(
    capsys: pytest.CaptureFixture[str], certificate: tuple[Path, bytes]
) -> None:
    file, spki = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    for bound, told in ((spki, set()), (b"\7" * 32, {"ecdsa TLS key", "ed25519 TLS key"})):
        with fake_proxy(spki=bound, tls=tls) as proxy:
            url = proxy.url.replace("http:", "https:")
            _, found = online(capsys, url, "--cacert", str(file))
            assert set(failed(found)) == told
    with fake_proxy(tls=tls) as proxy:
        url = proxy.url.replace("http:", "https:")
        assert set(failed(online(capsys, url, "--cacert", str(file))[1])) == {"ecdsa TLS key", "ed25519 TLS key"}
        assert online(capsys, url, "--cacert", str(file), "--no-tls-binding")[0] == 0
        asked = len(proxy.asked)
        assert "--cacert" in failed(online(capsys, url)[1])["chat"]
        assert len(proxy.asked) == asked, "a server that is not trusted got the token"


@pytest.mark.usefixtures("lenient")
def test_nvidias_verdict_where_requested(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = saved_files(tmp_path)
    key = signing_key()
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(key))
    asked = ["--nvidia", "--nvidia-keys", str(keys), "--nras-url"]

    def outcome(url: str) -> tuple[int, str]:
        got, out, _ = run(capsys, *names, *asked, url, "--json")
        (verdict,) = (c["status"] for c in json.loads(out)["checks"] if c["name"] == "ecdsa NVIDIA verdict")
        return got, verdict

    def answer(url: str, result: bool, signed_with: EllipticCurvePrivateKey) -> tuple[int, bytes]:
        return 200, nras_answer(NONCE.hex(), ["1", "2"], signed_with, result, issuer=url)

    with fake_proxy() as service:
        for status, verdict, said in (
            (0, "passed", answer(service.url, True, key)),
            (1, "failed", answer(service.url, False, key)),
            (1, "failed", answer(service.url, True, signing_key())),
            (1, "not made", (500, b"{}")),
        ):
            service.replaced["/v3/attest/gpu"] = said
            assert outcome(service.url + "/v3/attest/gpu") == (status, verdict)
        assert set(service.tokens) == {None}
    assert outcome("http://127.0.0.1:9/") == (1, "not made")


PINS = ["--expect-compose-hash", COMPOSE_HASH.hex(), "--expect-os-image-hash", OS_IMAGE_HASH.hex()]
PINS += ["--expect-key-provider", KMS_ID.hex(), "--expect-kms-root", KMS_ROOT.public_key.format().hex()]
PINS += ["--expect-gpu-policy-hash", GPU_POLICY_HASH.hex(), "--expect-app-id", APP_ID.hex()]
PINNED = ["compose hash", "OS image", "key provider", "key chain", "GPU policy", "app id"]


@pytest.mark.usefixtures("lenient")
def test_report_is_checked_against_each_expected_value(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [*saved_files(tmp_path)[6:], *UNVERIFIED_GPU, "--nonce", NONCE.hex(), "--json", *PINS]
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert json.loads(out)["warnings"] == [audit.UNVERIFIED_GPU]
    for value, name in zip(PINS[1::2], PINNED, strict=True):
        other = value[:-2] + ("00" if value[-2:] != "00" else "11")
        status, out, _ = run(capsys, *(other if argument == value else argument for argument in arguments))
        assert status == 1
        assert set(failed(json.loads(out))) == {f"ecdsa {name}"}
    assert run(capsys, *arguments, "--require-mr-config-id")[0] == 1
    assert run(capsys, *arguments, "--expect-app-id", "07" * 20)[0] == 0, "one of several will do"
    status, out, _ = run(capsys, *arguments[: arguments.index("--expect-app-id")])
    assert status == 0
    assert json.loads(out)["warnings"] == [audit.UNPINNED_APP, audit.UNVERIFIED_GPU]


RA_TLS = ["--url", "https://127.0.0.1:9", "--token", "t", "--ra-tls"]
REGISTERS = [f"--expect-{name}={'07' * 48}" for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")]


@pytest.mark.parametrize("image", [["--expect-os-image-hash", "07" * 32], REGISTERS], ids=["hash", "registers"])
def test_ra_tls_is_accepted_with_a_pinned_compose_file_and_image(
    capsys: pytest.CaptureFixture[str], image: list[str]
) -> None:
    arguments = [*RA_TLS, "--expect-compose-hash", "07" * 32, *image, "--timeout", "5", "--json"]
    status, out, _ = run(capsys, *arguments)
    assert status == 1
    assert "cannot connect" in failed(json.loads(out))["chat"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give --url"),
        (["--url", "http://h"], "token"),
        (["--url", "http://h", "--token", "a\nb"], "token"),
        (["--url", "nonsense", "--token", "t"], "not a URL"),
        (["--url", "http://a..b", "--token", "t"], "not the URL of a host"),
        (["--url", "http://h:0", "--token", "t"], "port"),
        (["--report", "f", "--nvidia", "--nras-url", "https://a..b"], "not the URL of a host"),
        (["--url", "http://h", "--token", "t", "--report", "f"], "leave out"),
        (["--request", "f"], "go together"),
        (["--signature", "f"], "go together"),
        (["--report", "/nowhere/f"], "No such file"),
        (["--report", "f", "--nonce", "12"], "64 hex digits"),
        (["--report", "f", "--expect-os-image-hash", "07" * 31], "64 hex digits"),
        (["--report", "f", "--expect-key-provider", "07" * 31], "64 digits or more"),
        (["--report", "f", "--expect-key-provider", "0x" + "07" * 32], "64 digits or more"),
        (["--report", "f", "--expect-kms-root", "07" * 32], "66 hex digits"),
        (["--report", "f", "--expect-app-id", "07" * 19], "40 hex digits"),
        (["--report", "f", "--expect-app-id", "07" * 32], "40 hex digits"),
        (RA_TLS, "--ra-tls trusts the app"),
        ([*RA_TLS, "--expect-os-image-hash", "07" * 32], "--ra-tls trusts the app"),
        ([*RA_TLS, "--expect-compose-hash", "07" * 32], "--expect-os-image-hash"),
        ([*RA_TLS, "--expect-compose-hash", "07" * 32, "--expect-mrtd", "07" * 48], "--expect-os-image-hash"),
        *(
            ([*RA_TLS, "--expect-compose-hash", "07" * 32, *REGISTERS[:at], *REGISTERS[at + 1 :]], "--expect-rtmr0 to")
            for at in range(4)
        ),
        (["--report", "f", "--nvidia", "--nvidia-keys", __file__], "--nvidia-keys"),
        (["--report", "f", "--dev-root", "f"], "--collateral or --pccs-url"),
        (["--report", "f", "--collateral", "f", "--pccs-url", "u"], "give one"),
        (["--report", "f", "--allow-tcb-status", "Revoked"], "invalid choice"),
        (["--report", "f", "--nvidia", "--gpu", "none"], "no GPU evidence"),
        (["--report", "f", "--nvidia", "--gpu", "unverified"], "unverified skips"),
        (["--report", "f", "--nvidia", "--nras-url", "http://example.com"], "https"),
        (["--report", "f", "--collateral", __file__], "not collateral"),
        (["--report", "f", "--pccs-url", "u", "--dev-root", __file__], "not a certificate"),
        (["--report", "f", "--save", "d"], "--save goes with --url"),
        (["--report", "f", "--timeout", "nan"], "seconds"),
        (["--url", "http://h", "--token", "t", "--cacert", "/nowhere/f"], "No such file"),
        (["--url", "http://h", "--token", "t", "--save", __file__], "File exists"),
    ],
)
def test_wrong_usage_has_its_own_exit_status(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    status, out, said = run(capsys, *arguments)
    assert status == 2
    assert why in said
    assert not out


@pytest.mark.parametrize(
    "demand",
    [
        ["--nonce", "07" * 32],
        ["--tls-spki", "07" * 32],
        ["--collateral", "f"],
        ["--pccs-url", "u"],
        ["--dev-root", "f", "--collateral", "f"],
        ["--allow-tcb-status", "OutOfDate"],
        ["--expect-compose-hash", "07" * 32],
        ["--expect-mrtd", "07" * 48],
        ["--expect-rtmr0", "07" * 48],
        ["--expect-rtmr1", "07" * 48],
        ["--expect-rtmr2", "07" * 48],
        ["--expect-os-image-hash", "07" * 32],
        ["--expect-app-id", "07" * 20],
        ["--expect-key-provider", "07" * 91],
        ["--expect-kms-root", "02" * 33],
        ["--expect-gpu-policy-hash", "07" * 32],
        ["--require-mr-config-id"],
        ["--allow-dev"],
        ["--gpu", "canned"],
        ["--gpu", "none"],
        ["--nvidia"],
        ["--nras-url", "https://example.com"],
        ["--nvidia", "--nvidia-keys", "f"],
        ["--nvidia-answer", "f", "--nvidia-keys", "f"],
        ["--at", "2020-01-01"],
    ],
    ids=lambda demand: demand[0] + demand[-1][:6],
)
def test_report_option_without_a_report_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demand: list[str]
) -> None:
    status, out, said = run(capsys, *saved_files(tmp_path)[:6], *demand)
    assert status == 2
    assert not out
    last = said.splitlines()[-1]
    assert "needs --report" in last
    assert any(option in last for option in demand)


def test_dev_root_option_is_warned_of(
    capsys: pytest.CaptureFixture[str], certificate: tuple[Path, bytes], tmp_path: Path
) -> None:
    names = saved_files(tmp_path)
    arguments = [*names, "--dev-root", str(certificate[0]), "--pccs-url", "http://127.0.0.1:9", "--timeout", "5"]
    status, out, _ = run(capsys, *arguments)
    assert status == 1
    assert DEV_ROOT in out


def test_tee_verify_command_shows_help_and_exits_2_without_arguments() -> None:
    command = Path(sys.executable).with_name("tee-verify")
    helped = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=limit(30), check=True)
    assert "--expect-compose-hash" in helped.stdout
    wrong = subprocess.run([command], capture_output=True, text=True, timeout=limit(30), check=False)
    assert wrong.returncode == 2


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["lines", "json"])
def test_a_closed_output_is_no_success_and_no_traceback(tmp_path: Path, arguments: list[str]) -> None:
    command = [str(Path(sys.executable).with_name("tee-verify")), *saved_files(tmp_path)[:6], *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=limit(30), check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
