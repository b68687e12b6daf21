"""The policy of a verifying client, with the names of `tee-verify`'s options."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from attest_web.verify.collateral import (
    INTEL_PCS_URL,
    TCB_STATUSES,
    TCB_UP_TO_DATE,
    DcapVerifier,
    collateral_from_json,
    collateral_from_service,
    root_certificate,
)
from attest_web.verify.dstack.boot_log import APP_ID_BYTES
from attest_web.verify.dstack.event_log import RUNTIME_REGISTER
from attest_web.verify.dstack.kms_chain import ROOT_BYTES
from attest_web.verify.nvidia.evidence import NRAS_URL, GpuDemand
from attest_web.verify.nvidia.keys import NvidiaKeys
from attest_web.verify.nvidia.service import NvidiaService
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.http_client import Origin

MIN_BYTES = 32
"""Shortest accepted id of a key provider, in bytes: a SHA-256."""


def attestation_policy(
    *,
    compose_hash: str | None = None,
    mrtd: str | None = None,
    rtmrs: Mapping[int, str] | None = None,
    os_image_hashes: Collection[str] = (),
    app_ids: Collection[str] = (),
    key_providers: Collection[str] = (),
    kms_roots: Collection[str] = (),
    require_mr_config_id: bool = False,
    allow_tcb_status: Collection[str] = (),
    allow_dev: bool = False,
    gpu: str = "required",
    dev_root: str | Path | None = None,
    collateral: str | Path | None = None,
    pccs_url: str = INTEL_PCS_URL,
    nras_url: str = NRAS_URL,
    nvidia_keys: str | Path | None = None,
    gpu_policy_hashes: Collection[str] = (),
    timeout: float = 60.0,
) -> Policy:
    """Make a policy. By default, Intel's and NVIDIA's verdicts are required; the other arguments pin your deployment.

    Args:
        compose_hash: SHA-256 of the compose file that you have read, in hex.
        mrtd: MRTD of the guest image, 48 bytes in hex.
        rtmrs: RTMR0 to RTMR2 of the guest image, by number, in the same form.
        os_image_hashes: Hashes of the accepted dstack images, in hex: in place of `mrtd` and `rtmrs`.
        app_ids: Accepted ids of the app at its KMS, 20 bytes each in hex.
        key_providers: Ids of the accepted key providers, or the SHA-256 of these, in hex.
        kms_roots: Root keys of the KMSes that may have issued the signing keys, 33 bytes each in hex.
        require_mr_config_id: Whether the host must have stated in MRCONFIGID what is to run.
        allow_tcb_status: TCB statuses to allow besides `UpToDate`.
        allow_dev: Whether keys of a development run are accepted (`DEV=1`); `dev_root` implies it.
        gpu: `required` needs NVIDIA's verdict; `bound` also needs the GPUs to be those that the guest attested at
            boot; `unverified`, `canned` and `none` need less (`tee-verify --help`).
        dev_root: File with a simulator's root, to trust instead of Intel's. It proves nothing about hardware.
        collateral: File with Intel's collateral, in dcap-qvl's JSON; None fetches it.
        pccs_url: Address to fetch it from.
        nras_url: Address of NVIDIA's service.
        nvidia_keys: File with NVIDIA's keys, a JWKS; None fetches them from that service.
        gpu_policy_hashes: Hashes of the accepted policies for the attestation of GPUs at boot, in hex.
        timeout: Seconds that each of these services may take.

    Raises:
        ValueError: An argument is invalid.
        OSError: A file cannot be read.
    """
    root = root_certificate(Path(dev_root).read_bytes()) if dev_root is not None else None
    source = collateral_from_service(pccs_url, timeout)
    if collateral is not None:
        given = _collateral(Path(collateral))
        source = lambda _quote: given  # noqa: E731
    if not set(allow_tcb_status) <= set(TCB_STATUSES):
        raise ValueError(f"allow_tcb_status takes some of {', '.join(TCB_STATUSES)}, not {allow_tcb_status!r}")
    if gpu not in tuple(GpuDemand):
        raise ValueError(f"gpu takes {', '.join(GpuDemand)}, not {gpu!r}")
    demand = GpuDemand(gpu)
    if not set(rtmrs or {}) <= set(range(RUNTIME_REGISTER)):
        raise ValueError("rtmrs has the registers 0 to 2; what the app has measured into RTMR3 is for compose_hash")
    ask_nvidia = None
    if demand.asks_nvidia:
        origin = Origin.parse(nras_url)
        if not (origin.tls or origin.is_loopback):
            raise ValueError("nras_url: NVIDIA's keys come from there too, so it has to be https")
        ask_nvidia = NvidiaService(origin, timeout, _nvidia_keys(nvidia_keys) if nvidia_keys is not None else None)
    return Policy(
        verify_quote=DcapVerifier(source, root),
        allowed_tcb=frozenset({TCB_UP_TO_DATE, *allow_tcb_status}),
        compose_hash=None if compose_hash is None else _bytes(compose_hash, "compose_hash", 32),
        mrtd=None if mrtd is None else _bytes(mrtd, "mrtd", 48),
        rtmrs={register: _bytes(value, f"rtmrs[{register}]", 48) for register, value in (rtmrs or {}).items()},
        os_image_hashes=frozenset(_bytes(each, "os_image_hashes", 32) for each in os_image_hashes),
        app_ids=frozenset(_bytes(each, "app_ids", APP_ID_BYTES) for each in app_ids),
        key_providers=frozenset(_bytes(each, "key_providers") for each in key_providers),
        kms_roots=frozenset(_bytes(each, "kms_roots", ROOT_BYTES) for each in kms_roots),
        require_mr_config_id=require_mr_config_id,
        allow_dev=allow_dev or root is not None,
        gpu=demand,
        gpu_policy_hashes=frozenset(_bytes(each, "gpu_policy_hashes", 32) for each in gpu_policy_hashes),
        ask_nvidia=ask_nvidia,
    )


def _nvidia_keys(path: str | Path) -> NvidiaKeys:
    try:
        return NvidiaKeys.parse(Path(path).read_bytes())
    except FailedError as error:
        raise ValueError(f"{path}: {error}") from None


def _collateral(path: Path) -> Any:
    text = path.read_text()
    try:
        return collateral_from_json(text)
    except ValueError:
        raise ValueError(f"{path} is not collateral in JSON") from None


def _bytes(digits: str, name: str, size: int | None = None) -> bytes:
    try:
        value = bytes.fromhex(digits)
    except (TypeError, ValueError):
        value = b""
    if len(value) < (size or MIN_BYTES) or size not in (None, len(value)):
        raise ValueError(f"{name} takes {f'{2 * size} hex digits' if size is not None else 'hex digits, 64 or more'}")
    return value
