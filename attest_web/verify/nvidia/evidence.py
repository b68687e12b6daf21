"""GPU evidence: the check that it was made for this nonce.

The evidence is an SPDM exchange (DMTF DSP0274, 10.11): the GET_MEASUREMENTS request, whose nonce the GPU signs together
with its measurements, and the GPU's response. Only the nonce is read here; NVIDIA's service checks the signature and
the measurements.
"""

from dataclasses import dataclass
from enum import StrEnum

from attest_web.gpu.spdm import evidence_nonce
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.untrusted_json import (
    JsonObject,
    as_object,
    base64_bytes,
    hex_bytes,
    items,
    parse_object,
    text,
)

NRAS_URL = "https://nras.attestation.nvidia.com/v3/attest/gpu"

CANNED_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
"""The nonce in the canned evidence that NVIDIA's library returns without a GPU (`GPU_NO_HW_MODE`)."""

MAX_GPUS = 64

_WHAT = "nvidia_payload"
_MEMBERS = frozenset({"nonce", "evidence_list", "arch"})


class GpuDemand(StrEnum):
    """The GPU evidence that a report must have."""

    REQUIRED = "required"
    BOUND = "bound"
    UNVERIFIED = "unverified"
    CANNED = "canned"
    NONE = "none"

    @property
    def asks_nvidia(self) -> bool:
        """Whether NVIDIA's verdict on the GPUs is required."""
        return self in (GpuDemand.REQUIRED, GpuDemand.BOUND)


@dataclass(frozen=True)
class GpuPayload:
    """`nvidia_payload` of a report.

    Attributes:
        text: The JSON text itself, in the format of NRAS requests.
        nonce: The nonce that it states, 32 bytes.
        evidence_nonces: 32 bytes for each GPU, from the request that its evidence answers.
    """

    text: str
    nonce: bytes
    evidence_nonces: tuple[bytes, ...]

    @classmethod
    def parse(cls, payload: str) -> "GpuPayload":
        """Parse a payload.

        Raises:
            FailedError: It is malformed, has no evidence, or has one GPU twice.
        """
        source = parse_object(payload, _WHAT)
        if not source.keys() <= _MEMBERS:
            # It is sent unchanged to NVIDIA's service, where further members could change the checks.
            raise FailedError(f"{_WHAT} has other members than {', '.join(sorted(_MEMBERS))}")
        listed = [
            as_object(each, f"the evidence of GPU {n}") for n, each in enumerate(items(source, "evidence_list", _WHAT))
        ]
        if not 0 < len(listed) <= MAX_GPUS:
            raise FailedError(f"{_WHAT} has the evidence of {len(listed)} GPUs, not of 1 to {MAX_GPUS}")
        _check_each_is_its_own(listed, "evidence")
        _check_each_is_its_own(listed, "certificate")
        return cls(
            text=payload,
            nonce=hex_bytes(text(source, "nonce", _WHAT), f"the nonce of {_WHAT}", 32),
            evidence_nonces=tuple(_evidence_nonce(each, f"the evidence of GPU {n}") for n, each in enumerate(listed)),
        )


def check_payload_nonce(payload: GpuPayload, nonce: bytes) -> str:
    """Check that the payload states a nonce; return what was found.

    Raises:
        FailedError: It states another one.
    """
    if payload.nonce != nonce:
        raise FailedError(f"nvidia_payload was made with the nonce {payload.nonce.hex()}, not {nonce.hex()}")
    return f"nvidia_payload says that it was made with {nonce.hex()}"


def check_evidence_nonces(payload: GpuPayload, nonce: bytes, demand: GpuDemand) -> str:
    """Check that the evidence of every GPU carries a nonce; return what was found.

    Such evidence can be forged: only NVIDIA's verdict shows that a GPU has signed it, see `tokens.check_verdict`.

    Raises:
        FailedError: A GPU's evidence carries another one.
        NotMadeError: It is NVIDIA's canned evidence, and the verifier accepts that.
    """
    for number, asked_with in enumerate(payload.evidence_nonces):
        # Canned evidence is rejected even if the report was requested with the nonce of the canned evidence.
        if asked_with == CANNED_NONCE and demand is not GpuDemand.CANNED:
            raise FailedError(
                "this is NVIDIA's canned evidence (GPU_NO_HW_MODE), which no GPU has made; --gpu canned accepts it"
            )
        if asked_with not in (nonce, CANNED_NONCE):
            raise FailedError(f"GPU {number} has evidence for the nonce {asked_with.hex()}, not {nonce.hex()}")
    if CANNED_NONCE in payload.evidence_nonces:
        raise NotMadeError("NVIDIA's canned evidence, which says nothing about any GPU (--gpu canned)")
    return f"the evidence of {len(payload.evidence_nonces)} GPU(s) carries {nonce.hex()}"


def _check_each_is_its_own(listed: list[JsonObject], name: str) -> None:
    seen: set[bytes] = set()
    for number, source in enumerate(listed):
        what = f"the {name} of GPU {number}"
        value = base64_bytes(text(source, name, f"the evidence of GPU {number}"), what)
        if not value:
            raise FailedError(f"{what} is empty")
        if value in seen:
            raise FailedError(f"{what} is also that of another GPU: one GPU would count twice")
        seen.add(value)


def _evidence_nonce(source: JsonObject, what: str) -> bytes:
    try:
        return evidence_nonce(text(source, "evidence", what))
    except ValueError:
        raise FailedError(f"{what} is not an SPDM request for measurements with its response, in base64") from None
