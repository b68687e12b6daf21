"""A certificate of dstack's own guest agent, over a TD that was simulated by dstack, and what becomes of it bent."""

import datetime
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest_web.verify.certificate_checks import certificate_checks
from attest_web.verify.certificate_verifier import MAX_AGE, MAX_CACHED, CertificateVerifier, why_refused
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Check, FailedError, Status, all_hold
from tests.attest_web.verify.dstack.certificates import NOW, attestation_of, failed, made


def test_certificate_of_the_guest_agent_passes_all_checks(leaf: x509.Certificate, policy: Policy) -> None:
    checks = certificate_checks(leaf.public_bytes(Encoding.DER), policy, NOW)
    assert all_hold(checks), why_refused(checks)
    passed = {check.name for check in checks if check.status is Status.PASSED}
    assert passed == {
        "certificate",
        *(f"certificate {what}" for what in ("quote signature", "TCB status", "TD debug", "TD owner", "RTMR3")),
        *(f"certificate {what}" for what in ("RTMR0", "RTMR1", "RTMR2", "MRTD", "boot log", "compose hash")),
    }


def test_certificate_with_an_attestation_of_another_key_fails(leaf: x509.Certificate, policy: Policy) -> None:
    assert failed(certificate_checks(made(attestation_of(leaf)), policy, NOW)) == {"certificate"}


def test_an_attestation_that_claims_the_certificates_key_and_has_a_quote_about_another_fails_as_such(
    leaf: x509.Certificate, policy: Policy
) -> None:
    """The claim is beside the quote: whoever copies an attestation can write any key there."""

    def claimed(key: ec.EllipticCurvePublicKey) -> bytes:
        return hashlib.sha512(
            b"ratls-cert:" + key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).digest()

    theirs, own = leaf.public_key(), ec.generate_private_key(ec.SECP256R1())
    assert isinstance(theirs, ec.EllipticCurvePublicKey)
    whole = attestation_of(leaf)
    in_the_quote, beside_it = whole.index(claimed(theirs)), whole.rindex(claimed(theirs))
    assert in_the_quote < beside_it
    copied = whole[:beside_it] + claimed(own.public_key()) + whole[beside_it + 64 :]
    assert failed(certificate_checks(made(copied, own), policy, NOW)) == {"certificate"}


@pytest.mark.parametrize("when", [datetime.timedelta(days=-100 * 365), datetime.timedelta(days=100 * 365)])
def test_certificate_outside_its_validity_period_fails(
    leaf: x509.Certificate, policy: Policy, when: datetime.timedelta
) -> None:
    assert failed(certificate_checks(leaf.public_bytes(Encoding.DER), policy, NOW + when)) == {"certificate"}


@pytest.mark.parametrize(
    "bent",
    [
        None,
        b"",
        b"\x04\x00",
        b"\x04\x80\x00\x00",
        b"\x04\x05abcd",
        b"\x30\x03abc",
        b"\x04\x85\0\0\0\0\x01a",
        b"\x04\x01\0",
    ],
)
def test_malformed_attestation_extension_passes_no_check(bent: bytes | None, policy: Policy) -> None:
    checks = certificate_checks(made(bent), policy, NOW)
    assert not [check.name for check in checks if check.status is Status.PASSED]
    assert not all_hold(checks)


def test_attestation_extension_with_a_non_der_length_passes_no_check(leaf: x509.Certificate, policy: Policy) -> None:
    whole = attestation_of(leaf)
    assert whole[:2] == b"\x04\x82"
    assert failed(certificate_checks(made(whole), policy, NOW)) == {"certificate"}
    for longer in (b"\x04\x83\0" + whole[2:], b"\x04\x84\0\0" + whole[2:], b"\x24" + whole[1:], whole + b"\0"):
        checks = certificate_checks(made(longer), policy, NOW)
        assert not [check.name for check in checks if check.status is Status.PASSED]


def test_every_byte_signed_by_the_quote_is_covered(leaf: x509.Certificate, policy: Policy) -> None:
    whole = attestation_of(leaf)
    begins = whole.index(b"\x04\0\x02\0\x81\0\0\0")
    for at in range(begins, begins + 632, 7):
        bent = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert "certificate quote signature" in failed(certificate_checks(made(bent), policy, NOW)), at


def test_registers_are_compared_with_known_values(leaf: x509.Certificate, policy: Policy) -> None:
    der = leaf.public_bytes(Encoding.DER)
    other = replace(policy, mrtd=bytes(48), rtmrs={1: bytes(48)})
    assert failed(certificate_checks(der, other, NOW)) == {"certificate MRTD", "certificate RTMR1"}
    image = replace(policy, os_image_hashes=frozenset({bytes(32)}))
    assert failed(certificate_checks(der, image, NOW)) == {"certificate OS image"}
    compose = replace(policy, compose_hash=bytes(32))
    assert failed(certificate_checks(der, compose, NOW)) == {"certificate compose hash"}


def test_the_app_id_is_compared_with_known_ones(
    leaf: x509.Certificate, policy: Policy, dstack_vectors: dict[str, Any]
) -> None:
    der = leaf.public_bytes(Encoding.DER)
    app_id = bytes.fromhex(dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]["app_id"])
    checks = certificate_checks(der, replace(policy, app_ids=frozenset({app_id, bytes(20)})), NOW)
    assert all_hold(checks), why_refused(checks)
    assert "certificate app id" in {check.name for check in checks if check.status is Status.PASSED}
    other = replace(policy, app_ids=frozenset({bytes(20)}))
    assert failed(certificate_checks(der, other, NOW)) == {"certificate app id"}


@pytest.mark.parametrize(
    "missing",
    [{"compose_hash": None}, {"mrtd": None}, *({"without": register} for register in range(3))],
    ids=str,
)
def test_policy_without_a_pinned_app_and_image_is_refused(policy: Policy, missing: dict[str, Any]) -> None:
    CertificateVerifier(policy)
    CertificateVerifier(replace(policy, mrtd=None, rtmrs={}, os_image_hashes=frozenset({bytes(32)})))
    if "without" in missing:
        missing = {"rtmrs": {n: value for n, value in policy.rtmrs.items() if n != missing["without"]}}
    with pytest.raises(ValueError, match="pin the compose file and the guest image"):
        CertificateVerifier(replace(policy, **missing))


def test_certificate_that_passes_is_cached_and_one_that_fails_is_not(leaf: x509.Certificate, policy: Policy) -> None:
    asked = []

    def verify(quote: bytes) -> QuoteVerdict:
        asked.append(quote)
        return QuoteVerdict("UpToDate")

    verify_certificate = CertificateVerifier(replace(policy, verify_quote=verify), lambda: NOW)
    der, other = leaf.public_bytes(Encoding.DER), made(attestation_of(leaf))
    assert all_hold(verify_certificate(der))
    assert all_hold(verify_certificate(der))
    assert len(asked) == 1
    assert not all_hold(verify_certificate(other))
    assert not all_hold(verify_certificate(other))
    assert len(asked) == 3


def test_cached_certificate_is_checked_again_after_its_maximum_age(leaf: x509.Certificate, policy: Policy) -> None:
    asked = []

    def verify(quote: bytes) -> QuoteVerdict:
        asked.append(quote)
        if len(asked) > 2:
            raise FailedError("the platform was revoked")
        return QuoteVerdict("UpToDate")

    now = NOW
    verify_certificate = CertificateVerifier(replace(policy, verify_quote=verify), lambda: now)
    der = leaf.public_bytes(Encoding.DER)
    assert all_hold(verify_certificate(der))
    now += MAX_AGE - datetime.timedelta(seconds=1)
    assert all_hold(verify_certificate(der))
    assert len(asked) == 1
    now += datetime.timedelta(seconds=1)
    assert all_hold(verify_certificate(der))
    assert len(asked) == 2
    now += MAX_AGE
    for _ in range(2):
        assert not all_hold(verify_certificate(der))
    assert len(asked) == 4


def test_certificate_cache_is_bounded(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    made_for: list[bytes] = []

    def checks(certificate: bytes, *_: object) -> list[Check]:
        made_for.append(certificate)
        return [Check("certificate", Status.PASSED, "")]

    monkeypatch.setattr("attest_web.verify.certificate_verifier.certificate_checks", checks)
    verify_certificate = CertificateVerifier(policy)
    for number in range(MAX_CACHED + 1):
        verify_certificate(bytes([number]))
    verify_certificate(bytes([1]))
    assert len(made_for) == MAX_CACHED + 1
    verify_certificate(bytes([0]))
    assert made_for[-1] == bytes([0])
