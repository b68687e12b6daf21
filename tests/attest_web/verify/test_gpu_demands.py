"""What a verifier can demand of GPUs, and what is warned of."""

import json
from typing import Any

import pytest

from attest_web.verify.audit import CANNED_GPU, UNBOUND_GPU, UNVERIFIED_GPU
from attest_web.verify.nvidia.evidence import CANNED_NONCE, GpuDemand
from attest_web.verify.nvidia.tokens import Verdict
from attest_web.verify.primitives.checks import Status
from tests.attest_web.verify.auditing import audit, rejecting, silent, status, vouching, wrong
from tests.attest_web.verify.minting import (
    ALGOS,
    DSTACK_VECTORS,
    GPU_POLICY_HASH,
    boot_log,
    event_log,
    evidence,
    gpu_payload,
    report,
)


def test_canned_gpu_evidence_is_allowed_only_by_the_canned_demand_and_never_passes() -> None:
    canned = report(canned_gpu=True), report("ed25519", canned_gpu=True)
    found = audit(*canned, gpu=GpuDemand.CANNED, ask_nvidia=None)
    assert found.ok
    assert status(found, "ecdsa GPU evidence") is Status.NOT_MADE
    assert found.warnings
    neither = report(nvidia_payload=gpu_payload(evidence_nonce=b"\7" * 32))
    assert not audit(neither, report("ed25519"), gpu=GpuDemand.CANNED, ask_nvidia=None).ok


@pytest.mark.parametrize("demand", [GpuDemand.REQUIRED, GpuDemand.BOUND, GpuDemand.UNVERIFIED])
def test_canned_evidence_stays_canned_for_a_report_with_its_own_nonce(demand: GpuDemand) -> None:
    canned = [report(algo, nonce=CANNED_NONCE) for algo in ALGOS]
    about = evidence(*canned, nonce=CANNED_NONCE)
    found = audit(*canned, about=about, gpu=demand)
    assert {status(found, f"{algo} GPU evidence") for algo in ALGOS} == {Status.FAILED}
    assert not found.ok
    for ask in (None, vouching):
        allowed = audit(*canned, about=about, gpu=GpuDemand.CANNED, ask_nvidia=ask)
        assert allowed.ok
        assert {status(allowed, f"{algo} GPU evidence") for algo in ALGOS} == {Status.NOT_MADE}
        assert CANNED_GPU in allowed.warnings


def test_unbound_gpu_warning_is_given_with_the_canned_demand_and_a_verdict() -> None:
    assert UNBOUND_GPU in audit(gpu=GpuDemand.CANNED).warnings
    assert UNBOUND_GPU not in audit(gpu=GpuDemand.CANNED, ask_nvidia=None).warnings
    alone = evidence(bound_report(), bodies=None, signatures=[])
    bound = audit(bound_report(), about=alone, **(BOUND | {"gpu": GpuDemand.CANNED}))
    assert bound.ok
    assert UNBOUND_GPU not in bound.warnings


def test_evidence_without_nvidias_verdict_is_no_pass_where_gpus_are_required() -> None:
    # Its nonces are right, and no GPU has signed anything.
    found = audit(ask_nvidia=None)
    told = {f"{algo} {what}" for algo in ALGOS for what in ("GPU evidence", "NVIDIA verdict")}
    assert wrong(found) == told
    assert status(found, "ecdsa NVIDIA verdict") is Status.NOT_MADE
    assert status(found, "ecdsa GPU evidence") is Status.NOT_MADE
    details = {check.detail for check in found.checks if check.name.endswith("NVIDIA verdict")}
    assert details == {"--nvidia asks NVIDIA for it; --gpu unverified skips it"}


def test_gpu_evidence_status_follows_nvidias_verdict() -> None:
    for ask, verdict, gpu_evidence in (
        (vouching, Status.PASSED, Status.PASSED),
        (rejecting, Status.FAILED, Status.NOT_MADE),
        (silent, Status.NOT_MADE, Status.NOT_MADE),
    ):
        found = audit(ask_nvidia=ask)
        assert status(found, "ecdsa NVIDIA verdict") is verdict
        assert status(found, "ecdsa GPU evidence") is gpu_evidence
        assert found.ok is (verdict is Status.PASSED)


@pytest.mark.parametrize("demand", [GpuDemand.UNVERIFIED, GpuDemand.CANNED])
def test_unverified_gpu_evidence_is_allowed_only_by_its_demand_and_never_passes(demand: GpuDemand) -> None:
    found = audit(ask_nvidia=None, gpu=demand)
    assert found.ok
    assert status(found, "ecdsa GPU evidence") is Status.NOT_MADE
    assert status(found, "ecdsa NVIDIA verdict") is Status.NOT_MADE
    assert UNVERIFIED_GPU in found.warnings
    for payload in (gpu_payload(b"\7" * 32), gpu_payload(evidence_nonce=b"\7" * 32)):
        bent = report(nvidia_payload=payload)
        assert "ecdsa GPU evidence" in wrong(audit(bent, report("ed25519"), ask_nvidia=None, gpu=demand))
    canned = report(canned_gpu=True), report("ed25519", canned_gpu=True)
    assert audit(*canned, ask_nvidia=None, gpu=demand).ok is (demand is GpuDemand.CANNED)


def test_without_gpus_their_checks_are_not_made() -> None:
    without = report(nvidia_payload=None), report("ed25519", nvidia_payload=None)
    assert not audit(*without).ok
    assert audit(*without, gpu=GpuDemand.NONE).ok


GPU_INFO: str = DSTACK_VECTORS["gpu"]["gpu_info_attestation"]
GPU_ATTESTATION = DSTACK_VECTORS["gpu"]["gpu_attestation_event_payload_utf8"].encode()
UEIDS = frozenset(claim["ueid"] for claim in json.loads(GPU_INFO)["claims"])
BOUND: dict[str, Any] = {"ask_nvidia": lambda _payload, _nonce: Verdict(UEIDS), "gpu": GpuDemand.BOUND}


def bound_report(**more: Any) -> dict[str, Any]:
    """A report of a guest that has attested its GPU at boot."""
    events = event_log(boot_log(gpu_attestation=GPU_ATTESTATION))
    return report(**({"events": events, "gpu_info": GPU_INFO, "nvidia_payload": gpu_payload(gpus=1)} | more))


def test_gpus_attested_at_boot_are_bound_to_the_guest() -> None:
    alone = evidence(bound_report(), bodies=None, signatures=[])
    for demand in (GpuDemand.BOUND, GpuDemand.REQUIRED):
        found = audit(bound_report(), about=alone, **(BOUND | {"gpu": demand}))
        assert found.ok
        assert UNBOUND_GPU not in found.warnings
        for name in ("GPU attested at boot", "GPU boot evidence", "GPU identity", "GPU policy"):
            assert status(found, f"ecdsa {name}") is Status.PASSED


@pytest.mark.parametrize(
    ("told", "lie"),
    [
        ({"GPU attested at boot"}, {"nvidia_payload": gpu_payload(gpus=2)}),
        ({"GPU boot evidence", "GPU identity"}, {"gpu_info": GPU_INFO + " "}),
        ({"GPU boot evidence", "GPU identity"}, {"gpu_info": None}),
        ({"GPU attested at boot", "GPU boot evidence", "GPU identity"}, {"events": event_log()}),
        (
            {"GPU attested at boot"},
            {
                "events": event_log(
                    boot_log(gpu_attestation=GPU_ATTESTATION.replace(b'devtools":false', b'devtools":true'))
                )
            },
        ),
    ],
)
def test_gpus_that_are_not_bound_to_the_guest_are_warned_of(told: set[str], lie: dict[str, Any]) -> None:
    made = bound_report(**lie)
    found = audit(made, about=evidence(made, bodies=None, signatures=[]), **BOUND)
    assert wrong(found) == {f"ecdsa {name}" for name in told}
    assert (UNBOUND_GPU in found.warnings) is ("GPU identity" in told)


def test_another_gpu_than_the_guests_fails() -> None:
    made = bound_report()
    other = BOUND | {"ask_nvidia": vouching}
    found = audit(made, about=evidence(made, bodies=None, signatures=[]), **other)
    assert wrong(found) == {"ecdsa GPU identity"}
    assert UNBOUND_GPU in found.warnings


def test_expected_gpu_policy_hash_is_compared_with_the_measured_one() -> None:
    policy = frozenset({GPU_POLICY_HASH})
    assert audit(gpu_policy_hashes=policy).ok
    assert wrong(audit(gpu_policy_hashes=frozenset({b"\7" * 32}))) == {"ecdsa GPU policy", "ed25519 GPU policy"}
    without = report(events=event_log(boot_log(gpu_policy_hash=None)))
    assert audit(without, report("ed25519")).ok
    found = audit(without, report("ed25519"), gpu_policy_hashes=policy)
    assert wrong(found) == {"ecdsa GPU policy"}
