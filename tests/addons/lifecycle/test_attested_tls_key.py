from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy import exceptions
from mitmproxy.test import taddons

from addons.lifecycle.attested_tls_key import AttestedTlsKey
from attest_web.attestation.tls_fingerprint import TlsCertificateError, spki_sha256
from tests.support.certificates import self_signed


@pytest.fixture
def context() -> Iterator[taddons.context]:
    with taddons.context() as made:
        yield made


def certificate(path: Path) -> bytes:
    """Write a new one; return its key's fingerprint."""
    path.write_bytes(pem := self_signed(ec.generate_private_key(ec.SECP256R1())))
    return spki_sha256(x509.load_pem_x509_certificate(pem))


@pytest.mark.parametrize("spec", ["{}", "*={}", "example.com={}"])
def test_attested_tls_key_fingerprint_is_that_of_the_certificate_at_startup(
    context: taddons.context, tmp_path: Path, spec: str
) -> None:
    path = tmp_path / "cert.pem"
    before = certificate(path)
    context.options.certs = [spec.format(path)]
    key = AttestedTlsKey(path)
    key.running()
    certificate(path)
    assert key() == before


def test_attested_tls_key_may_be_one_of_several_served_certificates(
    context: taddons.context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [tmp_path / name for name in ("a.pem", "b.pem")]
    _, second = map(certificate, paths)
    context.options.certs = [f"a.example={paths[0]}", f"b.example={paths[1]}"]
    key = AttestedTlsKey(paths[1])
    key.running()
    assert key() == second
    assert caplog.records == []


def test_attested_tls_key_other_than_the_served_one_logs_an_error_naming_both_files(
    context: taddons.context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served, named = tmp_path / "served.pem", tmp_path / "named.pem"
    certificate(served)
    certificate(named)
    context.options.certs = [str(served)]
    AttestedTlsKey(named).running()
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert str(served) in record.getMessage()
    assert str(named) in record.getMessage()


def test_attested_tls_key_of_an_external_tls_proxy_is_read_from_the_current_file(
    context: taddons.context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cert.pem"
    key = AttestedTlsKey(path)
    key.running()
    assert caplog.messages[0].endswith(
        f"the certificate in {path}; it cannot be used now: TLS_CERT_PATH {path} cannot be read: "
        "No such file or directory"
    )
    with pytest.raises(TlsCertificateError):
        key()
    now = certificate(path)
    assert key() == now


def test_attested_tls_key_readable_file_of_an_external_tls_proxy_logs_no_problem(
    context: taddons.context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cert.pem"
    certificate(path)
    AttestedTlsKey(path).running()
    [message] = caplog.messages
    assert message.endswith(f"serves TLS with the certificate in {path}")


@pytest.mark.parametrize("option", ["certs", "confdir", "key_size", "cert_passphrase"])
def test_attested_tls_key_rejects_certificate_option_changes_while_running(
    context: taddons.context, tmp_path: Path, option: str
) -> None:
    path = tmp_path / "cert.pem"
    certificate(path)
    key = AttestedTlsKey(path)
    key.configure({option})
    key.running()
    key.configure({"view_filter"})
    with pytest.raises(exceptions.OptionsError, match="restart"):
        key.configure({option})
