import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.verify.binding import certificate_spki_sha256
from tests.support.certificates import key_pem, self_signed


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, bytes]:
    """A certificate for 127.0.0.1 with its key in one file, and SHA-256 of its SPKI."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = self_signed(key)
    file = tmp_path / "tls.pem"
    file.write_bytes(pem + key_pem(key))
    return file, certificate_spki_sha256(ssl.PEM_cert_to_DER_cert(pem.decode()))
