"""Evidence that was saved, checked as of then (`--at`): what was valid holds, and is called old."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest

from attest_web.verify.command import cli
from attest_web.verify.command.moment import shown_moment
from attest_web.verify.evidence import Evidence
from attest_web.verify.proof_file import SavedProof
from tests.attest_web.verify.command.running import LenientVerifier, saved_files
from tests.attest_web.verify.fake_proxy import TOKEN, fake_proxy
from tests.attest_web.verify.minting import DSTACK_VECTORS, NONCE, evidence, report
from tests.attest_web.verify.nvidia.fake_nras import jwks, nras_answer, signing_key

PKI: dict[str, Any] = DSTACK_VECTORS["real_agent"]["mock_pki"]
QUOTE: str = DSTACK_VECTORS["real_agent"]["v1"]["GetQuote"]["quote"]
"""A quote that a root of a simulator's vouches for, with the collateral in `PKI`."""

ISSUED, EXPIRES = (
    datetime.datetime.fromisoformat(json.loads(PKI["collateral"]["tcb_info"])[name])
    for name in ("issueDate", "nextUpdate")
)
"""The days on which the collateral is valid."""

LATER = EXPIRES + datetime.timedelta(days=900)
SECOND = datetime.timedelta(seconds=1)
WRONG_USAGE = 2


def verify(
    capsys: pytest.CaptureFixture[str], *arguments: str, now: datetime.datetime = LATER
) -> tuple[int, dict[str, Any], str]:
    """Status, JSON (empty where none came) and what was said of wrong usage, at a time long after."""
    try:
        status = cli.main([*arguments, "--json"], lambda: now)
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return status, json.loads(said.out) if said.out else {}, said.err


def detail(found: dict[str, Any], name: str) -> tuple[str, str]:
    (check,) = (check for check in found["checks"] if check["name"] == name)
    return check["status"], check["detail"]


@pytest.fixture
def archive(tmp_path: Path) -> list[str]:
    """The arguments for a report with a quote that is genuine to a simulator's root, and the collateral of then."""
    files = {
        "report": json.dumps(report(intel_quote=QUOTE)).encode(),
        "collateral": json.dumps(PKI["collateral"]).encode(),
        "dev-root": PKI["root_pem"].encode(),
    }
    arguments = ["--gpu", "unverified"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        arguments += [f"--{name}", str(tmp_path / name)]
    return arguments


@pytest.mark.parametrize("at", [ISSUED + SECOND, ISSUED + datetime.timedelta(days=3), EXPIRES - SECOND])
def test_archived_quote_is_checked_as_of_the_given_time_and_reported_so(
    capsys: pytest.CaptureFixture[str], archive: list[str], at: datetime.datetime
) -> None:
    _, found, _ = verify(capsys, *archive, "--at", shown_moment(at))
    assert detail(found, "ecdsa quote signature")[0] == "passed"
    assert detail(found, "ecdsa TCB status") == ("passed", "UpToDate")
    assert found["as_of"] == shown_moment(at)
    [warning] = [warning for warning in found["warnings"] if "--at" in warning]
    assert warning.startswith(f"checked as of {shown_moment(at)}")
    assert "revoked, expired or found broken since is not detected" in warning
    cli.main([*archive, "--at", shown_moment(at)], lambda: LATER)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"NOT verified AS OF {shown_moment(at)}, not as of today: ") for line in lines)
    assert any(line.startswith("! warning: checked as of ") for line in lines)


@pytest.mark.parametrize(
    ("at", "why"), [(ISSUED - SECOND, "issue date is in the future"), (EXPIRES + SECOND, "expired")]
)
def test_archived_quote_outside_the_validity_of_its_collateral_fails(
    capsys: pytest.CaptureFixture[str], archive: list[str], at: datetime.datetime, why: str
) -> None:
    status, found, _ = verify(capsys, *archive, "--at", shown_moment(at))
    assert status == 1
    assert detail(found, "ecdsa quote signature")[0] == "failed"
    assert why in detail(found, "ecdsa quote signature")[1]
    assert detail(found, "ecdsa TCB status")[0] == "not made"


def test_at_option_with_a_date_means_the_end_of_that_day(
    capsys: pytest.CaptureFixture[str], archive: list[str]
) -> None:
    _, found, _ = verify(capsys, *archive, "--at", f"{ISSUED:%Y-%m-%d}")
    assert found["as_of"] == f"{ISSUED:%Y-%m-%d}T23:59:59Z"
    assert detail(found, "ecdsa quote signature")[0] == "passed"


def test_archived_quote_without_the_at_option_needs_collateral_valid_now(
    capsys: pytest.CaptureFixture[str], archive: list[str]
) -> None:
    status, found, _ = verify(capsys, *archive)
    assert status == 1
    assert "expired" in detail(found, "ecdsa quote signature")[1]
    assert "as_of" not in found
    assert not any("--at" in warning for warning in found["warnings"])


def proof(where: Path, content: Evidence, collateral: str | None) -> str:
    (where / "proof.json").write_bytes(SavedProof(content, collateral).to_json())
    return str(where / "proof.json")


def test_archived_proof_is_checked_with_its_own_collateral(
    capsys: pytest.CaptureFixture[str], archive: list[str], tmp_path: Path
) -> None:
    made = proof(tmp_path, evidence(report(intel_quote=QUOTE), report("ed25519")), json.dumps(PKI["collateral"]))
    root = archive[archive.index("--dev-root") + 1]
    _, found, _ = verify(capsys, "--proof", made, "--dev-root", root, "--at", shown_moment(ISSUED + SECOND))
    assert detail(found, "ecdsa quote signature")[0] == "passed"


def test_a_proof_without_collateral_is_an_error_with_a_hint(
    capsys: pytest.CaptureFixture[str], archive: list[str], tmp_path: Path
) -> None:
    made = proof(tmp_path, evidence(report(intel_quote=QUOTE), report("ed25519")), None)
    asked = [
        "--proof",
        made,
        "--dev-root",
        archive[archive.index("--dev-root") + 1],
        "--at",
        shown_moment(ISSUED + SECOND),
    ]
    status, _, said = verify(capsys, *asked)
    assert status == WRONG_USAGE
    assert re.search(r"has no collateral.*of\s+that\s+time, with --collateral", said)
    given = ["--collateral", archive[archive.index("--collateral") + 1]]
    assert detail(verify(capsys, *asked, *given)[1], "ecdsa quote signature")[0] == "passed"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--at", "3000-01-01T00:00:00Z"], "is in the future"),
        (["--at", f"{LATER:%Y-%m-%d}"], "has not ended yet"),
        (["--at", "2026-11-27T12:00:00"], "has no zone"),
        (["--at", "yesterday"], "takes a date"),
        (["--at", ""], "takes a date"),
        (["--at", "2026-11-28", "--pccs-url", "u"], "today's collateral"),
        (["--at", "2026-11-28"], "--at needs the collateral of that time: --collateral"),
        (["--at", "2026-11-28", "--collateral", "f", "--nvidia", "--gpu", "required"], "--nvidia-answer"),
        (["--nvidia-answer", "f"], "--nvidia-keys"),
        (["--nvidia-answer", "f", "--nvidia-keys", "f", "--nvidia"], "give one of them"),
        (["--nvidia-answer", "f", "--nvidia-keys", "f", "--gpu", "none"], "no GPU evidence"),
        (["--nvidia-answer", "f", "--nvidia-keys", "f", "--gpu", "unverified"], "unverified skips"),
    ],
)
def test_at_and_nvidia_answer_options_with_conflicting_inputs_are_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    status, found, said = verify(capsys, "--report", "f", *arguments)
    assert (status, found) == (WRONG_USAGE, {})
    assert why in said


def test_at_and_nvidia_answer_options_with_a_live_proxy_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_proxy() as proxy:
        for more, why in (
            (["--at", "2026-11-28"], "a running proxy is checked as of now"),
            (["--nvidia-answer", "f", "--nvidia-keys", "f"], "for saved evidence"),
        ):
            status, _, said = verify(capsys, "--url", proxy.url, "--token", TOKEN, *more)
            assert status == WRONG_USAGE
            assert why in said
        assert not proxy.asked


def test_archived_nvidia_verdict_is_checked_as_of_the_given_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "DcapVerifier", LenientVerifier)
    monkeypatch.setattr(cli, "collateral_from_json", lambda text: text)
    key = signing_key()
    then = ISSUED.timestamp()
    about = [*saved_files(tmp_path), "--nonce", NONCE.hex(), "--collateral", str(tmp_path / "report")]

    def outcome(answers: list[bytes], at: datetime.datetime | None) -> tuple[int, str, str]:
        (tmp_path / "keys").write_bytes(jwks(key))
        names = []
        for number, answer in enumerate(answers):
            names.append(str(tmp_path / f"answer-{number}"))
            Path(names[-1]).write_bytes(answer)
        as_of = [] if at is None else ["--at", shown_moment(at)]
        saved = ["--nvidia-keys", str(tmp_path / "keys"), "--nvidia-answer", *names]
        status, found, said = verify(capsys, *about, *as_of, *saved)
        assert not said
        return status, *detail(found, "ecdsa NVIDIA verdict")

    true = nras_answer(NONCE.hex(), ["1", "2"], key, now=then)
    other = nras_answer("07" * 32, ["1", "2"], key, now=then)
    assert outcome([true], ISSUED + 60 * SECOND)[:2] == (0, "passed")
    assert outcome([other, true], ISSUED + 60 * SECOND)[:2] == (0, "passed")
    for answers, at, why in (
        ([true], ISSUED - 120 * SECOND, "not valid yet"),
        ([true], ISSUED + datetime.timedelta(hours=2), "expired"),
        ([true], None, "expired"),
        ([other], ISSUED + 60 * SECOND, "another nonce"),
        ([nras_answer(NONCE.hex(), ["1", "2"], key, result=False, now=then)], ISSUED + 60 * SECOND, "is invalid"),
        ([nras_answer(NONCE.hex(), ["1"], key, now=then)], ISSUED + 60 * SECOND, "about 1 GPUs"),
        ([nras_answer(NONCE.hex(), ["1", "2"], signing_key(), now=then)], ISSUED + 60 * SECOND, "not signed"),
    ):
        status, _, said = outcome(answers, at)
        assert status == 1
        assert why in said
    assert outcome([b"{}"], ISSUED + 60 * SECOND)[:2] == (1, "not made")


def test_nvidia_verdict_saved_by_the_save_option_verifies_later(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "DcapVerifier", LenientVerifier)
    monkeypatch.setattr(cli, "collateral_from_json", lambda text: text)
    key = signing_key()
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(key))
    saved = tmp_path / "saved"
    now = datetime.datetime.now(datetime.UTC)
    with fake_proxy() as service, fake_proxy() as proxy:
        answer = nras_answer(NONCE.hex(), ["1", "2"], key, issuer=service.url)
        service.replaced["/v3/attest/gpu"] = 200, answer
        service_url = f"{service.url}/v3/attest/gpu"
        nvidia = ["--nras-url", service_url, "--nvidia-keys", str(keys), "--nvidia", "--nonce", NONCE.hex()]
        kept = ["--save", str(saved), "--allow-dev"]
        status, _, said = verify(capsys, "--url", proxy.url, "--token", TOKEN, *nvidia, *kept, now=now)
    assert status == 0
    assert "--nvidia-answer" not in said, "while NVIDIA can be asked, it is"
    names = sorted(path.name for path in saved.glob("nvidia*"))
    assert names == ["nvidia-answer-1.json", "nvidia-answer-2.json", "nvidia-keys.json"]
    assert {(saved / name).stat().st_mode & 0o777 for name in names} == {0o600}
    assert (saved / names[0]).read_bytes() == answer
    assert (saved / names[2]).read_bytes() == keys.read_bytes()
    files = ["--request", "request.json", "--response", "response", "--collateral", "collateral.json"]
    files += [
        "--signature",
        "signature-ecdsa.json",
        "--report",
        "report-ecdsa.json",
        "--nvidia-keys",
        "nvidia-keys.json",
    ]
    files += ["--nvidia-answer", *names[:2]]
    arguments = [name if name.startswith("--") else str(saved / name) for name in files]
    as_of = ["--at", shown_moment(now), "--nras-url", service_url, "--allow-dev", "--nonce", NONCE.hex()]
    status, found, _ = verify(capsys, *arguments, *as_of, now=now + datetime.timedelta(days=900))
    assert detail(found, "ecdsa NVIDIA verdict")[0] == "passed"
    assert status == 0
