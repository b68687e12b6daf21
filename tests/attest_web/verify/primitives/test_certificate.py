from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest_web.verify.primitives.certificate import certificate_spki_sha256


def test_certificate_with_an_unknown_curve_raises_value_error(certificate: tuple[Path, bytes]) -> None:
    der = x509.load_pem_x509_certificate(certificate[0].read_bytes()).public_bytes(Encoding.DER)
    p256 = bytes.fromhex("2a8648ce3d030107")
    assert p256 in der
    with pytest.raises(ValueError, match="unknown kind"):
        certificate_spki_sha256(der.replace(p256, p256[:-1] + b"\x77"))
