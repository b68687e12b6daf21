import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attest_web.attestation.tls_fingerprint import TlsCertificateError, TlsFingerprint
from tests.support.certificates import PrivateKey, key_pem, self_signed
from tests.support.limits import limit


@pytest.fixture(params=["ec", "rsa"])
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1()) if request.param == "ec" else rsa.generate_private_key(65537, 2048)


def openssl_spki_sha256(pem: bytes) -> bytes:
    """What OpenSSL says, which is what a verifier would ask."""
    public = subprocess.run(
        ["openssl", "x509", "-noout", "-pubkey"], input=pem, capture_output=True, timeout=limit(), check=True
    ).stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, capture_output=True, timeout=limit(), check=True
    ).stdout
    return hashlib.sha256(der).digest()


def test_tls_fingerprint_is_the_sha256_of_the_leafs_spki(key: PrivateKey, tmp_path: Path) -> None:
    leaf, other = self_signed(key), self_signed(ec.generate_private_key(ec.SECP256R1()))
    path = tmp_path / "cert.pem"
    for content in (leaf, leaf + other, key_pem(key) + leaf, leaf + key_pem(key) + other):
        path.write_bytes(content)
        assert TlsFingerprint(path)() == openssl_spki_sha256(leaf)


def test_tls_fingerprint_rereads_a_replaced_file(tmp_path: Path) -> None:
    path, following = tmp_path / "cert.pem", tmp_path / "new.pem"
    path.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    fingerprint = TlsFingerprint(path)
    before = fingerprint()
    assert fingerprint() == before
    following.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    os.replace(following, path)  # noqa: PTH105  # as the programs do that renew certificates
    assert fingerprint() == openssl_spki_sha256(path.read_bytes()) != before


def in_place(path: Path, content: bytes, changed_ns: int) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(changed_ns, changed_ns))


def as_another_file(path: Path, content: bytes, changed_ns: int) -> None:
    following = path.with_suffix(".new")
    in_place(following, content, changed_ns)
    os.replace(following, path)  # noqa: PTH105


@pytest.mark.parametrize(
    ("renew", "later_ns"),
    [(in_place, 10**12), (in_place, 1000), (as_another_file, 10**12), (as_another_file, 0)],
    ids=["in place", "in place within a microsecond", "as another file", "as another file of the same time"],
)
def test_tls_fingerprint_rereads_a_renewed_certificate_of_equal_size(
    tmp_path: Path, renew: Callable[[Path, bytes, int], None], later_ns: int
) -> None:
    certificates = [self_signed(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]
    # What stands behind a certificate is not read; it makes up for signatures of 70 to 72 bytes.
    one, other = (certificate.ljust(2000, b"\n") for certificate in certificates)
    path, made_ns = tmp_path / "cert.pem", 1_800_000_000 * 10**9
    in_place(path, one, made_ns)
    fingerprint = TlsFingerprint(path)
    assert fingerprint() == openssl_spki_sha256(one)
    renew(path, other, made_ns + later_ns)
    assert path.stat().st_size == len(one)
    assert fingerprint() == openssl_spki_sha256(other) != openssl_spki_sha256(one)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_tls_fingerprint_of_an_invalid_certificate_raises_an_error_naming_the_file(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "cert.pem"
    path.write_bytes(content)
    fingerprint = TlsFingerprint(path)
    for _ in range(2):
        with pytest.raises(TlsCertificateError, match=r"cert\.pem holds no certificate"):
            fingerprint()
    path.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    assert len(fingerprint()) == 32


def test_tls_fingerprint_of_an_unknown_key_type_raises_an_error_naming_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp160k1 -nodes -subj /CN=test"
        f" -keyout {tmp_path / 'key.pem'} -out {path}".split(),
        capture_output=True,
        timeout=limit(),
        check=True,
    )
    with pytest.raises(TlsCertificateError, match=r"cert\.pem has a key of a kind that is not known"):
        TlsFingerprint(path)()


def test_tls_fingerprint_of_a_missing_file_raises_an_error_naming_it(tmp_path: Path) -> None:
    with pytest.raises(TlsCertificateError, match=r"none\.pem cannot be read: No such file"):
        TlsFingerprint(tmp_path / "none.pem")()
