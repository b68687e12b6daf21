"""A body of evidence as a whole: exchange, signatures and reports, and what ties them to each other."""

import json
from typing import Any

import pytest

from attest_web.verify.audit import (
    DEV_KEYS,
    UNBOUND_GPU,
    UNPINNED_APP,
    UNPINNED_COMPOSE,
    UNPINNED_GUEST,
    UNPINNED_KEY_PROVIDER,
    check_evidence,
)
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import NotMadeError, Status
from attest_web.verify.signed_text import SignedBodies
from tests.attest_web.verify.auditing import audit, status, wrong
from tests.attest_web.verify.minting import (
    ALGOS,
    OTHER_KEYS,
    REQUEST,
    RESPONSE,
    SPKI,
    QuoteBook,
    evidence,
    report,
    signature,
)


def test_valid_evidence_passes_and_checks_that_were_not_requested_are_listed() -> None:
    found = audit()
    assert found.ok
    assert found.warnings == [UNPINNED_GUEST, UNPINNED_COMPOSE, UNPINNED_KEY_PROVIDER, UNPINNED_APP, UNBOUND_GPU]
    at_boot = {"GPU attested at boot", "GPU boot evidence", "GPU identity"}
    not_made = {check.name.partition(" ")[2] for check in found.checks if check.status is Status.NOT_MADE}
    assert not_made == {"TLS key", "app id", "MRCONFIGID", "MRTD", "OS image", "key chain", *at_boot}
    assert all(check.asked is (check.status is Status.PASSED) for check in found.checks)
    assert sum(check.status is Status.PASSED for check in found.checks) == 2 * (3 + 4 + 2 + 9 + 1 + 4)


def test_an_unsigned_quote_fails_and_leaves_its_tcb_open() -> None:
    found = check_evidence(evidence(), Policy(QuoteBook(report("ed25519")), gpu=GpuDemand.UNVERIFIED))
    assert status(found, "ecdsa quote signature") is Status.FAILED
    assert status(found, "ecdsa TCB status") is Status.NOT_MADE
    assert wrong(found) == {"ecdsa quote signature", "ecdsa TCB status"}


def test_quote_without_collateral_is_not_made_and_does_not_pass() -> None:
    def verify_quote(quote: bytes) -> QuoteVerdict:
        raise NotMadeError("no collateral")

    found = check_evidence(evidence(), Policy(verify_quote))
    assert status(found, "ecdsa quote signature") is Status.NOT_MADE
    assert not found.ok


def test_outdated_tcb_passes_only_if_allowed() -> None:
    assert wrong(audit(verdict="OutOfDate")) == {"ecdsa TCB status", "ed25519 TCB status"}
    assert audit(verdict="OutOfDate", allowed_tcb=frozenset({"UpToDate", "OutOfDate"})).ok
    assert not audit(verdict="Revoked", allowed_tcb=frozenset({"UpToDate", "OutOfDate"})).ok


def test_tls_key_must_be_the_attested_one() -> None:
    bound = report(spki=SPKI), report("ed25519", spki=SPKI)
    assert audit(*bound, about=evidence(*bound, tls_keys=frozenset({SPKI}))).ok
    other = audit(*bound, about=evidence(*bound, tls_keys=frozenset({b"\7" * 32})))
    assert wrong(other) == {"ecdsa TLS key", "ed25519 TLS key"}
    two_servers = audit(*bound, about=evidence(*bound, tls_keys=frozenset({SPKI, b"\7" * 32})))
    assert wrong(two_servers) == {"ecdsa TLS key", "ed25519 TLS key"}
    unbound = audit(about=evidence(tls_keys=frozenset({SPKI})))
    assert wrong(unbound) == {"ecdsa TLS key", "ed25519 TLS key"}
    # The report names the server's key, but the quote does not carry it.
    claimed = report(tls_cert_fingerprint=SPKI.hex()), report("ed25519", spki=SPKI)
    found = audit(*claimed, about=evidence(*claimed, tls_keys=frozenset({SPKI})))
    assert wrong(found) == {"ecdsa TLS key", "ecdsa address bound"}


def test_without_a_nonce_of_the_verifiers_the_age_of_a_report_is_left_open() -> None:
    found = audit(about=evidence(nonce=None))
    assert found.ok
    assert status(found, "ecdsa nonce") is Status.NOT_MADE
    other = report(request_nonce="07" * 32)
    assert status(audit(other, about=evidence(other, nonce=None)), "ecdsa nonce") is Status.FAILED


def test_signature_without_a_report_about_its_key_is_not_made() -> None:
    found = audit(report("ecdsa"))
    assert wrong(found) == {"ed25519 key attested"}
    assert status(found, "ed25519 key attested") is Status.NOT_MADE
    missing = check_evidence(evidence(reports=[]), Policy(QuoteBook()))
    assert wrong(missing) == {"ecdsa key attested", "ed25519 key attested"}


def statements(*answers: dict[str, Any]) -> list[Statement]:
    return [Statement(json.dumps(answer).encode()) for answer in answers]


def test_second_signer_without_an_attested_key_fails() -> None:
    both = statements(signature(), signature(keys=OTHER_KEYS))
    for signatures in (both, both[::-1]):
        found = audit(report(), about=evidence(report(), signatures=signatures))
        assert status(found, "ecdsa signer") is Status.FAILED
        assert status(found, "ecdsa key attested") is Status.PASSED
        assert status(found, "ecdsa 2 key attested") is Status.NOT_MADE
        assert not found.ok
    reports = report(), report(keys=OTHER_KEYS)
    found = audit(*reports, about=evidence(*reports, signatures=both))
    assert wrong(found) == {"ecdsa signer"}


@pytest.mark.parametrize("names", [("a", "b"), ("a", None), (None, "a"), ("a", "")])
def test_signatures_of_one_exchange_over_different_texts_fail(names: tuple[str | None, str | None]) -> None:
    signatures = statements(*(signature(algo, model=name) for algo, name in zip(ALGOS, names, strict=True)))
    found = audit(about=evidence(signatures=signatures))
    assert wrong(found) == {"signed text"}
    assert audit(about=evidence(signatures=statements(*(signature(algo, model="a") for algo in ALGOS)))).ok


def test_signatures_of_the_same_algorithm_are_numbered() -> None:
    about = evidence(report(), report(), signatures=statements(signature(), signature()))
    found = audit(report(), about=about)
    assert found.ok
    names = [check.name for check in found.checks]
    assert len(names) == len(set(names))
    assert {"ecdsa signature", "ecdsa 2 signature", "ecdsa quote signature", "ecdsa 2 quote signature"} <= set(names)


def test_algorithm_without_a_saved_signature_is_listed_as_not_made() -> None:
    for algo, other in (("ecdsa", "ed25519"), ("ed25519", "ecdsa")):
        made = signature("ecdsa" if algo == "ecdsa" else "ed25519")
        found = audit(about=evidence(reports=[], signatures=statements(made), attestation_asked=False))
        assert found.ok
        assert status(found, f"{other} signature") is Status.NOT_MADE
        assert status(found, f"{algo} signature") is Status.PASSED


def test_signatures_alone_pass_where_no_attestation_is_requested() -> None:
    found = check_evidence(evidence(reports=[], attestation_asked=False), Policy(QuoteBook()))
    assert found.ok
    assert status(found, "attestation") is Status.NOT_MADE


def test_reports_alone_are_checked() -> None:
    found = audit(about=evidence(bodies=None, signatures=[]))
    assert found.ok
    assert status(found, "ecdsa key attested") is Status.NOT_MADE


def test_empty_evidence_does_not_pass() -> None:
    assert not check_evidence(Evidence(attestation_asked=False), Policy(QuoteBook())).ok


def test_a_signature_of_another_algorithm_than_requested_fails() -> None:
    ed25519 = json.dumps(signature("ed25519")).encode()
    about = evidence(
        signatures=[Statement(ed25519, "ecdsa")], reports=[Statement(json.dumps(report()).encode(), "ed25519")]
    )
    assert {"ecdsa signature", "ed25519 report"} <= wrong(audit(about=about))


def test_a_changed_response_fails_both_signatures_checks() -> None:
    found = audit(about=evidence(bodies=SignedBodies(REQUEST, RESPONSE[:-1])))
    assert wrong(found) == {"ecdsa response hash", "ed25519 response hash"}


def test_development_keys_pass_only_if_allowed_and_are_warned_of() -> None:
    dev = report(dev=True), report("ed25519", dev=True)
    found = audit(*dev)
    assert wrong(found) == {"ecdsa keys", "ed25519 keys"}
    assert status(found, "ecdsa keys") is Status.FAILED
    assert DEV_KEYS in found.warnings
    allowed = audit(*dev, allow_dev=True)
    assert allowed.ok
    assert status(allowed, "ecdsa keys") is Status.NOT_MADE
    assert DEV_KEYS in allowed.warnings
    assert DEV_KEYS not in audit(report(dev=False), report("ed25519")).warnings
    claims: list[Any] = ["no", 0, 0.0, "", [], {}]
    for claim in claims:
        assert wrong(audit(report(dev=claim), report("ed25519"))) == {"ecdsa keys"}
