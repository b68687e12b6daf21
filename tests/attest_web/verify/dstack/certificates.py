"""Certificates with an attestation in them: of one's own making, and odd ones."""

import datetime
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest_web.dstack.tls_key import RA_TLS_ATTESTATION
from attest_web.verify.primitives.checks import Check, Status

NOW = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
"""When the collateral of the vectors is good."""

YEAR_2060 = datetime.datetime(2060, 1, 1, tzinfo=datetime.UTC)
"""From 2050 on, a time has its century: GeneralizedTime (RFC 5280, 4.1.2.5)."""

PRIVATE = "1.3.6.1.4.1.62397.1.7"
EMPTY = b"\x04\x00"


def made(
    attestation: bytes | None,
    key: ec.EllipticCurvePrivateKey | None = None,
    not_after: datetime.datetime = NOW,
    extensions: Mapping[str, bytes] | None = None,
) -> bytes:
    """A certificate of one's own with an attestation that may be another's, in DER."""
    name = x509.Name([])
    own = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder(name, name)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=2))
        .not_valid_after(not_after)
    )
    if attestation is not None:
        extension = x509.UnrecognizedExtension(RA_TLS_ATTESTATION, attestation)
        builder = builder.add_extension(extension, critical=False)
    for oid, value in (extensions or {}).items():
        more = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(more, critical=False)
    return builder.sign(own, hashes.SHA256()).public_bytes(Encoding.DER)


def attestation_of(leaf: x509.Certificate) -> bytes:
    extension = leaf.extensions.get_extension_for_oid(RA_TLS_ATTESTATION).value
    assert isinstance(extension, x509.UnrecognizedExtension)
    return extension.value


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if check.status is Status.FAILED}


def odd_certificates() -> dict[str, bytes]:
    """Certificates that a TLS library can be made to show, and that no authority would make, in DER."""
    twice = made(EMPTY, extensions={PRIVATE: EMPTY})
    private, theirs = (content_of(x509.ObjectIdentifier(oid)) for oid in (PRIVATE, RA_TLS_ATTESTATION.dotted_string))
    assert twice.count(private) == 1
    late = made(EMPTY, not_after=YEAR_2060)
    version_3 = bytes.fromhex("a003020102")
    assert late.count(version_3) == 1
    assert late.count(b"20600101000000Z") == 1
    return {
        "two attestations": twice.replace(private, theirs),
        "version 8": late.replace(version_3, bytes.fromhex("a003020107")),
        "year 0": late.replace(b"20600101000000Z", b"00000101000000Z"),
        "30 February": late.replace(b"20600101000000Z", b"20600230000000Z"),
        "name of type x400Address": made(EMPTY, extensions={"2.5.29.17": bytes.fromhex("3005a303020100")}),
        "name that is not ASCII": made(EMPTY, extensions={"2.5.29.17": bytes.fromhex("30038201ff")}),
        "address of three bytes": made(EMPTY, extensions={"2.5.29.17": bytes.fromhex("30058703010203")}),
        "key usage of no type": made(EMPTY, extensions={"2.5.29.15": b"\xff"}),
        "unknown TLS feature": made(EMPTY, extensions={"1.3.6.1.5.5.7.1.24": bytes.fromhex("3003020163")}),
        "nothing": b"",
    }


def content_of(oid: x509.ObjectIdentifier) -> bytes:
    """An OBJECT IDENTIFIER as it is in DER (X.690, 8.19), without its head."""
    first, second, *others = map(int, oid.dotted_string.split("."))
    encoded = bytearray([40 * first + second])
    for arc in others:
        groups = [arc >> shift & 0x7F for shift in range(0, arc.bit_length() or 1, 7)][::-1]
        encoded += bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])
    return bytes(encoded)
