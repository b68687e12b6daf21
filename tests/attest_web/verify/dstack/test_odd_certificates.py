"""Certificates that no authority would make: they fail, and nothing else comes of them."""

import contextlib
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.certificate_checks import CertificateEvidence, certificate_checks
from attest_web.verify.certificate_verifier import CertificateVerifier
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.certificate import certificate_spki_sha256
from attest_web.verify.primitives.checks import Status, all_hold
from tests.attest_web.verify.dstack.certificates import (
    NOW,
    YEAR_2060,
    attestation_of,
    failed,
    made,
    odd_certificates,
)

LENIENT = Policy(lambda _: QuoteVerdict("UpToDate"))
"""Lets quotes pass that nobody has signed."""


@pytest.mark.parametrize("odd", odd_certificates())
def test_malformed_certificate_passes_no_check(odd: str, policy: Policy) -> None:
    der = odd_certificates()[odd]
    checks = certificate_checks(der, policy, NOW)
    assert "certificate" in failed(checks)
    assert not [check.name for check in checks if check.status is Status.PASSED]
    assert not all_hold(CertificateVerifier(policy, lambda: NOW)(der))


@pytest.mark.parametrize("odd", odd_certificates())
def test_malformed_certificate_spki_is_read_or_a_value_error(odd: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(certificate_spki_sha256(odd_certificates()[odd])) == 32


@pytest.mark.parametrize("odd", ["version 8", "nothing"])
def test_unreadable_certificate_raises_a_value_error_and_fails_its_checks(odd: str) -> None:
    with pytest.raises(ValueError, match="its certificate cannot be read"):
        certificate_spki_sha256(odd_certificates()[odd])
    details = {check.detail for check in certificate_checks(odd_certificates()[odd], LENIENT, NOW) if not check.holds}
    assert "the server's certificate cannot be read" in details
    assert not any("extensions" in detail or "unknown kind" in detail for detail in details)


def test_certificate_with_year_0_fails_despite_a_valid_attestation(leaf: x509.Certificate, policy: Policy) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    about_leaf = CertificateEvidence(leaf.public_bytes(Encoding.DER)).quote.report_data
    about_key = hashlib.sha512(b"ratls-cert:" + spki).digest()
    good = made(attestation_of(leaf).replace(about_leaf, about_key), key, YEAR_2060)
    lenient = Policy(LENIENT.verify_quote, compose_hash=policy.compose_hash)
    assert all_hold(certificate_checks(good, lenient, NOW))
    checks = certificate_checks(good.replace(b"20600101000000Z", b"00000101000000Z"), lenient, NOW)
    assert {check.name: check.detail for check in checks if not check.holds} == {
        "certificate": "the time for which the server's certificate is valid cannot be read"
    }


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_certificate_with_random_changes_raises_no_unexpected_error(
    data: st.DataObject, leaf: x509.Certificate
) -> None:
    der = leaf.public_bytes(Encoding.DER)
    # Around the attestation: version, names, times and key in front of it, other extensions behind it.
    place = data.draw(st.integers(0, 250) | st.integers(len(der) - 250, len(der) - 1))
    bent = der[:place] + data.draw(st.binary(min_size=1, max_size=8)) + der[place + data.draw(st.integers(0, 8)) :]
    certificate_checks(bent, LENIENT, NOW)
    with contextlib.suppress(ValueError):
        certificate_spki_sha256(bent)
