import datetime

import pytest

from attest_web.verify.audit import check_evidence
from attest_web.verify.certificate_checks import certificate_checks
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.command.explanations import explanation
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Policy
from tests.attest_web.verify.minting import evidence, report


def test_every_check_of_an_audit_is_explained() -> None:
    found = evidence(report("ecdsa", dev=True), report("ed25519"))
    policy = Policy(lambda _: QuoteVerdict("UpToDate"), gpu=GpuDemand.UNVERIFIED)
    names = [check.name for check in check_evidence(found, policy).checks]
    names += [check.name for check in certificate_checks(b"", policy, datetime.datetime.now(datetime.UTC))]
    assert len(names) > 40
    assert [name for name in names if explanation(name) is None] == []


@pytest.mark.parametrize(
    ("name", "proves"),
    [
        ("ecdsa quote signature", "genuine TDX machine"),
        ("ed25519 signature", "has signed the two hashes"),
        ("ecdsa 2 GPU nonce", "GPU evidence"),
        ("ecdsa nonce", "after the nonce was chosen"),
        ("certificate", "guest agent"),
        ("certificate RTMR3", "measured since"),
    ],
)
def test_explanation_is_chosen_by_the_longest_matching_check_name(name: str, proves: str) -> None:
    found = explanation(name)
    assert found is not None
    assert proves in found.proves


def test_explanation_of_an_unknown_check_name_is_none() -> None:
    assert explanation("ecdsa noncenonce") is None
    assert explanation("") is None
