"""What reports are checked against: the verifier's policy, and the key, nonce and TLS keys of one report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attest_web.verify.collateral import TCB_UP_TO_DATE, QuoteVerifier
from attest_web.verify.dstack.event_log import RUNTIME_REGISTER
from attest_web.verify.nvidia.evidence import GpuDemand, GpuPayload
from attest_web.verify.nvidia.tokens import Verdict


@dataclass(frozen=True)
class Policy:
    """What a verifier requires of every report.

    Attributes:
        verify_quote: Checks the origin of the quote.
        allowed_tcb: The accepted TCB statuses.
        compose_hash: The accepted SHA-256 of the compose file; None accepts any.
        mrtd: The accepted MRTD, 48 bytes; None accepts any.
        rtmrs: The accepted values of registers by their number, 48 bytes each; a register that is missing may have
            any value.
        os_image_hashes: Accepted hashes of dstack images, 32 bytes each; an empty collection accepts any.
        app_ids: Accepted ids of the app at its KMS, which gives keys by app id, 20 bytes each; an empty collection
            accepts any.
        key_providers: Ids of the accepted key providers, or the SHA-256 of them; where it is empty, the measured
            compose document may name one.
        kms_roots: Root keys of the KMSes that may have issued the signing keys, 33 bytes each; not checked if empty.
        require_mr_config_id: Whether MRCONFIGID must be set.
        allow_dev: Whether reports on the keys of a development run are accepted.
        gpu: The required GPU evidence.
        gpu_policy_hashes: Hashes of the accepted policies for the attestation of GPUs at boot, 32 bytes each; an empty
            collection accepts any.
        ask_nvidia: Returns NVIDIA's verdict on GPU evidence for a nonce; raises `FailedError` if the evidence is
            invalid, `NotMadeError` if there is no verdict. None if NVIDIA's service is not to be queried.
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
        """Whether the guest image is pinned, by its hash or by MRTD and RTMR0 to RTMR2."""
        known = self.mrtd is not None and all(register in self.rtmrs for register in range(RUNTIME_REGISTER))
        return known or bool(self.os_image_hashes)


@dataclass(frozen=True)
class Expected:
    """The key, nonce and TLS key that a report must be about.

    Attributes:
        signers: Addresses, one of which must be attested; None where there is no signature to compare with.
        nonce: 32 bytes that it must have been made with; None where the verifier has chosen none.
        tls_keys: SHA-256 of the SPKI of every certificate that the server has shown; None where that is not checked.
    """

    signers: frozenset[bytes] | None = None
    nonce: bytes | None = None
    tls_keys: frozenset[bytes] | None = None
