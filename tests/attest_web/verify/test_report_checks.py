"""The checks of the key, the nonce and the TLS key that a report is about, with each half and end bent alone."""

from typing import Any

import pytest

from attest_web.signatures import SigningAlgo
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Expected, Policy
from attest_web.verify.primitives.checks import Status
from attest_web.verify.report import Report
from attest_web.verify.report_checks import check_report
from tests.attest_web.verify.minting import ALGOS, KEYS, NONCE, OTHER_KEYS, SPKI, address, report

QUOTED_DATA = 48 + 520
"""Where report_data begins in a quote: behind the header, at its offset in the body."""


LENIENT = Policy(lambda _: QuoteVerdict("UpToDate"), gpu=GpuDemand.UNVERIFIED)


def failed(shown: dict[str, Any], **expected: Any) -> set[str]:
    algo: SigningAlgo = shown["signing_algo"]
    checks = check_report(algo, Report(shown), Expected(**({"nonce": NONCE} | expected)), LENIENT)
    return {check.name.removeprefix(f"{algo} ") for check in checks if check.status is Status.FAILED}


def with_a_bit_flipped(shown: dict[str, Any], at: int) -> dict[str, Any]:
    """A report whose quote has another bit in a byte of its report_data."""
    quote = bytearray.fromhex(shown["intel_quote"])
    quote[QUOTED_DATA + at] ^= 0x10
    return shown | {"intel_quote": quote.hex()}


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("spki", [None, SPKI], ids=["alone", "with TLS"])
def test_every_byte_of_report_data_is_checked(algo: SigningAlgo, spki: bytes | None) -> None:
    shown = report(algo, spki=spki)
    expected: dict[str, Any] = {"tls_keys": None if spki is None else frozenset({spki})}
    assert failed(shown, **expected) == set()
    bound = {"address bound"} if spki is None else {"address bound", "TLS key"}
    for at in range(32):
        assert failed(with_a_bit_flipped(shown, at), **expected) == bound, at
    for at in range(32, 64):
        assert failed(with_a_bit_flipped(shown, at), **expected) == {"nonce"}, at


@pytest.mark.parametrize("at", [0, 15, 16, 31])
def test_every_byte_of_the_reports_nonce_is_checked(at: int) -> None:
    other = bytearray(NONCE)
    other[at] ^= 0x10
    assert failed(report(request_nonce=other.hex())) == {"nonce"}
    assert failed(report(), nonce=bytes(other)) == {"nonce", "GPU nonce", "GPU evidence"}


@pytest.mark.parametrize(
    "seen",
    [frozenset(), frozenset({SPKI[::-1]}), frozenset({SPKI, SPKI[::-1]})],
    ids=["none", "another", "another as well"],
)
def test_tls_keys_seen_must_all_be_the_attested_one(seen: frozenset[bytes]) -> None:
    assert failed(report(spki=SPKI), tls_keys=frozenset({SPKI})) == set()
    assert failed(report(spki=SPKI), tls_keys=seen) == {"TLS key"}


def test_report_must_be_about_a_key_that_has_signed() -> None:
    ours, other = address(KEYS, "ecdsa"), address(OTHER_KEYS, "ecdsa")
    assert failed(report(), signers=frozenset({other, ours})) == set()
    assert failed(report(), signers=frozenset({other})) == {"key attested"}


@pytest.mark.parametrize("claim", [True, 1, 0, "", "false", [], {}])
def test_any_dev_member_but_false_marks_a_development_run(claim: object) -> None:
    assert failed(report(dev=claim)) == {"keys"}


def test_report_with_dev_false_passes() -> None:
    assert failed(report(dev=False)) == set()
