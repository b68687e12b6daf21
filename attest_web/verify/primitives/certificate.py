"""The public key of a certificate that the checked party shows."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attest_web.attestation.tls_fingerprint import spki_sha256


def certificate_spki_sha256(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a certificate in DER.

    Raises:
        ValueError: It is not a certificate, or one with a key of a kind that is not known here.
    """
    try:
        return spki_sha256(x509.load_der_x509_certificate(certificate))
    except UnsupportedAlgorithm:
        raise ValueError("its certificate has a key of an unknown kind") from None
    except Exception:  # the parser has an exception of its own for each kind of oddity
        raise ValueError("its certificate cannot be read") from None
