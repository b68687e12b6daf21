"""Audits of evidence that holds, and of what tests have bent of it."""

from typing import Any

from attest_web.verify.audit import Audit, check_evidence
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.evidence import Evidence
from attest_web.verify.nvidia.evidence import GpuPayload
from attest_web.verify.nvidia.tokens import Verdict
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import FailedError, NotMadeError, Status
from tests.attest_web.verify.minting import QuoteBook, evidence, report


def vouching(payload: GpuPayload, nonce: bytes) -> Verdict:
    """NVIDIA, where it vouches for the GPUs."""
    return Verdict(frozenset(str(gpu) for gpu in range(len(payload.evidence_nonces))))


def rejecting(payload: GpuPayload, nonce: bytes) -> Verdict:
    raise FailedError("NVIDIA does not vouch for it")


def silent(payload: GpuPayload, nonce: bytes) -> Verdict:
    raise NotMadeError("there is no verdict")


def audit(*reports: dict[str, Any], about: Evidence | None = None, verdict: str = "UpToDate", **policy: Any) -> Audit:
    shown = reports or (report("ecdsa"), report("ed25519"))
    book = QuoteBook(*shown, verdict=QuoteVerdict(verdict))
    demands: dict[str, Any] = {"verify_quote": book, "ask_nvidia": vouching}
    return check_evidence(about or evidence(*shown), Policy(**(demands | policy)))


def wrong(found: Audit) -> set[str]:
    return {check.name for check in found.checks if not check.holds}


def status(found: Audit, name: str) -> Status:
    (check,) = (check for check in found.checks if check.name == name)
    return check.status
