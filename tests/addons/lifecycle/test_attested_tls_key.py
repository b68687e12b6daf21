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
def test_the_fingerprint_is_that_of_the_start(context: taddons.context, tmp_path: Path, spec: str) -> None:
    path = tmp_path / "cert.pem"
    before = certificate(path)
    context.options.certs = [spec.format(path)]
    key = AttestedTlsKey(path)
    key.running()
    certificate(path)
    assert key() == before


def test_one_of_several_certificates_may_be_named(
    context: taddons.context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [tmp_path / name for name in ("a.pem", "b.pem")]
    _, second = map(certificate, paths)
    context.options.certs = [f"a.example={paths[0]}", f"b.example={paths[1]}"]
    key = AttestedTlsKey(paths[1])
    key.running()
    assert key() == second
    assert caplog.records == []


def test_another_key_is_an_error_that_names_both_files(
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


def test_where_another_proxy_serves_tls_the_file_is_followed(
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


def test_a_file_of_another_proxy_that_can_be_read_is_warned_of_without_a_problem(
    context: taddons.context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cert.pem"
    certificate(path)
    AttestedTlsKey(path).running()
    [message] = caplog.messages
    assert message.endswith(f"serves TLS with the certificate in {path}")


@pytest.mark.parametrize("option", ["certs", "confdir", "key_size", "cert_passphrase"])
def test_nothing_that_has_certificates_loaded_anew_changes_while_it_runs(
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
