"""The fingerprint of the key that this proxy's TLS is terminated with."""

import hashlib
import threading
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_FILE = 1024 * 1024


class TlsCertificateError(Exception):
    """The certificate file cannot be read, or is none. The message names the file."""


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER, 32 bytes."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


class TlsFingerprint:
    """SHA-256 of the SubjectPublicKeyInfo of the first certificate in a PEM file: a chain has its leaf there.

    The file may be replaced while the proxy runs; it is read anew when it has changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._fingerprint = b""

    def __call__(self) -> bytes:
        """The fingerprint, 32 bytes.

        Raises:
            TlsCertificateError: The file cannot be read or holds no certificate.
        """
        with self._lock:
            try:
                stat = self._path.stat()
                seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if seen != self._seen:
                    self._fingerprint = self._read(stat.st_size)
                    self._seen = seen
            except OSError as error:
                raise TlsCertificateError(f"TLS_CERT_PATH {self._path} cannot be read: {error.strerror}") from None
            return self._fingerprint

    def _read(self, size: int) -> bytes:
        try:
            if size > MAX_FILE:
                raise ValueError
            certificate, *_ = x509.load_pem_x509_certificates(self._path.read_bytes())
            return spki_sha256(certificate)
        except ValueError:
            raise TlsCertificateError(f"TLS_CERT_PATH {self._path} holds no certificate in PEM") from None
        except UnsupportedAlgorithm:
            raise TlsCertificateError(
                f"TLS_CERT_PATH {self._path} has a key of a kind that is not known here"
            ) from None
