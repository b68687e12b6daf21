"""All checks of a body of evidence, including the checks across its parts."""

import contextlib
import datetime
from collections import defaultdict
from dataclasses import dataclass, field

from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.dstack.boot_log import KeyProviderKind
from attest_web.verify.evidence import Evidence
from attest_web.verify.gpu_checks import IDENTITY
from attest_web.verify.guest_checks import boot_log
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Expected, Policy
from attest_web.verify.primitives.checks import Check, FailedError, Status, all_hold, not_asked
from attest_web.verify.report import Report
from attest_web.verify.report_checks import check_report
from attest_web.verify.signed_text import SignatureAnswer, check_signature, shown_address

CANNED_GPU = "NVIDIA's canned GPU evidence was accepted (--gpu canned): this proves nothing about any GPU"
UNPINNED_GUEST = (
    "no guest image was pinned, so another one could claim this compose file (--expect-os-image-hash, or --expect-mrtd,"
    " --expect-rtmr0, --expect-rtmr1 and --expect-rtmr2)"
)
UNPINNED_COMPOSE = (
    "no compose file was pinned, so any app would have passed: read app_compose in the report, and then pin"
    " its hash (--expect-compose-hash)"
)
UNPINNED_KEY_PROVIDER = (
    "no key provider was pinned, so the host may run the KMS and know the signing keys (--expect-key-provider, or"
    " key_provider_id in the compose file)"
)
UNPINNED_APP = (
    "no app id was pinned, and a KMS gives keys by app id: the owner of another app id could run this compose file"
    " under it, and then print its keys with another file (--expect-app-id)"
)
UNUSUAL_ATTRIBUTES = "the TD has attributes that dstack does not set: {}"
UNBOUND_GPU = (
    "the GPUs that answered are not bound to this guest, so they may be anywhere: dstack's images attest their GPUs"
    " at boot from 0.6 on (--gpu bound requires it)"
)
UNVERIFIED_GPU = "NVIDIA did not verify the GPU evidence (no --nvidia): such evidence can be forged for this nonce"
DEV_ROOT = "the quotes were checked against --dev-root: this proves nothing about real hardware"
AS_OF = (
    "checked as of {}, because of --at: what was revoked, expired or found broken since is not detected. Nothing here"
    " proves that the evidence is that old: with a key that has leaked since, it could have been made today"
)
DEV_KEYS = "the report says that its keys are random keys of a development run (DEV=1): no attestation covers them"


@dataclass
class Audit:
    """The outcome of the checks.

    Attributes:
        checks: In the order in which they were made.
        warnings: Open points that the reader of the outcome must know, one line each.
        as_of: The time in UTC for which the checks were made (`--at`); None where it is the present.
    """

    checks: list[Check] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    as_of: datetime.datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether every requested check holds."""
        return all_hold(self.checks)

    def warn(self, warning: str) -> None:
        """Add a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)


def check_evidence(evidence: Evidence, policy: Policy) -> Audit:
    """Make all checks of the evidence; nothing in it raises an exception."""
    audit = Audit()
    signers = _check_signatures(evidence, audit)
    attested = _check_reports(evidence, signers, policy, audit)
    _check_all_attested(evidence, signers, attested, audit)
    return audit


_Addresses = dict[SigningAlgo, set[bytes]]


def _check_signatures(evidence: Evidence, audit: Audit) -> _Addresses:
    signers: _Addresses = defaultdict(set)
    texts: set[str] = set()
    names = _Names()
    for number, statement in enumerate(evidence.signatures, 1):
        name = statement.algo or f"signature {number}"
        try:
            answer = SignatureAnswer.parse(statement.body)
            if statement.algo not in (None, answer.algo):
                raise FailedError(f"an {statement.algo} signature was requested, but it is an {answer.algo} one")
            if evidence.bodies is None:
                raise FailedError("there are no request and response to check it against")
        except FailedError as error:
            audit.checks.append(Check(f"{name} signature", Status.FAILED, str(error)))
            continue
        audit.checks += check_signature(names.next(answer.algo), answer, evidence.bodies)
        signers[answer.algo].add(answer.address)
        texts.add(answer.text)
    if len(texts) > 1:
        detail = f"the signatures of one exchange are over different texts: {', '.join(map(repr, sorted(texts)))}"
        audit.checks.append(Check("signed text", Status.FAILED, detail))
    for algo, addresses in signers.items():
        if len(addresses) > 1:
            shown = ", ".join(shown_address(algo, address) for address in sorted(addresses))
            detail = f"the {algo} signatures of one exchange are by different keys: {shown}"
            audit.checks.append(Check(f"{algo} signer", Status.FAILED, detail))
    if signers and all(statement.algo is None for statement in evidence.signatures):
        audit.checks += [
            not_asked(f"{algo} signature", f"no --signature is an {algo} one")
            for algo in SIGNING_ALGOS
            if algo not in signers
        ]
    return signers


def _check_reports(evidence: Evidence, signers: _Addresses, policy: Policy, audit: Audit) -> _Addresses:
    attested: _Addresses = defaultdict(set)
    names = _Names()
    for number, statement in enumerate(evidence.reports, 1):
        name = statement.algo or f"report {number}"
        try:
            report = Report.parse(statement.body)
            if statement.algo not in (None, report.algo):
                raise FailedError(f"a report about an {statement.algo} key was requested, this is about {report.algo}")
        except FailedError as error:
            audit.checks.append(Check(f"{name} report", Status.FAILED, str(error)))
            continue
        expected = Expected(
            signers=frozenset(signers.get(report.algo, ())) if evidence.bodies is not None else None,
            nonce=evidence.nonce,
            tls_keys=evidence.tls_keys,
        )
        checks = check_report(names.next(report.algo), report, expected, policy)
        audit.checks += checks
        _warn_of_open_points(checks, report, policy, audit)
        if report.dev:
            audit.warn(DEV_KEYS)
        if policy.gpu is GpuDemand.CANNED and report.holds_canned_evidence:
            audit.warn(CANNED_GPU)
        elif policy.gpu in (GpuDemand.UNVERIFIED, GpuDemand.CANNED) and policy.ask_nvidia is None:
            audit.warn(UNVERIFIED_GPU)
        if checks[0].status is Status.PASSED:
            attested[report.algo].add(report.address)
    return attested


def _warn_of_open_points(checks: list[Check], report: Report, policy: Policy, audit: Audit) -> None:
    if not policy.pins_guest:
        audit.warn(UNPINNED_GUEST)
    if policy.compose_hash is None:
        audit.warn(UNPINNED_COMPOSE)
    passed = {check.name for check in checks if check.status is Status.PASSED}
    makes_keys_itself = _makes_keys_itself(report)
    # A compose file that is not pinned may name any provider.
    names_provider = policy.key_providers or policy.compose_hash is not None or makes_keys_itself
    if not names_provider or not any(name.endswith(" key provider") for name in passed):
        audit.warn(UNPINNED_KEY_PROVIDER)
    if not policy.app_ids and not makes_keys_itself:
        audit.warn(UNPINNED_APP)
    asked_nvidia = policy.gpu.asks_nvidia or policy.ask_nvidia is not None
    if asked_nvidia and not any(name.endswith(f" {IDENTITY}") for name in passed):
        audit.warn(UNBOUND_GPU)
    with contextlib.suppress(FailedError):  # an unreadable part has failed its own check already
        if not report.quote.has_usual_attributes:
            audit.warn(UNUSUAL_ATTRIBUTES.format(report.quote.td_attributes.hex()))


def _makes_keys_itself(report: Report) -> bool:
    try:
        return boot_log(report).key_provider.kind is KeyProviderKind.NONE
    except FailedError:
        return False


def _check_all_attested(evidence: Evidence, signers: _Addresses, attested: _Addresses, audit: Audit) -> None:
    if not evidence.reports and not evidence.attestation_asked:
        why = "no --report: the signing key is known, but not where it is held"
        audit.checks.append(not_asked("attestation", why))
        return
    for algo, addresses in signers.items():
        for address in sorted(addresses - attested.get(algo, set())):
            made = [check for check in audit.checks if check.name.startswith(f"{algo} ") and _is_key_attested(check)]
            if any(check.status is Status.FAILED for check in made):
                break  # a report about another key has failed already, because this key has no report
            name = algo if not made else f"{algo} {len(made) + 1}"
            detail = f"there is no report about {shown_address(algo, address)}"
            audit.checks.append(Check(f"{name} key attested", Status.NOT_MADE, detail))


def _is_key_attested(check: Check) -> bool:
    return check.name.endswith(" key attested")


class _Names:
    """First words of the names of checks: the algorithm, with a number where it occurs more than once."""

    def __init__(self) -> None:
        self._used: dict[SigningAlgo, int] = defaultdict(int)

    def next(self, algo: SigningAlgo) -> str:
        self._used[algo] += 1
        return algo if self._used[algo] == 1 else f"{algo} {self._used[algo]}"
