"""GPU evidence: that it was made for this nonce.

The evidence is an SPDM exchange (DMTF DSP0274, 10.11): the GET_MEASUREMENTS request, whose nonce the GPU signs together
with its measurements, and the GPU's answer. Only the nonce is read here; signature and measurements are NVIDIA's to
judge.
"""

from dataclasses import dataclass
from enum import StrEnum

from attest_web.spdm import evidence_nonce
from attest_web.verify.checks import FailedError, NotMadeError
from attest_web.verify.untrusted_json import as_object, hex_bytes, items, parse_object, text

NRAS_URL = "https://nras.attestation.nvidia.com/v3/attest/gpu"

CANNED_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
"""The nonce in the canned evidence that NVIDIA's library gives where there is no GPU (`GPU_NO_HW_MODE`)."""

MAX_GPUS = 64


class GpuDemand(StrEnum):
    """What GPU evidence a report must have."""

    REQUIRED = "required"
    BOUND = "bound"
    UNVERIFIED = "unverified"
    CANNED = "canned"
    NONE = "none"

    @property
    def asks_nvidia(self) -> bool:
        """Whether NVIDIA must vouch for the GPUs."""
        return self in (GpuDemand.REQUIRED, GpuDemand.BOUND)


@dataclass(frozen=True)
class GpuPayload:
    """`nvidia_payload` of a report.

    Attributes:
        text: The JSON text itself, as NRAS takes it.
        nonce: 32 bytes that it says it was made with.
        evidence_nonces: 32 bytes for each GPU, from the request that its evidence answers.
    """

    text: str
    nonce: bytes
    evidence_nonces: tuple[bytes, ...]

    @classmethod
    def parse(cls, payload: str) -> "GpuPayload":
        """Read a payload.

        Raises:
            FailedError: It is malformed, or has no evidence in it.
        """
        source = parse_object(payload, "nvidia_payload")
        evidence = items(source, "evidence_list", "nvidia_payload")
        if not 0 < len(evidence) <= MAX_GPUS:
            raise FailedError(f"nvidia_payload has the evidence of {len(evidence)} GPUs, not of 1 to {MAX_GPUS}")
        return cls(
            text=payload,
            nonce=hex_bytes(text(source, "nonce", "nvidia_payload"), "the nonce of nvidia_payload", 32),
            evidence_nonces=tuple(_evidence_nonce(item, f"the evidence of GPU {n}") for n, item in enumerate(evidence)),
        )


def check_payload_nonce(payload: GpuPayload, nonce: bytes) -> str:
    """Check that the payload says it was made with a nonce; return what was found.

    Raises:
        FailedError: It was made with another one.
    """
    if payload.nonce != nonce:
        raise FailedError(f"nvidia_payload was made with the nonce {payload.nonce.hex()}, not {nonce.hex()}")
    return f"nvidia_payload says that it was made with {nonce.hex()}"


def check_evidence_nonces(payload: GpuPayload, nonce: bytes, demand: GpuDemand) -> str:
    """Check that the evidence of every GPU carries a nonce; return what was found.

    Anybody can write such evidence: that a GPU has signed the nonce is NVIDIA's to say, see `tokens.check_verdict`.

    Raises:
        FailedError: One carries another one.
        NotMadeError: It is NVIDIA's canned evidence, and the verifier has said that it will do.
    """
    for number, asked_with in enumerate(payload.evidence_nonces):
        # Canned evidence stays canned where a report was asked for with its very nonce.
        if asked_with == CANNED_NONCE and demand is not GpuDemand.CANNED:
            raise FailedError(
                "this is NVIDIA's canned evidence (GPU_NO_HW_MODE), which no GPU has made; --gpu canned lets it pass"
            )
        if asked_with not in (nonce, CANNED_NONCE):
            raise FailedError(f"GPU {number} has evidence for the nonce {asked_with.hex()}, not {nonce.hex()}")
    if CANNED_NONCE in payload.evidence_nonces:
        raise NotMadeError("NVIDIA's canned evidence, which says nothing about any GPU (--gpu canned)")
    return f"the evidence of {len(payload.evidence_nonces)} GPU(s) carries {nonce.hex()}"


def _evidence_nonce(item: object, what: str) -> bytes:
    source = as_object(item, what)
    try:
        return evidence_nonce(text(source, "evidence", what))
    except ValueError:
        raise FailedError(f"{what} is not an SPDM request for measurements with its response, in base64") from None
