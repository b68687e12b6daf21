import json
from pathlib import Path

import pytest

from attest_web.verify.command import cli
from attest_web.verify.evidence import Evidence
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.proof_file import SavedProof
from tests.attest_web.verify.command.running import LenientVerifier
from tests.attest_web.verify.minting import NONCE, SPKI, evidence

UNVERIFIED_GPU = ["--gpu", "unverified"]


def saved(where: Path, content: Evidence, collateral: str | None = "collateral") -> str:
    path = where / "proof.json"
    path.write_bytes(SavedProof(content, collateral).to_json())
    return str(path)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "DcapVerifier", LenientVerifier)
    monkeypatch.setattr(cli, "collateral_from_json", lambda text: text)


def test_saved_proof_round_trips() -> None:
    for content in (evidence(), evidence(tls_keys=frozenset({SPKI})), evidence(nonce=None)):
        read = SavedProof.from_json(SavedProof(content, "x").to_json())
        assert read.collateral == "x"
        assert read.evidence.bodies == content.bodies
        assert [each.body for each in read.evidence.signatures] == [each.body for each in content.signatures]
        assert [each.body for each in read.evidence.reports] == [each.body for each in content.reports]
        assert (read.evidence.nonce, read.evidence.tls_keys) == (content.nonce, content.tls_keys)


@pytest.mark.usefixtures("lenient")
def test_tee_verify_checks_a_proof_file_and_finds_a_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = saved(tmp_path, evidence())
    assert cli.main(["--proof", name, *UNVERIFIED_GPU]) == 0
    assert "nonce and TLS keys are those that the proof file names" in capsys.readouterr().out
    assert cli.main(["--proof", name, *UNVERIFIED_GPU, "--nonce", NONCE.hex()]) == 0
    assert cli.main(["--proof", name, *UNVERIFIED_GPU, "--nonce", "07" * 32]) == 1
    assert cli.main(["--proof", name, *UNVERIFIED_GPU, "--expect-compose-hash", "07" * 32]) == 1
    assert cli.main(["--proof", name]) == 1, "nobody has vouched for the GPUs"
    content = json.loads(Path(name).read_text())
    lies: list[dict[str, object]] = [{"request": content["response"]}, {"signatures": []}, {"reports": []}]
    for lie in [*lies, {"nonce": "07" * 32}]:
        Path(name).write_text(json.dumps(content | lie))
        assert cli.main(["--proof", name, *UNVERIFIED_GPU]) == 1, lie


@pytest.mark.usefixtures("lenient")
def test_saved_proof_with_its_makers_collateral_is_warned_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = saved(tmp_path, evidence())
    own = tmp_path / "collateral"
    own.write_text("x")
    for more, warned in (([], True), (["--pccs-url", "u"], False), (["--collateral", str(own)], False)):
        assert cli.main(["--proof", name, *UNVERIFIED_GPU, *more]) == 0
        assert (cli.PROOF_COLLATERAL in capsys.readouterr().out) is warned
    assert cli.main(["--proof", saved(tmp_path, evidence(), None), *UNVERIFIED_GPU]) == 0
    assert cli.PROOF_COLLATERAL not in capsys.readouterr().out


@pytest.mark.usefixtures("lenient")
def test_a_missing_signature_is_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    content = evidence()
    del content.signatures[1], content.reports[1]
    assert cli.main(["--proof", saved(tmp_path, content), *UNVERIFIED_GPU]) == 0
    assert "ed25519 signature: not made" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"format": "tee-signer-proof-2"},
        {"request": None},
        {"response": "not base64!"},
        {"signatures": None},
        {"signatures": [7]},
        {"reports": {}},
        {"nonce": "07"},
        {"nonce": 7},
        {"tls_keys": ["07"]},
        {"tls_keys": [7]},
        {"tls_keys": "07"},
        {"collateral": 7},
        {"Nonce": "07" * 32},
        {"more": None},
        {"request": "QR=="},
        {"reports": ["e30=\n"]},
    ],
    ids=str,
)
def test_malformed_proof_file_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: dict[str, object]
) -> None:
    content = json.dumps(json.loads(SavedProof(evidence(), "x").to_json()) | change).encode()
    with pytest.raises(FailedError):
        SavedProof.from_json(content)
    (tmp_path / "proof.json").write_bytes(content)
    assert cli.main(["--proof", str(tmp_path / "proof.json")]) == 2
    assert "--proof" in capsys.readouterr().err


@pytest.mark.parametrize("name", json.loads(SavedProof(evidence(), "x").to_json()))
def test_proof_file_without_a_member_is_refused(name: str) -> None:
    content = json.loads(SavedProof(evidence(), "x").to_json())
    del content[name]
    with pytest.raises(FailedError, match="format" if name == "format" else "other members"):
        SavedProof.from_json(json.dumps(content).encode())


def test_proof_option_with_conflicting_options_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = saved(tmp_path, evidence(), "no collateral")
    for arguments, why in (
        (["--url", "http://h"], "give one of them"),
        (["--report", "f"], "leave out"),
        (["--tls-spki", "07" * 32], "leave out"),
        (["--save", "d"], "--save goes with --url"),
        (UNVERIFIED_GPU, "not collateral"),
    ):
        try:
            status = cli.main(["--proof", name, *arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        assert status == 2
        assert why in capsys.readouterr().err


def test_dev_root_option_with_a_proof_is_read_and_validated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = saved(tmp_path, evidence(), "no collateral")
    assert cli.main(["--proof", name, "--dev-root", __file__]) == 2
    assert "not a certificate" in capsys.readouterr().err
