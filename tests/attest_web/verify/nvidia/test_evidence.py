"""GPU evidence as a report has it: what would be counted, or sent to NVIDIA, as something else than it is."""

import base64
import json
from typing import Any

import pytest

from attest_web.verify.nvidia.evidence import (
    CANNED_NONCE,
    MAX_GPUS,
    GpuDemand,
    GpuPayload,
    check_evidence_nonces,
)
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from tests.attest_web.verify.auditing import audit, wrong
from tests.attest_web.verify.minting import NONCE, gpu_payload, report


def payload(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(gpu_payload()) | more
    return made


def refused(source: object, why: str) -> None:
    with pytest.raises(FailedError, match=why):
        GpuPayload.parse(source if isinstance(source, str) else json.dumps(source))


def test_gpu_payload_evidence_of_each_gpu_is_read() -> None:
    assert GpuPayload.parse(gpu_payload(gpus=3)).evidence_nonces == (NONCE,) * 3
    assert len(GpuPayload.parse(gpu_payload(gpus=MAX_GPUS)).evidence_nonces) == MAX_GPUS


def of_gpus(*nonces: bytes) -> str:
    """A payload for `NONCE` with a GPU of its own for each nonce that one has signed."""
    made = [json.loads(gpu_payload(evidence_nonce=nonce, gpus=len(nonces))) for nonce in nonces]
    return json.dumps(payload(evidence_list=[each["evidence_list"][gpu] for gpu, each in enumerate(made)]))


def test_gpu_payload_nonce_is_read_per_gpu() -> None:
    nonces = tuple(bytes([gpu]) * 32 for gpu in range(4))
    assert GpuPayload.parse(of_gpus(*nonces)).evidence_nonces == nonces


@pytest.mark.parametrize("gpu", range(4))
@pytest.mark.parametrize("demand", GpuDemand)
@pytest.mark.parametrize("at", [0, 31])
def test_gpu_evidence_with_another_nonce_is_refused_for_every_gpu(gpu: int, demand: GpuDemand, at: int) -> None:
    nonces = [NONCE] * 4
    check_evidence_nonces(GpuPayload.parse(of_gpus(*nonces)), NONCE, demand)
    other = bytearray(NONCE)
    other[at] ^= 1
    nonces[gpu] = bytes(other)
    with pytest.raises(FailedError, match=f"GPU {gpu} has evidence for the nonce {other.hex()}"):
        check_evidence_nonces(GpuPayload.parse(of_gpus(*nonces)), NONCE, demand)


@pytest.mark.parametrize("gpu", range(3))
def test_canned_gpu_evidence_among_real_evidence_is_refused_at_every_position(gpu: int) -> None:
    nonces = [NONCE] * 3
    nonces[gpu] = CANNED_NONCE
    mixed = GpuPayload.parse(of_gpus(*nonces))
    with pytest.raises(FailedError, match="canned evidence"):
        check_evidence_nonces(mixed, NONCE, GpuDemand.REQUIRED)
    with pytest.raises(NotMadeError, match="canned evidence"):
        check_evidence_nonces(mixed, NONCE, GpuDemand.CANNED)


def test_gpu_listed_twice_is_refused() -> None:
    first, second = payload()["evidence_list"]
    refused(payload(evidence_list=[first, second, first]), "GPU 2 is also that of another GPU")
    refused(payload(evidence_list=[first, second | {"evidence": first["evidence"]}]), "GPU 1 is also that of")
    refused(payload(evidence_list=[first, second | {"certificate": first["certificate"]}]), "certificate of GPU 1 is")
    twice = json.dumps(payload(evidence_list=[first, first]))
    assert "ecdsa GPU evidence" in wrong(audit(report(nvidia_payload=twice), report("ed25519")))


@pytest.mark.parametrize("listed", [[], None, {}, "[]", [None], [[]], ["e"], [{}]])
def test_empty_or_malformed_gpu_evidence_list_is_refused(listed: object) -> None:
    refused(payload(evidence_list=listed), "evidence")


def test_gpu_evidence_of_too_many_gpus_is_refused() -> None:
    refused(gpu_payload(gpus=MAX_GPUS + 1), f"the evidence of {MAX_GPUS + 1} GPUs")


@pytest.mark.parametrize("name", ["claims_version", "claimsVersion", "Nonce", "options", ""])
def test_gpu_payload_with_unknown_members_is_refused(name: str) -> None:
    refused(payload(**{name: "1.0"}), "other members")


@pytest.mark.parametrize("name", ["certificate", "evidence"])
@pytest.mark.parametrize("value", [None, "", "?", "QR==", " QQ==", "QQ==\n", 7])
def test_gpu_evidence_and_certificate_must_be_canonical_base64(name: str, value: object) -> None:
    first, second = payload()["evidence_list"]
    refused(payload(evidence_list=[first, second | {name: value}]), f"evidence of GPU 1|{name} of GPU 1")


def test_gpu_evidence_without_a_response_is_refused() -> None:
    request = base64.b64encode(b"\x11\xe0\x01\xff" + NONCE + b"\0").decode()
    first = payload()["evidence_list"][0]
    refused(payload(evidence_list=[first | {"evidence": request}]), "not an SPDM request")
