"""Computes the registers of a TD that boots a given OS image, without the image itself.

From dstack 0.6 on, `vm_config` carries what the image adds to the registers (`measurement_document`), tied to the
image's hash. Together with the memory's size and the ACPI digests of the event log, that gives MRTD and RTMR0 to RTMR2:
dstack calls this the lite variant. So one value identifies an image, while the registers differ for each configuration
of a virtual machine. `vm_config` is a claim of the host; a false one yields other registers than the quote's.

The content of the ACPI tables is not checked: the guest's kernel prevents their code from accessing its memory. A
guest that was started in the legacy variant requires the check, which takes the image and dstack's own verifier.
"""

import hashlib
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from attest_web.verify.dstack.event_log import Event, extended
from attest_web.verify.dstack.measurement_document import OVMF_PRE_202505, MeasurementDocument
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.quote import TdxQuote
from attest_web.verify.primitives.untrusted_json import JsonObject, as_object, hex_bytes, integer, member, text

HASH_BYTES = 32

_WHAT = "vm_config"
_LITE, _LEGACY = "lite", "legacy"
_ACPI_EVENT_TYPE = 10
_ACPI_PAYLOAD = b"ACPI DATA"
_ACPI_NAMES = ("acpi-loader", "acpi-rsdp", "acpi-tables")
_PAGE = 0x1000
_TWO_GIB = 0x80000000
_FOUR_GIB = 0x100000000
_ENOUGH_MEMORY = 0xB0000000
"""From 2.75 GiB on, and at exactly 2 GiB, QEMU patches the kernel in the same way."""

_MAX_MEMORY = 1 << 52
_MAX_RANGES = 64
_DEFAULT_QEMU = (9, 1, 0)

_EFI_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_IMAGE_SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
_EMPTY_VARIABLES = (
    (_EFI_GLOBAL, "SecureBoot"),
    (_EFI_GLOBAL, "PK"),
    (_EFI_GLOBAL, "KEK"),
    (_IMAGE_SECURITY, "db"),
    (_IMAGE_SECURITY, "dbx"),
)
"""UEFI variables that the firmware measures, in its order; none is set."""

_CONFIGURATION_VOLUME = bytes.fromhex(
    "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"
)
"""Digest of the firmware's configuration volume in dstack's images."""

_BOOT_0000 = bytes.fromhex(
    "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298"
)
"""Digest of the boot variable of firmware before 2025-05."""


@dataclass(frozen=True)
class ExpectedRegisters:
    """The expected MRTD and RTMR0 to RTMR2, 48 bytes each."""

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes]


def check_os_image(quote: TdxQuote, events: Sequence[Event], vm_config: JsonObject, expected: Collection[bytes]) -> str:
    """Check that a TD has booted one of the expected images; return what was found.

    Args:
        quote: The quote.
        events: The event log; only its ACPI digests are read.
        vm_config: The report's `vm_config`, parsed.
        expected: Hashes of the accepted images, 32 bytes each.

    Raises:
        FailedError: It is another image, or the registers are not those of the image.
        NotMadeError: The guest was started in a way for which the hash does not determine the registers.
    """
    os_image_hash = hex_bytes(text(vm_config, "os_image_hash", _WHAT), "os_image_hash of vm_config", HASH_BYTES)
    if os_image_hash not in expected:
        raise FailedError(f"vm_config names the image {os_image_hash.hex()}, which is not the expected one")
    registers = expected_registers(os_image_hash, events, vm_config)
    names = ("MRTD", "RTMR0", "RTMR1", "RTMR2")
    pairs = zip(names, (registers.mrtd, *registers.rtmrs), (quote.mrtd, *quote.rtmrs), strict=False)
    differing = [name for name, gives, quoted in pairs if gives != quoted]
    if differing:
        raise FailedError(f"the image {os_image_hash.hex()} gives another {', '.join(differing)} than the quote has")
    return f"the image {os_image_hash.hex()} gives MRTD and RTMR0 to RTMR2, ACPI tables as they were measured"


def expected_registers(os_image_hash: bytes, events: Sequence[Event], vm_config: JsonObject) -> ExpectedRegisters:
    """The registers of a TD that boots an image.

    Raises:
        FailedError: `vm_config` or the log is malformed, or not of the image.
        NotMadeError: The guest was started in a way for which the hash does not determine the registers.
    """
    variant = vm_config.get("tdx_attestation_variant", _LEGACY)
    if variant != _LITE:
        raise NotMadeError(
            f"the guest was started in the {variant!r} variant, whose ACPI tables have to be checked with the"
            " image: give --expect-mrtd and --expect-rtmr0 to --expect-rtmr2, or ask dstack-verifier"
        )
    if vm_config.get("tdx_measurement") is None:
        raise FailedError("vm_config has no tdx_measurement, which the lite variant needs")
    source = as_object(member(vm_config, "tdx_measurement", _WHAT), "tdx_measurement of vm_config")
    document = MeasurementDocument.of_image(source, os_image_hash)
    if document.ovmf != OVMF_PRE_202505 or vm_config.get("ovmf_variant", document.ovmf) != document.ovmf:
        raise FailedError(f"the firmware's variant is not the one that the image names ({document.ovmf!r})")
    memory = integer(vm_config, "memory_size", _WHAT)
    if not (memory == _TWO_GIB or _ENOUGH_MEMORY <= memory <= _MAX_MEMORY):
        raise NotMadeError(
            f"with {memory} bytes of memory, the image's hash does not determine the registers (it does with 2 GiB, or"
            " 2.75 GiB and more): give --expect-mrtd and --expect-rtmr0 to --expect-rtmr2"
        )
    return ExpectedRegisters(
        mrtd=document.mrtd_two_pass if _adds_pages_in_two_passes(vm_config) else document.mrtd_single_pass,
        rtmrs=(
            extended(_firmware_digests(td_hob_digest(document.td_hob, memory), _acpi_digests(events))),
            extended(_kernel_digests(document.kernel)),
            extended((document.command_line, document.initrd)),
        ),
    )


def td_hob_digest(witness: bytes, memory: int) -> bytes:
    """SHA-384 of the hand-off block (UEFI PI, volume 3, "HOB") that describes a TD's memory to the firmware.

    Args:
        witness: Variable-length integers, seven bits a byte, the lowest first: the page to which the others are
            relative, the page of the block, and a number of ranges that the firmware accepts, each by first page and
            size.
        memory: Bytes of memory.

    Raises:
        FailedError: The witness is malformed.
    """
    numbers = _varints(witness)
    if len(numbers) < 3 or len(numbers) != 3 + 2 * numbers[2] or numbers[2] > _MAX_RANGES:
        raise FailedError("the image's td_hob is malformed")
    base, block, _, *ranges = numbers
    starts = [base + first for first in ranges[::2]]
    accepted = [(start * _PAGE, (start + count) * _PAGE) for start, count in zip(starts, ranges[1::2], strict=True)]
    hob = _resources(accepted, memory)
    end = (base + block) * _PAGE + 56 + len(hob) + 8
    if end >= 1 << 64:
        raise FailedError("the image's td_hob is malformed")
    # EFI_HOB_HANDOFF_INFO_TABLE: type 1, 56 bytes, version 9; of its addresses, only the end of the list is set.
    head = struct.pack("<HHIII4QQ", 1, 56, 0, 9, 0, 0, 0, 0, 0, end)
    return hashlib.sha384(head + hob).digest()


def _resources(accepted: list[tuple[int, int]], memory: int) -> bytes:
    ranges = [(False, 0, memory)]
    for start, end in accepted:
        if start < end:
            ranges = sorted(_accept(ranges, start, end), key=lambda each: each[1])
    *before, (_, last_start, last_end) = ranges
    resources = [(0x00 if is_accepted else 0x07, start, end - start) for is_accepted, start, end in before]
    if memory < _ENOUGH_MEMORY:
        resources.append((0x07, last_start, last_end - last_start))
    else:  # QEMU leaves a hole below 4 GiB
        if last_start < _TWO_GIB:
            resources.append((0x07, last_start, _TWO_GIB - last_start))
        if last_end > _TWO_GIB:
            resources.append((0x07, _FOUR_GIB, last_end - _TWO_GIB))
    if any(start < 0 or length < 0 or start + length >= 1 << 64 for _, start, length in resources):
        raise FailedError("the image's td_hob is malformed")
    # EFI_HOB_RESOURCE_DESCRIPTOR: type 3, 48 bytes, no owner; attributes: present, initialized, tested.
    return b"".join(struct.pack("<HHI16xI I QQ", 3, 48, 0, kind, 7, start, length) for kind, start, length in resources)


def _accept(ranges: list[tuple[bool, int, int]], start: int, end: int) -> list[tuple[bool, int, int]]:
    left: list[tuple[bool, int, int]] = []
    for is_accepted, first, last in ranges:
        if is_accepted or last <= start or first >= end:
            left.append((is_accepted, first, last))
            continue
        if first < start:
            left.append((False, first, start))
        if last > end:
            left.append((False, end, last))
    return [*left, (True, start, end)]


def _varints(data: bytes) -> list[int]:
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise FailedError("the image's td_hob is malformed")
        if not byte & 0x80:
            numbers.append(value)
            value = shift = 0
    if shift:
        raise FailedError("the image's td_hob is malformed")
    return numbers


def _firmware_digests(td_hob: bytes, acpi: Sequence[bytes]) -> list[bytes]:
    variables = [
        guid + struct.pack("<QQ", len(name), 0) + name.encode("utf-16-le")  # UEFI_VARIABLE_DATA without data
        for guid, name in _EMPTY_VARIABLES
    ]
    return [
        td_hob,
        _CONFIGURATION_VOLUME,
        *map(_sha384, variables),
        _sha384(bytes(4)),  # EV_SEPARATOR
        *acpi,
        _sha384(bytes(2)),  # BootOrder: the first boot variable
        _BOOT_0000,
    ]


def _kernel_digests(kernel: bytes) -> list[bytes]:
    return [
        kernel,
        _sha384(b"Calling EFI Application from Boot Option"),
        _sha384(bytes(4)),  # EV_SEPARATOR
        _sha384(b"Exit Boot Services Invocation"),
        _sha384(b"Exit Boot Services Returned with Success"),
    ]


def _acpi_digests(events: Sequence[Event]) -> list[bytes]:
    found = [
        event
        for event in events
        if event.register == 0 and event.event_type == _ACPI_EVENT_TYPE and event.payload == _ACPI_PAYLOAD
    ]
    by_name = {event.name: event.digest for event in found}
    if len(found) != len(_ACPI_NAMES) or set(by_name) != set(_ACPI_NAMES):
        raise FailedError(
            f"RTMR0 has {len(found)} ACPI DATA events in the log; the lite variant takes exactly one each of"
            f" {', '.join(_ACPI_NAMES)}"
        )
    return [by_name[name] for name in _ACPI_NAMES]


def _adds_pages_in_two_passes(vm_config: JsonObject) -> bool:
    # The member's name is inverted: dstack uses true for two passes.
    stated = vm_config.get("qemu_single_pass_add_pages")
    if stated is not None:
        if not isinstance(stated, bool):
            raise FailedError("qemu_single_pass_add_pages of vm_config is neither true nor false")
        return stated
    version = _DEFAULT_QEMU
    if vm_config.get("qemu_version") is not None:
        parts = text(vm_config, "qemu_version", _WHAT).split(".")
        if len(parts) != len(_DEFAULT_QEMU) or not all(part.isascii() and part.isdecimal() for part in parts):
            raise FailedError("qemu_version of vm_config is not of the form 1.2.3")
        version = (int(parts[0][:6]), int(parts[1][:6]), int(parts[2][:6]))
    if version < (8, 0, 0):
        raise FailedError("dstack does not run on a QEMU below 8")
    return version < (9, 0, 0)


def _sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()
