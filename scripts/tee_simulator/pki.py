"""Certificates and revocation lists like those of Intel's provisioning service, under a root made up on the spot.

Shapes: "Intel SGX PCK Certificate and Certificate Revocation List Profile Specification", 1.5. Only the root is named
for what it is; the others are named as Intel's are, because verifiers go by those names.
"""

import datetime
import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

CA_LIFETIME = datetime.timedelta(days=3650)
COLLATERAL_LIFETIME = datetime.timedelta(days=30)
"""How long revocation lists, TCB info and QE identity hold: as long as Intel's. A simulator that runs for longer mints
quotes that no longer verify."""

CLOCK_TOLERANCE = datetime.timedelta(hours=1)
"""Everything is valid from this long ago, for verifiers whose clock is behind."""

FMSPC = bytes.fromhex("20a06f000000")
PCE_ID = bytes.fromhex("0000")
PCE_SVN = 13
CPU_SVN = bytes.fromhex("03030202040100050000000000000000")
"""SVNs of the platform's 16 TCB components, one byte each."""

SGX_EXTENSIONS = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
SGX_TYPE_SCALABLE_WITH_INTEGRITY = 2

_SGX_EXTENSIONS_DER = bytes.fromhex("2a864886f84d010d01")
_BOOLEAN, _INTEGER, _OCTET_STRING, _OBJECT_ID, _ENUMERATED, _SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30
_CRL_URL = "https://crl.invalid/{}.der"


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, on P-256."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        """The certificate, PEM, with a line end behind it."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def sign(self, message: bytes) -> bytes:
        """See `sign_raw`."""
        return sign_raw(self.key, message)


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA on P-256 over the SHA-256 of a message: r and s, 32 bytes each, big-endian, as DCAP has signatures."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_public_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The coordinates x and y of a key's point, 32 bytes each, big-endian."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


class SimulatedPki:
    """A root, and what Intel's would have issued for one platform: platform CA, PCK and TCB signing certificate, CRLs.

    Attributes:
        root: The root CA. To trust it is to trust every simulator that has its key, which never leaves this process.
        platform_ca: Issuer of the PCK certificate.
        pck: The platform's provisioning certification key; it signs the quoting enclave's report.
        tcb_signing: Signs TCB info and QE identity.
        root_crl: What the root has revoked, DER: nothing.
        pck_crl: What the platform CA has revoked, DER: nothing.
        issued: When all of that becomes valid, UTC.
        next_update: When the revocation lists expire, UTC.
        ppid: The platform's id, 16 bytes.
    """

    def __init__(self) -> None:
        self.issued = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - CLOCK_TOLERANCE
        self.next_update = self.issued + COLLATERAL_LIFETIME
        self.ppid = secrets.token_bytes(16)
        root_name = _name("Simulated SGX Root CA, worth nothing")
        self.root = self._issue(root_name, None, ca_path_length=1)
        self.platform_ca = self._issue(_name("Intel SGX PCK Platform CA"), self.root, ca_path_length=0)
        pck_extension = x509.UnrecognizedExtension(SGX_EXTENSIONS, sgx_extensions(self.ppid))
        self.pck = self._issue(_name("Intel SGX PCK Certificate"), self.platform_ca, extension=pck_extension)
        self.tcb_signing = self._issue(_name("Intel SGX TCB Signing"), self.root)
        self.root_crl = self._empty_crl(self.root)
        self.pck_crl = self._empty_crl(self.platform_ca)

    def _issue(
        self,
        subject: x509.Name,
        issuer: Identity | None,
        *,
        ca_path_length: int | None = None,
        extension: x509.ExtensionType | None = None,
    ) -> Identity:
        """A certificate with a fresh key; of itself where there is no issuer, a CA where a path length is given."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer_key = issuer.key if issuer else key
        is_ca = ca_path_length is not None
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.issued)
            .not_valid_after(self.issued + CA_LIFETIME)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .add_extension(_crl_distribution_point("root" if issuer is None or is_ca else "pck"), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(key_usage(signs_data=not is_ca, is_ca=is_ca), critical=True)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=ca_path_length), critical=True)
        )
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        return Identity(builder.sign(issuer_key, hashes.SHA256()), key)

    def _empty_crl(self, issuer: Identity) -> bytes:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(self.issued)
            .next_update(self.next_update)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(authority, critical=False)
            .sign(issuer.key, hashes.SHA256())
        )
        return crl.public_bytes(Encoding.DER)


def sgx_extensions(ppid: bytes) -> bytes:
    """The value of a PCK certificate's SGX extensions (profile specification, 1.3.5), DER.

    Args:
        ppid: The platform's id, 16 bytes.
    """
    tcb = [_sgx_entry([2, at], _der_integer(svn)) for at, svn in enumerate(CPU_SVN, 1)]
    tcb += [_sgx_entry([2, 17], _der_integer(PCE_SVN)), _sgx_entry([2, 18], _der(_OCTET_STRING, CPU_SVN))]
    # Dynamic platform, cached keys, SMT enabled.
    configuration = [
        _sgx_entry([7, at], _der(_BOOLEAN, value)) for at, value in enumerate((b"\xff", b"\0", b"\xff"), 1)
    ]
    entries = [
        _sgx_entry([1], _der(_OCTET_STRING, ppid)),
        _sgx_entry([2], _der(_SEQUENCE, b"".join(tcb))),
        _sgx_entry([3], _der(_OCTET_STRING, PCE_ID)),
        _sgx_entry([4], _der(_OCTET_STRING, FMSPC)),
        _sgx_entry([5], _der(_ENUMERATED, bytes([SGX_TYPE_SCALABLE_WITH_INTEGRITY]))),
        _sgx_entry([6], _der(_OCTET_STRING, hashlib.sha256(b"platform instance" + ppid).digest()[:16])),
        _sgx_entry([7], _der(_SEQUENCE, b"".join(configuration))),
    ]
    return _der(_SEQUENCE, b"".join(entries))


def _sgx_entry(arcs: list[int], value: bytes) -> bytes:
    # Arcs below 128 are one byte each in DER.
    return _der(_SEQUENCE, _der(_OBJECT_ID, _SGX_EXTENSIONS_DER + bytes(arcs)) + value)


def der_octet_string(content: bytes) -> bytes:
    """Bytes as an OCTET STRING, DER."""
    return _der(_OCTET_STRING, content)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _der_integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Santa Clara"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "CA"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


def _crl_distribution_point(which: str) -> x509.CRLDistributionPoints:
    address = x509.UniformResourceIdentifier(_CRL_URL.format(which))
    return x509.CRLDistributionPoints([x509.DistributionPoint([address], None, None, None)])


def key_usage(*, signs_data: bool, is_ca: bool) -> x509.KeyUsage:
    """What a key is for (RFC 5280, 4.2.1.3): signing data, or certificates and revocation lists."""
    return x509.KeyUsage(
        digital_signature=signs_data,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
