"""The public key of the checked party's certificate."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attest_web.attestation.tls_fingerprint import spki_sha256


def certificate_spki_sha256(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a certificate in DER.

    Raises:
        ValueError: It is not a certificate, or its key is of an unknown kind.
    """
    try:
        return spki_sha256(x509.load_der_x509_certificate(certificate))
    except UnsupportedAlgorithm:
        raise ValueError("its certificate has a key of an unknown kind") from None
    except Exception:  # the parser raises many types of exception
        raise ValueError("its certificate cannot be read") from None
