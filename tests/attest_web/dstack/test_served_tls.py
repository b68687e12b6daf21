"""TLS keys of the guest agent."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest_web.attestation.tls_fingerprint import TlsFingerprint
from attest_web.dstack.guest_agent import Dstack, DstackError
from attest_web.dstack.served_tls import make_tls_file
from attest_web.dstack.tls_key import RA_TLS_ATTESTATION, TlsKey
from attest_web.settings import Settings, SettingsError, load_settings
from tests.attest_web.guest_agent import agent, answering, as_dstack_answers
from tests.support.certificates import key_pem, self_signed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dstack.sock"


@pytest.fixture
def settings() -> Settings:
    return load_settings(
        Settings, {"model_name": "m", "token": "t", "tls_from_dstack": "1", "tls_alt_names": "chat.example, ::1"}
    )


def test_an_ra_tls_certificate_of_these_names_is_requested(
    path: Path, dstack_vectors: dict[str, Any], settings: Settings
) -> None:
    with agent(path, as_dstack_answers(dstack_vectors)) as asked:
        files = [make_tls_file(settings, Dstack(str(path))) for _ in range(2)]
    [request, _] = [body for name, body in asked if name == "/GetTlsKey"]
    assert request == {
        "subject": "chat.example",
        "alt_names": ["chat.example", "::1"],
        "usage_ra_tls": True,
        "usage_server_auth": True,
        "usage_client_auth": False,
        "with_app_info": True,
    }
    assert all(b"PRIVATE KEY" in file.path.read_bytes() for file in files)
    assert TlsFingerprint(files[0].path)() != TlsFingerprint(files[1].path)()


def test_app_info_is_left_out_for_an_agent_without_it(path: Path, dstack_vectors: dict[str, Any]) -> None:
    with agent(path, as_dstack_answers(dstack_vectors, Version=None)) as asked:
        Dstack(str(path)).tls_key(["localhost"])
    [request] = [body for name, body in asked if name == "/GetTlsKey"]
    assert "with_app_info" not in request
    assert request["usage_ra_tls"]


def test_tls_key_certificates_keep_the_agents_order(dstack_vectors: dict[str, Any]) -> None:
    """Its private key is not in the vectors, so a leaf of ours goes before its authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = [self_signed(key).decode(), dstack_vectors["real_agent"]["tls"]["v1_certificate_chain"][1]]
    pem = TlsKey.from_pem(key_pem(key).decode().strip(), [part.strip() for part in chain]).pem.decode()
    assert pem == key_pem(key).decode() + chain[0] + chain[1].strip() + "\n"


def test_malformed_tls_key_raises_an_error_that_does_not_quote_it(path: Path, dstack_vectors: dict[str, Any]) -> None:
    one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem, certificate = key_pem(one).decode(), self_signed(one).decode()
    secret = pem.splitlines()[1]
    for answer in (
        {"key": pem, "certificate_chain": []},
        {"key": pem, "certificate_chain": ["nonsense"]},
        {"key": pem, "certificate_chain": [self_signed(other).decode()]},
        {"key": f"x{secret}", "certificate_chain": [certificate]},
        {"key": pem + "\ud800", "certificate_chain": [certificate]},
        {"key": pem, "certificate_chain": [certificate, "\ud800"]},
        {"key": pem},
        {"key": pem, "certificate_chain": certificate},
        {},
    ):
        path.unlink(missing_ok=True)
        wrong = as_dstack_answers(dstack_vectors, GetTlsKey=(200, answer))
        with agent(path, wrong), pytest.raises(DstackError, match="TLS key") as caught:
            Dstack(str(path)).tls_key(["localhost"])
        assert secret not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.__suppress_context__
    with pytest.raises(ValueError, match="no private key with certificates"):
        TlsKey.from_pem(pem, [certificate, "\ud800"])
    assert secret not in repr(TlsKey.from_pem(pem, [certificate]))


def test_without_an_agent_the_error_is_one_line_with_a_hint(path: Path, settings: Settings) -> None:
    with pytest.raises(SettingsError) as caught:
        make_tls_file(settings, Dstack(str(path)))
    [problem] = caught.value.problems
    assert "gave no answer on a TLS key: its socket is not there" in problem
    assert str(path) in problem
    assert "TLS_FROM_DSTACK=1" in problem
    assert "--certs" in problem


def test_a_refusal_of_the_agent_is_a_clear_error(path: Path, settings: Settings) -> None:
    with agent(path, answering(400, {"error": "no"})), pytest.raises(SettingsError, match="HTTP status 400"):
        make_tls_file(settings, Dstack(str(path)))


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        (["a" * 63 + ".", "chat.example"], "a" * 63 + "."),
        (["a." * 32 + "b", "chat.example", "::1"], "chat.example"),
        (["a." * 32 + "b"], "tee-signer"),
    ],
)
def test_tls_key_subject_is_a_name_within_the_x520_length_limit(
    path: Path, dstack_vectors: dict[str, Any], names: list[str], subject: str
) -> None:
    with agent(path, as_dstack_answers(dstack_vectors)) as asked:
        Dstack(str(path)).tls_key(names)
    [request] = [body for name, body in asked if name == "/GetTlsKey"]
    assert (request["subject"], request["alt_names"]) == (subject, names)


def with_attestation(key: ec.EllipticCurvePrivateKey) -> str:
    plain = x509.load_pem_x509_certificate(self_signed(key))
    builder = (
        x509.CertificateBuilder()
        .subject_name(plain.subject)
        .issuer_name(plain.issuer)
        .public_key(key.public_key())
        .serial_number(plain.serial_number)
        .not_valid_before(plain.not_valid_before_utc)
        .not_valid_after(plain.not_valid_after_utc)
        .add_extension(x509.UnrecognizedExtension(RA_TLS_ATTESTATION, b"\x04\x01\x00"), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("attested", [True, False])
def test_tls_certificate_without_attestation_is_warned_of(
    path: Path, dstack_vectors: dict[str, Any], settings: Settings, caplog: pytest.LogCaptureFixture, attested: bool
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = with_attestation(key) if attested else self_signed(key).decode()
    answer = {"key": key_pem(key).decode(), "certificate_chain": [certificate]}
    with agent(path, as_dstack_answers(dstack_vectors, GetTlsKey=(200, answer))):
        make_tls_file(settings, Dstack(str(path)))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(":")[0] for line in said] == ([] if attested else ["TLS_FROM_DSTACK=1"])


def test_leaf_certificate_of_dstacks_own_agent_has_the_ra_tls_attestation(dstack_vectors: dict[str, Any]) -> None:
    leaf = x509.load_pem_x509_certificate(dstack_vectors["real_agent"]["tls"]["v1_certificate_chain"][0].encode())
    assert leaf.extensions.get_extension_for_oid(RA_TLS_ATTESTATION)
