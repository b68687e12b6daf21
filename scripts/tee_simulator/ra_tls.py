"""Certificates as a dstack guest gets them from its KMS, or without one from itself: RA-TLS.

A leaf has the attestation of its own key in an extension: the quote's report data is SHA-512 of `ratls-cert:` ‖ SPKI.
As with dstack, no certificate has an Authority Key Identifier, so clients that check chains strictly refuse them all.
"""

import datetime
import hashlib
import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scripts.tee_simulator.pki import der_octet_string, key_usage

_ARC = "1.3.6.1.4.1.62397.1."
QUOTE = x509.ObjectIdentifier(_ARC + "1")
EVENT_LOG = x509.ObjectIdentifier(_ARC + "2")
APP_ID = x509.ObjectIdentifier(_ARC + "3")
CERTIFICATE_USAGE = x509.ObjectIdentifier(_ARC + "4")
ATTESTATION = x509.ObjectIdentifier(_ARC + "8")
APP_INFO = x509.ObjectIdentifier(_ARC + "9")

NOT_BEFORE = datetime.datetime(1975, 1, 1, tzinfo=datetime.UTC)
LIFETIME = datetime.timedelta(days=3650)


class CertificateError(ValueError):
    """A certificate cannot be issued as it was asked for."""


@dataclass(frozen=True)
class CertificateRequest:
    """What an app asks for of a leaf.

    Attributes:
        subject: Its common name.
        alt_names: DNS names and addresses.
        server_auth: Whether it is for servers.
        client_auth: Whether it is for clients.
        not_before: Begin of its validity, in seconds since 1970; 1975 by default.
        not_after: End of its validity; ten years from now by default.
    """

    subject: str = ""
    alt_names: Sequence[str] = ()
    server_auth: bool = False
    client_auth: bool = False
    not_before: int | None = None
    not_after: int | None = None

    def __post_init__(self) -> None:
        """Check the validity.

        Raises:
            CertificateError: It ends before it begins.
        """
        if self.not_before is not None and self.not_after is not None and self.not_before >= self.not_after:
            raise CertificateError("not_before must be earlier than not_after")


@dataclass(frozen=True)
class CertificateAuthority:
    """A CA of dstack's and the certificates that lead to its root.

    Attributes:
        certificate: Its own.
        key: Its key.
        above: The CAs above it, the root last.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def root(cls, common_name: str, key: ec.EllipticCurvePrivateKey, organization: str = "") -> "CertificateAuthority":
        """A root, which may have a CA below it."""
        name = _name(common_name, organization)
        builder = _builder(name, name, key.public_key(), CertificateRequest())
        return cls(_ca(builder, key.public_key(), path_length=1).sign(key, hashes.SHA256()), key)

    def app_ca(self, key: ec.EllipticCurvePrivateKey, app_id: bytes) -> "CertificateAuthority":
        """The CA of one app, below this one."""
        name = _name("Dstack App CA", "Dstack")
        builder = _builder(name, self.certificate.subject, key.public_key(), CertificateRequest())
        builder = _ca(builder, key.public_key(), path_length=0)
        builder = with_extensions(builder, {APP_ID: app_id, CERTIFICATE_USAGE: b"app:ca"})
        return CertificateAuthority(builder.sign(self.key, hashes.SHA256()), key, (self.certificate, *self.above))

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        request: CertificateRequest,
        extensions: dict[x509.ObjectIdentifier, bytes],
    ) -> list[str]:
        """Issue a leaf.

        Args:
            public_key: Its key.
            request: What it is for.
            extensions: dstack's own, by their OIDs.

        Returns:
            The chain in PEM, leaf first and root last.

        Raises:
            CertificateError: Name, alternative names or validity fit into no certificate.
        """
        try:
            name = _name(request.subject)
            builder = _builder(name, self.certificate.subject, public_key, request)
            if request.alt_names:
                builder = builder.add_extension(_alt_names(request.alt_names), critical=False)
            builder = builder.add_extension(key_usage(signs_data=True, is_ca=False), critical=True)
            usages = itertools.compress(
                (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
                (request.server_auth, request.client_auth),
            )
            if asked_for := list(usages):
                builder = builder.add_extension(x509.ExtendedKeyUsage(asked_for), critical=False)
            leaf = with_extensions(builder, extensions).sign(self.key, hashes.SHA256())
        except (ValueError, OverflowError) as error:
            raise CertificateError(f"Failed to sign the CSR: {error}") from None
        return [_pem(certificate) for certificate in (leaf, self.certificate, *self.above)]


def report_data(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """What the quote in a leaf says: 64 bytes that bind its key."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha512(b"ratls-cert:" + spki).digest()


def with_extensions(
    builder: x509.CertificateBuilder, extensions: dict[x509.ObjectIdentifier, bytes]
) -> x509.CertificateBuilder:
    """Add extensions of dstack's, whose values are OCTET STRINGs."""
    for oid, value in extensions.items():
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, der_octet_string(value)), critical=False)
    return builder


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, request: CertificateRequest
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE if request.not_before is None else _time(request.not_before))
        .not_valid_after(now + LIFETIME if request.not_after is None else _time(request.not_after))
    )


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)


def _ca(
    builder: x509.CertificateBuilder, public_key: ec.EllipticCurvePublicKey, path_length: int
) -> x509.CertificateBuilder:
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return (
        builder.add_extension(key_usage(signs_data=True, is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(hashlib.sha256(spki).digest()[:20]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    )


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _alt_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alt_name(name) for name in names])


def _alt_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
