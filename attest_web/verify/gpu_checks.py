"""The checks of a report's GPUs: that their evidence is fresh, and that they are those of the attested guest."""

from collections.abc import Callable

from attest_web.verify.dstack.compose import check_compose
from attest_web.verify.guest_checks import boot_log
from attest_web.verify.nvidia import boot_attestation, evidence
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.nvidia.tokens import Verdict
from attest_web.verify.policy import Expected, Policy
from attest_web.verify.primitives.checks import Check, NotAskedError, NotMadeError, Status, make, not_asked
from attest_web.verify.report import Report

NAMES = ("GPU nonce", "GPU evidence", "NVIDIA verdict", "GPU attested at boot", "GPU boot evidence", "GPU identity")
"""Last words of the names of the checks, except that of the GPU policy."""

IDENTITY = NAMES[-1]


def gpu_checks(name: str, report: Report, expected: Expected, policy: Policy) -> list[Check]:
    """Make the checks of the GPUs.

    Args:
        name: First word of their names.
        report: The report.
        expected: What it must be about.
        policy: What the verifier requires.
    """
    if policy.gpu is GpuDemand.NONE:
        checks = [not_asked(f"{name} {each}", "not asked for (--gpu none)") for each in NAMES]
    else:
        checks = _Gpus(report, expected, policy).checks(name)
    return [*checks, make(f"{name} GPU policy", lambda: _check_policy(report, policy))]


class _Gpus:
    """The checks of a report's GPUs; later ones depend on the outcome of earlier ones."""

    def __init__(self, report: Report, expected: Expected, policy: Policy) -> None:
        self._report = report
        self._expected = expected
        self._policy = policy
        self._strict = policy.gpu.asks_nvidia
        self._verdict: Verdict | None = None

    def checks(self, name: str) -> list[Check]:
        nonce = make(f"{name} {NAMES[0]}", lambda: evidence.check_payload_nonce(self._report.gpu_payload, self._nonce))
        verdict = make(f"{name} {NAMES[2]}", self._ask_nvidia)
        return [
            nonce,
            self._asked(f"{name} {NAMES[1]}", self._check_evidence),
            verdict,
            self._asked(f"{name} {NAMES[3]}", self._check_event),
            self._asked(f"{name} {NAMES[4]}", self._check_boot_evidence),
            self._asked(f"{name} {NAMES[5]}", self._check_identity),
        ]

    def _asked(self, name: str, finding: Callable[[], str]) -> Check:
        """Make a check; where it cannot be made, that counts only if NVIDIA's verdict is required."""
        check = make(name, finding)
        if check.status is Status.NOT_MADE and not self._strict:
            return not_asked(name, check.detail)
        return check

    @property
    def _nonce(self) -> bytes:
        return self._expected.nonce if self._expected.nonce is not None else self._report.nonce

    def _ask_nvidia(self) -> str:
        ask, demand = self._policy.ask_nvidia, self._policy.gpu
        if ask is None and not self._strict:
            raise NotAskedError(f"not asked for (--gpu {demand}); --nvidia with --gpu required asks NVIDIA")
        if ask is None:
            raise NotMadeError("--nvidia asks NVIDIA for it; --gpu unverified skips it")
        self._verdict = ask(self._report.gpu_payload, self._nonce)
        return str(self._verdict)

    def _check_evidence(self) -> str:
        found = evidence.check_evidence_nonces(self._report.gpu_payload, self._nonce, self._policy.gpu)
        if self._verdict is None:
            # Evidence can be forged for a known nonce: only NVIDIA's verdict shows that a GPU has signed it.
            raise NotMadeError(f"{'' if self._strict else 'not asked for; '}{found}, but NVIDIA has not verified it")
        return f"{found}, and NVIDIA has verified it"

    def _event(self) -> bytes:
        event = boot_log(self._report).gpu_attestation
        if event is None:
            why = "the guest has attested no GPU at boot: it has none, or its image is older than dstack 0.6"
            raise NotMadeError(why) if self._policy.gpu is GpuDemand.BOUND else NotAskedError(f"{why} (--gpu bound)")
        return event

    def _check_event(self) -> str:
        return boot_attestation.check_gpu_event(self._event(), len(self._report.gpu_payload.evidence_nonces))

    def _check_boot_evidence(self) -> str:
        return boot_attestation.check_gpu_info(self._event(), self._report.gpu_info)

    def _check_identity(self) -> str:
        ueids = self._verdict.ueids if self._verdict is not None else None
        return boot_attestation.check_same_gpus(self._event(), self._report.gpu_info, ueids)


def _check_policy(report: Report, policy: Policy) -> str:
    boot = boot_log(report)
    if boot.gpu_policy_hash is None and not policy.gpu_policy_hashes:
        raise NotAskedError("the guest's boot log has no GPU policy: older images do not measure it")
    check_compose(boot.compose_hash, report.app_compose, None)
    found = boot_attestation.check_gpu_policy(boot.gpu_policy_hash, report.app_compose)
    if policy.gpu_policy_hashes:
        return boot_attestation.check_expected_gpu_policy(boot.gpu_policy_hash, policy.gpu_policy_hashes)
    return found
