"""A TLS key and the certificates that go with it, as dstack's guest agent makes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

RA_TLS_ATTESTATION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.62397.1.8")
"""dstack's extension of certificates that holds the attestation of their key (RA-TLS)."""


@dataclass(frozen=True)
class TlsKey:
    """A private key and its chain of certificates. The key is in no representation.

    Attributes:
        pem: The private key (PKCS#8, RFC 5958) and the certificates, leaf first, in PEM (RFC 7468).
        attested: Whether the leaf says that it holds an attestation of the key; none is checked.
    """

    pem: bytes = field(repr=False)
    attested: bool

    @classmethod
    def from_pem(cls, private_key: str, certificates: Sequence[str]) -> "TlsKey":
        """From what GetTlsKey answers.

        Args:
            private_key: In PEM, unencrypted.
            certificates: In PEM, leaf first.

        Raises:
            ValueError: They are no key and certificates, or do not belong together. The message quotes neither.
        """
        try:
            parts = [part.strip().encode() + b"\n" for part in (private_key, *certificates)]
            key = load_pem_private_key(parts[0], None)
            leaf, *_ = x509.load_pem_x509_certificates(b"".join(parts[1:]))
            belongs = key.public_key() == leaf.public_key()
            attested = any(extension.oid == RA_TLS_ATTESTATION for extension in leaf.extensions)
        except Exception:  # its message could quote what was read
            raise ValueError("it is no private key with certificates in PEM") from None
        if not belongs:
            raise ValueError("the certificate is not the private key's")
        return cls(b"".join(parts), attested)
