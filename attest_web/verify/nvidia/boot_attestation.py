"""A dstack guest's attestation of its GPUs at boot, compared with the GPUs of the report.

A guest of dstack 0.6 or later that finds NVIDIA GPUs on its own bus has NVIDIA's tool `nvattest` check them, and
requests its keys only if they pass. It measures two events into its boot log:

    gpu-policy-hash    SHA-256 of `requirements.gpu_policy` of its compose document, canonicalised by RFC 8785
    gpu-attestation    {"version":2,"provider":"nvidia","devices":N,"cc_mode":"on","devtools":false,
                       "evidence_sha256":hex}, the SHA-256 of all that `nvattest` printed

A report carries this output as `gpu_info`. Its tokens are not signed: it is trusted because the guest, whose image is
measured, has measured its hash. The GPUs in it are identified by their `ueid`. If NVIDIA's verdict names the same ids,
the GPUs that answered the verifier's nonce are those that the guest has checked before it had any key. A later move of
the GPUs by the host is not detected.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from attest_web.verify.nvidia.claims import check_gpu_claims
from attest_web.verify.nvidia.evidence import MAX_GPUS
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.untrusted_json import (
    JsonObject,
    as_object,
    hex_bytes,
    integer,
    items,
    member,
    parse_object,
    text,
)

EVENT_VERSION = 2
MAX_GPU_INFO = 4 * 1024 * 1024
"""Largest `gpu_info`, in characters. A GPU takes about 6 kB of it."""

_EVENT = "the gpu-attestation event"
_INFO = "gpu_info"
_MEMBERS = ["version", "provider", "devices", "cc_mode", "devtools", "evidence_sha256"]
_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class GpuAttestation:
    """The `gpu-attestation` event of a guest whose GPUs are in confidential-computing mode.

    Attributes:
        devices: How many GPUs the guest has found and checked, 1 to `MAX_GPUS`.
        devtools: Whether one of them is in DevTools mode, in which its memory is not confidential.
        evidence_sha256: SHA-256 of what `nvattest` printed, 32 bytes.
    """

    devices: int
    devtools: bool
    evidence_sha256: bytes

    @classmethod
    def parse(cls, payload: bytes) -> "GpuAttestation":
        """Parse the payload of the event.

        Raises:
            FailedError: It differs in any byte from dstack's encoding, or is of another version.
        """
        event = parse_object(payload, _EVENT)
        if (version := integer(event, "version", _EVENT)) != EVENT_VERSION:
            raise FailedError(f"{_EVENT} is of version {version}, not {EVENT_VERSION}")
        if list(event) != _MEMBERS or _compact(event) != payload:
            raise FailedError(f"{_EVENT} is not of dstack's form")
        if text(event, "provider", _EVENT) != "nvidia":
            raise FailedError(f"{_EVENT} is not about NVIDIA GPUs")
        if text(event, "cc_mode", _EVENT) != "on":
            raise FailedError(f"{_EVENT} says that confidential computing is off")
        devices = integer(event, "devices", _EVENT)
        if not 0 < devices <= MAX_GPUS:
            raise FailedError(f"{_EVENT} is about {devices} GPUs, not 1 to {MAX_GPUS}")
        devtools = member(event, "devtools", _EVENT)
        digest = text(event, "evidence_sha256", _EVENT)
        if not isinstance(devtools, bool) or digest != digest.lower():
            raise FailedError(f"{_EVENT} is not of dstack's form")
        return cls(devices, devtools, hex_bytes(digest, f"'evidence_sha256' of {_EVENT}", 32))


def check_gpu_event(gpu_attestation: bytes | None, gpus: int) -> str:
    """Check that the guest has checked as many GPUs as the report has evidence for; return what was found.

    Args:
        gpu_attestation: Payload of the boot log's `gpu-attestation` event; None where it has none.
        gpus: Number of GPUs with evidence in the report.

    Raises:
        FailedError: It has checked another number, or a GPU was in DevTools mode.
        NotMadeError: There is no such event.
    """
    event = _event(gpu_attestation)
    if event.devtools:
        raise FailedError("a GPU was in DevTools mode when the guest booted, in which its memory is not confidential")
    if event.devices != gpus:
        raise FailedError(f"the guest has checked {event.devices} GPUs at boot, but the report has evidence of {gpus}")
    return f"the guest has checked {gpus} GPU(s) at boot, all in confidential-computing mode"


def check_gpu_info(gpu_attestation: bytes | None, gpu_info: str | None) -> str:
    """Check that `gpu_info` is what the guest has measured; return what was found.

    Args:
        gpu_attestation: Payload of the boot log's `gpu-attestation` event; None where it has none.
        gpu_info: The text in the report, including its last newline; None where it has none.

    Raises:
        FailedError: It is another text.
        NotMadeError: One of the two is not there.
    """
    event = _event(gpu_attestation)
    if gpu_info is None:
        raise NotMadeError("the report has no gpu_info, which identifies the GPUs that the guest has checked at boot")
    if len(gpu_info) > MAX_GPU_INFO:
        raise FailedError(f"gpu_info is longer than {MAX_GPU_INFO} characters")
    try:
        found = hashlib.sha256(gpu_info.encode()).digest()
    except UnicodeEncodeError:  # a lone surrogate
        raise FailedError("gpu_info is not a string of Unicode characters") from None
    if found != event.evidence_sha256:
        raise FailedError(
            f"gpu_info has the SHA-256 {found.hex()}, but the guest has measured {event.evidence_sha256.hex()}"
        )
    return f"gpu_info is what the guest has measured, SHA-256 {found.hex()}"


def check_same_gpus(gpu_attestation: bytes | None, gpu_info: str | None, ueids: frozenset[str] | None) -> str:
    """Check that NVIDIA has verified the same GPUs that the guest has checked at boot; return what was found.

    Args:
        gpu_attestation: Payload of the boot log's `gpu-attestation` event; None where it has none.
        gpu_info: The text in the report; checked by `check_gpu_info`.
        ueids: The GPUs that NVIDIA has verified (`tokens.Verdict`); None without a verdict.

    Raises:
        FailedError: They are other GPUs, or the guest accepted GPUs that do not pass.
        NotMadeError: One of the three is missing.
    """
    check_gpu_info(gpu_attestation, gpu_info)
    at_boot = gpu_info_ueids(gpu_info or "", _event(gpu_attestation).devices)
    if ueids is None:
        raise NotMadeError("NVIDIA has not verified any GPU, so those that answered cannot be identified")
    if at_boot != ueids:
        others = ", ".join(sorted(ueids ^ at_boot))
        raise FailedError(f"the GPUs that answered are not those that the guest has checked at boot: {others}")
    return f"the {len(ueids)} GPU(s) that answered are those that the guest has checked at boot"


def gpu_info_ueids(gpu_info: str, devices: int) -> frozenset[str]:
    """The GPUs that have passed `nvattest`, by the serial numbers of their certificates.

    Args:
        gpu_info: Its output, already checked to be what the guest has measured.
        devices: Number of GPUs that the guest states.

    Raises:
        FailedError: It is malformed, about another number of GPUs, or a GPU has not passed.
    """
    info = parse_object(gpu_info, _INFO)
    if (code := integer(info, "result_code", _INFO)) != 0:
        raise FailedError(f"gpu_info has the result code {code}")
    claims = items(info, "claims", _INFO)
    if len(claims) != devices:
        raise FailedError(f"gpu_info has claims about {len(claims)} GPUs, but the guest has measured {devices}")
    ueids = set()
    for number, claimed in enumerate(claims):
        what = f"claim {number} of gpu_info"
        ueid = check_gpu_claims(as_object(claimed, what), what)
        if ueid in ueids:
            raise FailedError(f"{what} is about a GPU that another claim is about, {ueid}")
        ueids.add(ueid)
    return frozenset(ueids)


def check_gpu_policy(gpu_policy_hash: bytes | None, app_compose: str) -> str:
    """Check that the guest has measured the GPU policy of its compose document; return what was found.

    Args:
        gpu_policy_hash: Payload of the boot log's `gpu-policy-hash` event, 32 bytes; None where it has none.
        app_compose: The compose document, already checked to be what the guest has measured.

    Raises:
        FailedError: It has measured another policy, or the document's is malformed.
        NotMadeError: It has measured none.
    """
    measured = _policy_hash(gpu_policy_hash)
    expected = policy_hash(app_compose)
    if measured != expected:
        raise FailedError(f"the GPU policy of app_compose has the hash {expected.hex()}, not {measured.hex()}")
    return f"{measured.hex()}, the GPU policy of app_compose"


def check_expected_gpu_policy(gpu_policy_hash: bytes | None, expected: Collection[bytes]) -> str:
    """Check that the guest has measured a GPU policy that the verifier expects; return what was found.

    Args:
        gpu_policy_hash: Payload of the boot log's `gpu-policy-hash` event, 32 bytes; None where it has none.
        expected: The accepted hashes, 32 bytes each.

    Raises:
        FailedError: It has measured another one.
        NotMadeError: It has measured none.
    """
    measured = _policy_hash(gpu_policy_hash)
    if measured not in expected:
        raise FailedError(f"the guest has measured the GPU policy {measured.hex()}, which is not an expected one")
    return f"{measured.hex()}, as expected"


def policy_hash(app_compose: str) -> bytes:
    """SHA-256 of the GPU policy of a compose document: its `requirements.gpu_policy`, or `{}` where it has none.

    Raises:
        FailedError: The document is not JSON, or `canonical_policy` rejects its policy.
    """
    requirements = parse_object(app_compose, "app_compose").get("requirements")
    policy = requirements.get("gpu_policy", {}) if isinstance(requirements, dict) else {}
    return hashlib.sha256(canonical_policy(policy)).digest()


def canonical_policy(policy: object) -> bytes:
    """A GPU policy in the JSON Canonicalization Scheme (RFC 8785).

    dstack's policies are flat, so this accepts null, or an object with ASCII names whose members are strings, booleans,
    nulls, or integers of at most 53 bits. It rejects nesting, and fractions, whose canonical form is ECMAScript's.

    Raises:
        FailedError: It is something else.
    """
    if policy is None:
        return b"null"
    for name, value in as_object(policy, "the GPU policy").items():
        known = (
            value is None
            or isinstance(value, bool | str)
            or (isinstance(value, int) and -_SAFE_INTEGER <= value <= _SAFE_INTEGER)
        )
        if not (name.isascii() and known):
            raise FailedError(f"the GPU policy has a member that dstack's policies do not have, {name!r}")
    try:
        # For ASCII names, the order by code point is the order by UTF-16 code unit (RFC 8785, 3.2.3).
        return json.dumps(policy, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    except UnicodeEncodeError:  # a lone surrogate
        raise FailedError("the GPU policy is not made of Unicode characters") from None


def _event(payload: bytes | None) -> GpuAttestation:
    if payload is None:
        raise NotMadeError("the guest has checked no GPU at boot; dstack does so by default from 0.6 on")
    return GpuAttestation.parse(payload)


def _policy_hash(payload: bytes | None) -> bytes:
    if payload is None:
        raise NotMadeError("the guest has measured no GPU policy; dstack does so from 0.6 on")
    return payload


def _compact(event: JsonObject) -> bytes:
    try:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return b""
