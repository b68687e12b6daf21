"""A TLS certificate from dstack's guest agent, with the attestation of its key in it (RA-TLS).

The extension 1.3.6.1.4.1.62397.1.8 is an OCTET STRING of an attestation whose report_data is
`sha512("ratls-cert:" ‖ SubjectPublicKeyInfo in DER)`. So the holder of the key is in the attested guest. The key and
the attestation are checked here. The chain is not, as its root proves nothing, and neither are the names.

The attestation has no nonce: it proves only that the key was made in that guest at some time. Its event log lacks the
events of RTMR0 to RTMR2, which are compared with the image's hash or known values.
"""

import datetime
import hashlib
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest_web.dstack.tls_key import RA_TLS_ATTESTATION
from attest_web.verify.dstack.attestation import Attestation
from attest_web.verify.dstack.event_log import Event
from attest_web.verify.guest_checks import guest_checks, quote_checks
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Check, FailedError, make
from attest_web.verify.primitives.quote import TdxQuote
from attest_web.verify.primitives.untrusted_json import JsonObject

NAME = "certificate"
"""First word of the names of the checks of a certificate."""

_TAG = b"ratls-cert:"
_OCTET_STRING = 0x04


class CertificateEvidence:
    """The evidence in a certificate about the guest that made it. A malformed part raises `FailedError`."""

    app_compose = None
    """Not in a certificate, which has only its hash."""

    app_id = None
    """Only in the event log."""

    def __init__(self, certificate: bytes) -> None:
        """Keep a certificate, in DER."""
        self._der = certificate

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The certificate, read."""
        try:
            return x509.load_der_x509_certificate(self._der)
        except Exception:  # the parser raises many types of exception
            raise FailedError("the server's certificate cannot be read") from None

    @cached_property
    def validity(self) -> tuple[datetime.datetime, datetime.datetime]:
        """The first and the last moment at which the certificate is valid."""
        certificate = self.certificate
        try:
            return certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except Exception:
            raise FailedError("the time for which the server's certificate is valid cannot be read") from None

    @cached_property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo in DER."""
        certificate = self.certificate
        try:
            return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except Exception:
            raise FailedError("the server's certificate has a key of an unknown kind") from None

    @cached_property
    def attestation(self) -> Attestation:
        """The attestation in it."""
        certificate = self.certificate
        try:
            extension = certificate.extensions.get_extension_for_oid(RA_TLS_ATTESTATION).value
        except x509.ExtensionNotFound:
            raise FailedError(
                "the server's certificate has no attestation in it: it is not dstack's, or of an image before 0.5.6"
            ) from None
        except Exception:
            raise FailedError("the extensions of the server's certificate cannot be read") from None
        if not isinstance(extension, x509.UnrecognizedExtension):
            raise FailedError("the attestation in the server's certificate cannot be read")
        return Attestation.parse(_octet_string(extension.value))

    @property
    def quote_bytes(self) -> bytes:
        """The quote."""
        return self.attestation.quote

    @cached_property
    def quote(self) -> TdxQuote:
        """The quote, read."""
        return TdxQuote.parse(self.attestation.quote)

    @property
    def events(self) -> list[Event]:
        """The event log: RTMR3 and the ACPI events of RTMR0."""
        return self.attestation.events

    @property
    def vm_config(self) -> JsonObject:
        """The host's description of the virtual machine."""
        return self.attestation.vm_config


def certificate_checks(certificate: bytes, policy: Policy, now: datetime.datetime) -> list[Check]:
    """Make all checks of a certificate.

    Args:
        certificate: The server's certificate, in DER.
        policy: What the verifier requires. Its requirements on GPUs do not apply to certificates.
        now: The time, with its zone.
    """
    evidence = CertificateEvidence(certificate)
    return [
        make(NAME, lambda: _check_key(evidence, now)),
        *quote_checks(NAME, evidence, policy),
        *guest_checks(NAME, evidence, policy, whole_log=False),
    ]


def _check_key(evidence: CertificateEvidence, now: datetime.datetime) -> str:
    expected = hashlib.sha512(_TAG + evidence.spki).digest()
    if evidence.attestation.report_data != expected or evidence.quote.report_data != expected:
        raise FailedError("the attestation in the server's certificate is about another key than the certificate's")
    begins, ends = evidence.validity
    if not begins <= now <= ends:
        raise FailedError("the server's certificate is not valid at this time")
    return f"its quote is about its key, SHA-256 {hashlib.sha256(evidence.spki).hexdigest()}"


def _octet_string(der: bytes) -> bytes:
    """The content of an OCTET STRING (X.690, 8.7) whose length is in DER: definite, in the fewest bytes."""
    if len(der) < 2 or der[0] != _OCTET_STRING:
        raise FailedError("the attestation in the server's certificate is not an OCTET STRING")
    size_bytes = der[1] & 0x7F if der[1] & 0x80 else 0
    size = int.from_bytes(der[2 : 2 + size_bytes], "big") if size_bytes else der[1]
    content = der[2 + size_bytes :]
    shortest = 0 if size < 0x80 else (size.bit_length() + 7) // 8
    if der[1] == 0x80 or size_bytes != shortest or len(content) != size:
        raise FailedError("the attestation in the server's certificate is not an OCTET STRING of its length")
    return content
