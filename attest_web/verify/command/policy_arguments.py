"""The arguments of `tee-verify` that define its policy, and the arguments that repeat a run with the same policy."""

import argparse
import re
from collections.abc import Callable

from attest_web.verify.collateral import TCB_STATUSES
from attest_web.verify.dstack.boot_log import APP_ID_BYTES
from attest_web.verify.dstack.kms_chain import ROOT_BYTES
from attest_web.verify.nvidia.evidence import NRAS_URL, GpuDemand

_HASHES = (
    "expect_compose_hash",
    "expect_app_id",
    "expect_os_image_hash",
    "expect_mrtd",
    "expect_rtmr0",
    "expect_rtmr1",
    "expect_rtmr2",
    "expect_key_provider",
    "expect_kms_root",
    "expect_gpu_policy_hash",
)
"""Options that take hex digits, once or several times, by their names in `argparse`."""

POLICY_OPTIONS = (
    *_HASHES,
    "nonce",
    "tls_spki",
    "at",
    "collateral",
    "pccs_url",
    "dev_root",
    "allow_tcb_status",
    "require_mr_config_id",
    "allow_dev",
    "gpu",
    "nvidia",
    "nras_url",
    "nvidia_keys",
    "nvidia_answer",
)
"""Options that apply to reports only, by their names in `argparse`."""

_MAX_PROVIDER_ID = 256
"""Longest id of a key provider, in bytes: a P-256 key is 91, an SGX measurement 32."""


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    _add_quote_options(parser.add_argument_group("requirements on the hardware"))
    _add_guest_options(parser.add_argument_group("requirements on the guest"))
    _add_gpu_options(parser.add_argument_group("requirements on its GPUs"))


def policy_arguments(options: argparse.Namespace) -> list[str]:
    """The arguments that make a run as strict as this one, without those that belong to the evidence.

    These are the nonce, the TLS keys and the collateral; see `collateral_arguments`.
    """
    arguments: list[str] = []
    for name in _HASHES:
        value = getattr(options, name)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                arguments += [flag(name), each.hex()]
    for status in options.allow_tcb_status:
        arguments += ["--allow-tcb-status", status]
    if options.dev_root is not None:
        arguments += ["--dev-root", options.dev_root]
    for name in ("allow_dev", "require_mr_config_id"):
        if getattr(options, name):
            arguments.append(flag(name))
    if options.gpu != GpuDemand.REQUIRED:
        arguments += ["--gpu", options.gpu]
    if options.nvidia:
        arguments += ["--nvidia", "--nras-url", options.nras_url]
    if options.nvidia_keys is not None:
        arguments += ["--nvidia-keys", options.nvidia_keys]
    return arguments


def collateral_arguments(options: argparse.Namespace) -> list[str]:
    """The arguments that name the source of this run's collateral."""
    if options.collateral is not None:
        return ["--collateral", options.collateral]
    return ["--pccs-url", options.pccs_url] if options.pccs_url is not None else []


def flag(name: str) -> str:
    """The option on the command line, from its name in `argparse`."""
    return f"--{name.replace('_', '-')}"


def hex_argument(size: int) -> Callable[[str], bytes]:
    """A type for `argparse`: `size` bytes in hex."""

    def parse(digits: str) -> bytes:
        if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", digits):
            raise argparse.ArgumentTypeError(f"takes {2 * size} hex digits")
        return bytes.fromhex(digits)

    return parse


def _provider_id(digits: str) -> bytes:
    if not re.fullmatch(rf"(?:[0-9a-fA-F]{{2}}){{32,{_MAX_PROVIDER_ID}}}", digits):
        raise argparse.ArgumentTypeError("takes the provider's id or its SHA-256 in hex: 64 digits or more")
    return bytes.fromhex(digits)


def _add_quote_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--nonce", metavar="HEX", type=hex_argument(32), help="the reports' nonce [a random one with --url]"
    )
    group.add_argument("--collateral", metavar="FILE", help="Intel's collateral in dcap-qvl's JSON")
    group.add_argument("--pccs-url", metavar="URL", help="fetch the collateral from this cache [Intel's own service]")
    group.add_argument("--dev-root", metavar="FILE", help="trust this root instead of Intel's (simulator); allows dev")
    group.add_argument(
        "--allow-tcb-status",
        metavar="STATUS",
        choices=TCB_STATUSES,
        action="append",
        default=[],
        help="allow this status besides UpToDate: " + ", ".join(TCB_STATUSES),
    )


def _add_guest_options(group: "argparse._ArgumentGroup") -> None:
    def several(name: str, parse: Callable[[str], bytes], what: str) -> None:
        help_text = f"{what}; may be given several times"
        group.add_argument(name, metavar="HEX", type=parse, action="append", default=[], help=help_text)

    group.add_argument("--expect-compose-hash", metavar="HEX", type=hex_argument(32), help="SHA-256 of app_compose")
    several("--expect-app-id", hex_argument(APP_ID_BYTES), "the app's id at its KMS, which issues keys by it")
    several("--expect-os-image-hash", hex_argument(32), "an accepted dstack image, in place of the four options below")
    group.add_argument("--expect-mrtd", metavar="HEX", type=hex_argument(48), help="the TD's initial measurement")
    for register, what in enumerate(("its firmware's configuration", "its kernel", "its command line and initrd")):
        name = f"--expect-rtmr{register}"
        group.add_argument(name, metavar="HEX", type=hex_argument(48), help=f"the measurement of {what}")
    several("--expect-key-provider", _provider_id, "an accepted provider of the keys: its id, or the SHA-256 of the id")
    several("--expect-kms-root", hex_argument(ROOT_BYTES), "root key of a KMS that may have issued the signing keys")
    group.add_argument(
        "--require-mr-config-id",
        action="store_true",
        help="require that the host has stated in MRCONFIGID what is to run",
    )
    group.add_argument("--allow-dev", action="store_true", help="allow keys of a development run (DEV=1)")


def _add_gpu_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--gpu",
        choices=[str(demand) for demand in GpuDemand],
        default=str(GpuDemand.REQUIRED),
        help="GPU evidence: required (the default) needs NVIDIA's verdict, so give --nvidia; bound: also requires that"
        " the guest has attested the same GPUs at boot; unverified: only checks the nonce, of evidence that may be"
        " forged; canned: accepts NVIDIA's canned evidence; none: skips the GPUs",
    )
    group.add_argument("--nvidia", action="store_true", help="ask NVIDIA's service for its verdict on the GPUs")
    group.add_argument("--nras-url", metavar="URL", default=NRAS_URL, help="the address of that service [%(default)s]")
    group.add_argument(
        "--nvidia-keys", metavar="FILE", help="NVIDIA's keys that sign verdicts, a JWKS [fetched from that service]"
    )
    group.add_argument(
        "--nvidia-answer",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="saved verdicts of the service, which --save keeps, in place of a query; with --nvidia-keys of that time",
    )
    group.add_argument(
        "--expect-gpu-policy-hash",
        metavar="HEX",
        type=hex_argument(32),
        action="append",
        default=[],
        help="a policy that may have governed the attestation of GPUs at boot; may be given several times",
    )
