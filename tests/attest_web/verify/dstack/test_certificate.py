"""A certificate of dstack's own guest agent, over a TD that was simulated by dstack, and what becomes of it bent."""

import datetime
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest_web.verify.certificate_judge import MAX_REMEMBERED, CertificateJudge, why_refused
from attest_web.verify.checks import Check, Status, all_hold
from attest_web.verify.collateral import DcapVerifier, QuoteVerdict, collateral_from_json, root_certificate
from attest_web.verify.dstack.certificate import ATTESTATION_OID, certificate_checks, has_attestation
from attest_web.verify.policy import Policy

NOW = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
"""When the collateral of the vectors is good."""


@pytest.fixture(scope="module")
def leaf(dstack_vectors: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(dstack_vectors["real_agent"]["tls"]["v1_certificate_chain"][0].encode())


@pytest.fixture(scope="module")
def compose_hash(dstack_vectors: dict[str, Any]) -> bytes:
    return bytes.fromhex(dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]["compose_hash"])


@pytest.fixture(scope="module")
def policy(dstack_vectors: dict[str, Any], compose_hash: bytes) -> Policy:
    pki = dstack_vectors["real_agent"]["mock_pki"]
    collateral = collateral_from_json(json.dumps(pki["collateral"]))
    root = root_certificate(pki["root_pem"].encode())
    verifier = DcapVerifier(lambda _: collateral, root, clock=NOW.timestamp)
    return Policy(verifier, compose_hash=compose_hash)


def made(
    attestation: bytes | None, key: ec.EllipticCurvePrivateKey | None = None, not_after: datetime.datetime = NOW
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
        extension = x509.UnrecognizedExtension(ATTESTATION_OID, attestation)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(own, hashes.SHA256()).public_bytes(Encoding.DER)


def attestation_of(leaf: x509.Certificate) -> bytes:
    extension = leaf.extensions.get_extension_for_oid(ATTESTATION_OID).value
    assert isinstance(extension, x509.UnrecognizedExtension)
    return extension.value


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if check.status is Status.FAILED}


def test_a_certificate_of_the_guest_agent_holds(leaf: x509.Certificate, policy: Policy) -> None:
    der = leaf.public_bytes(Encoding.DER)
    checks = certificate_checks(der, policy, NOW)
    assert all_hold(checks), why_refused(checks)
    assert has_attestation(der)
    passed = {check.name for check in checks if check.status is Status.PASSED}
    assert passed == {
        "certificate",
        *(f"certificate {what}" for what in ("quote signature", "TCB status", "TD debug", "TD owner", "RTMR3")),
        *(f"certificate {what}" for what in ("boot log", "compose hash")),
    }


def test_an_attestation_of_another_key_fails_as_such(leaf: x509.Certificate, policy: Policy) -> None:
    assert failed(certificate_checks(made(attestation_of(leaf)), policy, NOW)) == {"certificate"}


@pytest.mark.parametrize("when", [datetime.timedelta(days=-100 * 365), datetime.timedelta(days=100 * 365)])
def test_a_certificate_has_its_time(leaf: x509.Certificate, policy: Policy, when: datetime.timedelta) -> None:
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
def test_what_is_no_attestation_makes_every_check_fail(bent: bytes | None, policy: Policy) -> None:
    checks = certificate_checks(made(bent), policy, NOW)
    assert not [check.name for check in checks if check.status is Status.PASSED]
    assert not all_hold(checks)


def test_no_byte_of_what_the_quote_signs_can_be_changed(leaf: x509.Certificate, policy: Policy) -> None:
    whole = attestation_of(leaf)
    begins = whole.index(b"\x04\0\x02\0\x81\0\0\0")
    for at in range(begins, begins + 632, 7):
        bent = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert "certificate quote signature" in failed(certificate_checks(made(bent), policy, NOW)), at


def test_registers_are_held_against_known_values(leaf: x509.Certificate, policy: Policy) -> None:
    der = leaf.public_bytes(Encoding.DER)
    other = Policy(policy.verify_quote, compose_hash=policy.compose_hash, mrtd=bytes(48), rtmrs={1: bytes(48)})
    assert failed(certificate_checks(der, other, NOW)) == {"certificate MRTD", "certificate RTMR1"}
    image = Policy(policy.verify_quote, compose_hash=policy.compose_hash, os_image_hashes=frozenset({bytes(32)}))
    assert failed(certificate_checks(der, image, NOW)) == {"certificate OS image"}


def test_without_a_pinned_compose_file_any_guest_could_have_it(leaf: x509.Certificate, policy: Policy) -> None:
    der = leaf.public_bytes(Encoding.DER)
    checks = CertificateJudge(Policy(policy.verify_quote), lambda: NOW)(der)
    assert not all_hold(checks)
    assert "compose hash" in why_refused(checks)
    other = Policy(policy.verify_quote, compose_hash=bytes(32))
    assert failed(certificate_checks(der, other, NOW)) == {"certificate compose hash"}


def test_what_holds_is_remembered_and_what_does_not_is_not(leaf: x509.Certificate, policy: Policy) -> None:
    asked = []

    def verify(quote: bytes) -> QuoteVerdict:
        asked.append(quote)
        return QuoteVerdict("UpToDate")

    judge = CertificateJudge(Policy(verify, compose_hash=policy.compose_hash), lambda: NOW)
    der, other = leaf.public_bytes(Encoding.DER), made(attestation_of(leaf))
    assert all_hold(judge(der))
    assert all_hold(judge(der))
    assert len(asked) == 1
    assert not all_hold(judge(other))
    assert not all_hold(judge(other))
    assert len(asked) == 3


def test_only_so_many_are_remembered(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    made_for: list[bytes] = []

    def checks(certificate: bytes, *_: object) -> list[Check]:
        made_for.append(certificate)
        return [Check("certificate", Status.PASSED, "")]

    monkeypatch.setattr("attest_web.verify.certificate_judge.certificate_checks", checks)
    judge = CertificateJudge(policy)
    for number in range(MAX_REMEMBERED + 1):
        judge(bytes([number]))
    judge(bytes([1]))
    assert len(made_for) == MAX_REMEMBERED + 1
    judge(bytes([0]))
    assert made_for[-1] == bytes([0])
