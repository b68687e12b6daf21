"""What reports are checked against: the verifier's policy, and what one report must be about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attest_web.verify.collateral import TCB_UP_TO_DATE, QuoteVerifier
from attest_web.verify.dstack.event_log import RUNTIME_REGISTER
from attest_web.verify.nvidia.evidence import GpuDemand, GpuPayload
from attest_web.verify.nvidia.tokens import Verdict


@dataclass(frozen=True)
class Policy:
    """What a verifier demands of every report.

    Attributes:
        verify_quote: Checks the origin of the quote.
        allowed_tcb: The TCB statuses that will do.
        compose_hash: SHA-256 that the compose file must have; None where any will do.
        mrtd: 48 bytes that MRTD must be; None where any will do.
        rtmrs: 48 bytes that a register must be, by its number; any will do for those that are not there.
        os_image_hashes: Hashes of the dstack images that will do, 32 bytes each; any will do where it is empty.
        app_ids: Ids that the app may have at its KMS, which gives keys by them, 20 bytes each; any will do where it is
            empty.
        key_providers: Ids of the key providers that will do, or the SHA-256 of them; where it is empty, the measured
            compose document may name one.
        kms_roots: Root keys of the KMSes that may have given the signing keys, 33 bytes each; not checked where it is
            empty.
        require_mr_config_id: Whether the host must have said in MRCONFIGID what is to run.
        allow_dev: Whether a report may say that its keys are those of a development run.
        gpu: What GPU evidence there must be.
        gpu_policy_hashes: Policies that may have governed the attestation of GPUs at boot, 32 bytes each; any will do
            where it is empty.
        ask_nvidia: Gives NVIDIA's verdict on GPU evidence for a nonce; raises `FailedError` where it does not hold,
            `NotMadeError` where there is none. None where NVIDIA's service is not to be queried.
    """

    verify_quote: QuoteVerifier
    allowed_tcb: frozenset[str] = frozenset({TCB_UP_TO_DATE})
    compose_hash: bytes | None = None
    mrtd: bytes | None = None
    rtmrs: Mapping[int, bytes] = field(default_factory=dict)
    os_image_hashes: frozenset[bytes] = frozenset()
    app_ids: frozenset[bytes] = frozenset()
    key_providers: frozenset[bytes] = frozenset()
    kms_roots: frozenset[bytes] = frozenset()
    require_mr_config_id: bool = False
    allow_dev: bool = False
    gpu: GpuDemand = GpuDemand.REQUIRED
    gpu_policy_hashes: frozenset[bytes] = frozenset()
    ask_nvidia: Callable[[GpuPayload, bytes], Verdict] | None = None

    @property
    def pins_guest(self) -> bool:
        """Whether the guest image is pinned: what MRTD and RTMR0 to RTMR2 measure before RTMR3 is extended."""
        known = self.mrtd is not None and all(register in self.rtmrs for register in range(RUNTIME_REGISTER))
        return known or bool(self.os_image_hashes)


@dataclass(frozen=True)
class Expected:
    """What a report must be about.

    Attributes:
        signers: Addresses, one of which must be attested; None where there is no signature to compare it with.
        nonce: 32 bytes that it must have been made with; None where the verifier has chosen none.
        tls_keys: SHA-256 of the SPKI of every certificate that the server has shown; None where that is not checked.
    """

    signers: frozenset[bytes] | None = None
    nonce: bytes | None = None
    tls_keys: frozenset[bytes] | None = None
